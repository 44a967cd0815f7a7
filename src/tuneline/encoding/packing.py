"""The rows of a training, planned before the first step, and rows as tensors.

Packed rows consist of several documents, and `position_ids` restart with each document. Without an attention mask and a
cache transformers derives from them that no document sees another. Other rows consist of one document, and a batch has
documents of similar length; a causal model needs no mask for padding on the right.

The complete order is planned first, so that a resumed training sees the same batches.
"""

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tuneline.encoding.examples import IGNORED, Example

_OPEN_ROWS = 64
# Batches whose documents are sorted by length together, if documents are not packed.
_GROUP_BATCHES = 50


def pack(lengths: Sequence[int], width: int, rng: random.Random) -> list[list[int]]:
    """Rows of documents in random order. Each document goes into the row that it leaves with the least room.

    Args:
        lengths: tokens of each document, at most `width`.
        width: tokens of a row.
        rng: decides over the order.

    Returns:
        The indices of the documents of each row; every document once.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    shortest = min(lengths, default=0)
    rows: list[list[int]] = []
    # (room, row) of rows that are not full.
    open_rows: list[tuple[int, list[int]]] = []
    for document in order:
        length = lengths[document]
        fitting = [index for index, (room, _) in enumerate(open_rows) if room >= length]
        if fitting:
            room, row = open_rows.pop(min(fitting, key=lambda index: open_rows[index][0]))
        else:
            room, row = width, []
        row.append(document)
        if room - length >= shortest:
            open_rows.append((room - length, row))
        else:
            rows.append(row)
        if len(open_rows) > _OPEN_ROWS:
            rows.append(open_rows.pop(min(range(len(open_rows)), key=lambda index: open_rows[index][0]))[1])
    rows += [row for _, row in open_rows]
    rng.shuffle(rows)
    return rows


def group_by_length(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Rows of one document each, in random order, with rows of similar length in each batch.

    Args:
        lengths: tokens of each document.
        batch_size: rows per batch.
        rng: decides over the order.

    Returns:
        The index of the document of each row; every document once.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    size = batch_size * _GROUP_BATCHES
    batches = []
    for start in range(0, len(order), size):
        group = sorted(order[start : start + size], key=lambda document: lengths[document])
        batches += [group[at : at + batch_size] for at in range(0, len(group), batch_size)]
    # A smaller batch stays at the end. Elsewhere it would shift the later rows into other batches.
    last = [batches.pop()] if batches and len(batches[-1]) < batch_size else []
    rng.shuffle(batches)
    return [[document] for batch in [*batches, *last] for document in batch]


def plan(
    lengths: Sequence[int],
    *,
    width: int,
    batch_size: int,
    epochs: float,
    seed: int,
    packed: bool,
    limit: float = math.inf,
    of_epoch: Callable[[int], Sequence[int]] | None = None,
) -> list[list[int]]:
    """The rows of a complete training; every epoch has its own order.

    Args:
        lengths: tokens of each document, at most `width`; at least one document.
        width: tokens of a row.
        batch_size: rows per batch.
        epochs: how often each document is seen. The last epoch of 1.5 epochs has half of the rows.
        seed: decides over the orders.
        packed: whether rows consist of several documents.
        limit: the most rows.
        of_epoch: epoch, counted from 0 -> its documents; None: every document once.

    Returns:
        The indices of the documents of each row.
    """
    rows: list[list[int]] = []
    epoch = 0
    while epoch < epochs and len(rows) < limit:
        rng = random.Random(f"{seed}/{epoch}")
        taken = of_epoch(epoch) if of_epoch else range(len(lengths))
        own = [lengths[document] for document in taken]
        epoch_rows = pack(own, width, rng) if packed else group_by_length(own, batch_size, rng)
        part = min(1.0, epochs - epoch)
        rows += [[taken[index] for index in row] for row in epoch_rows[: max(1, round(part * len(epoch_rows)))]]
        epoch += 1
    return rows if len(rows) <= limit else rows[: int(limit)]


class Rows(Dataset[list[Example]]):
    """The documents of each row of a plan."""

    def __init__(self, examples: Sequence[Example], rows: Sequence[Sequence[int]]) -> None:
        self._examples = examples
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> list[Example]:
        return [self._examples[document] for document in self._rows[index]]


def collate(rows: Sequence[Sequence[Example]], pad: int) -> dict[str, Tensor]:
    """Rows of documents as one batch.

    Args:
        rows: the documents of each row.
        pad: the padding token.

    Returns:
        `input_ids`, `position_ids` and `targets`, int64 [rows, longest row], and `tokens`, the number of tokens without
        padding. The target of a position is the token of the next position, or IGNORED if that is not supervised.
    """
    width = max(sum(len(example.input_ids) for example in row) for row in rows)
    ids, positions, targets = [], [], []
    for row in rows:
        row_ids: list[int] = []
        row_positions: list[int] = []
        row_targets: list[int] = []
        for example in row:
            row_ids += example.input_ids
            row_positions += range(len(example.input_ids))
            row_targets += [*example.labels[1:], IGNORED]
        # Padding is a document of its own. Otherwise the last document would continue in it.
        room = width - len(row_ids)
        ids.append(row_ids + [pad] * room)
        positions.append(row_positions + list(range(room)))
        targets.append(row_targets + [IGNORED] * room)
    return {
        "input_ids": torch.tensor(ids),
        "position_ids": torch.tensor(positions),
        "targets": torch.tensor(targets),
        "tokens": torch.tensor(sum(len(example.input_ids) for row in rows for example in row)),
    }
