"""Documents are planned into rows, and rows become tensors."""

import random

import pytest
import torch

from tuneline.encoding.examples import IGNORED, Example
from tuneline.encoding.packing import collate, group_by_length, pack, plan


def test_pack_puts_every_document_into_one_row() -> None:
    lengths = [random.Random(1).randint(1, 30) for _ in range(500)]
    rows = pack(lengths, 32, random.Random(0))
    assert sorted(document for row in rows for document in row) == list(range(500))
    assert all(sum(lengths[document] for document in row) <= 32 for row in rows)


def test_packed_rows_are_nearly_full() -> None:
    generator = random.Random(1)
    lengths = [generator.randint(5, 120) for _ in range(2000)]
    rows = pack(lengths, 256, random.Random(0))
    assert sum(lengths) / (256 * len(rows)) > 0.97


def test_the_seed_decides_over_the_rows_and_every_epoch_has_its_own() -> None:
    lengths = list(range(1, 21))
    once, again = (plan(lengths, width=32, batch_size=4, epochs=2, seed=3, packed=True) for _ in range(2))
    other = plan(lengths, width=32, batch_size=4, epochs=2, seed=4, packed=True)
    first_epoch = plan(lengths, width=32, batch_size=4, epochs=1, seed=3, packed=True)
    assert once == again != other
    assert once[: len(first_epoch)] == first_epoch
    assert sorted(document for row in once for document in row) == sorted(list(range(20)) * 2)
    assert once[len(first_epoch) :] != first_epoch


@pytest.mark.parametrize(("epochs", "limit", "rows"), [(1.0, 1000, 10), (0.5, 1000, 5), (1.5, 1000, 15), (9.0, 12, 12)])
def test_the_number_of_rows_follows_epochs_and_limit(epochs: float, limit: int, rows: int) -> None:
    planned = plan([8] * 10, width=8, batch_size=2, epochs=epochs, seed=0, packed=True, limit=limit)
    assert len(planned) == rows


def test_grouped_documents_of_a_batch_have_similar_lengths() -> None:
    generator = random.Random(1)
    lengths = [generator.randint(5, 120) for _ in range(800)]
    rows = group_by_length(lengths, 8, random.Random(0))
    assert sorted(document for (document,) in rows) == list(range(800))
    batches = [[lengths[document] for (document,) in rows[start : start + 8]] for start in range(0, 800, 8)]
    assert sum(map(sum, batches)) / sum(8 * max(batch) for batch in batches) > 0.95


def test_collate_gives_these_tensors() -> None:
    first, second = Example([5, 6, 7], [IGNORED, IGNORED, 7]), Example([8, 9], [IGNORED, 9])
    batch = collate([[first, second], [second]], pad=1)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [8, 9, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch["targets"].tolist() == [
        [IGNORED, 7, IGNORED, 9, IGNORED],
        [9, IGNORED, IGNORED, IGNORED, IGNORED],
    ]
    assert batch["tokens"] == torch.tensor(7)
