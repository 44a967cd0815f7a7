"""Which documents stand in which row of which batch, for the whole of a training, and rows as tensors.

Packed: rows of whole documents side by side, `position_ids` restarting with each. Without an attention mask and without
a cache transformers derives from them that no document sees another. Not packed: a document a row, rows of similar
length together; a causal model needs no mask for what is padded on the right.

The order is laid down before the first step, so that a training that goes on after a kill sees the same batches.
"""

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tuneline.encoding.examples import IGNORED, Example

_OPEN_ROWS = 64
# Batches among which documents are ordered by length, when they are not packed.
_GROUP_BATCHES = 50


def pack(lengths: Sequence[int], width: int, rng: random.Random) -> list[list[int]]:
    """Shuffle documents into rows: each goes where it leaves the least room.

    Args:
        lengths: tokens of each document, none more than `width`.
        width: tokens in a row.
        rng: where the order comes from.

    Returns:
        Rows of document numbers, in random order; every document once.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    shortest = min(lengths, default=0)
    rows: list[list[int]] = []
    # Rows by the room that is left in them: a short list, because a full row leaves it.
    still_open: list[tuple[int, list[int]]] = []
    for document in order:
        length = lengths[document]
        fitting = [place for place, (room, _) in enumerate(still_open) if room >= length]
        if fitting:
            room, row = still_open.pop(min(fitting, key=lambda place: still_open[place][0]))
        else:
            room, row = width, []
        row.append(document)
        if room - length >= shortest:
            still_open.append((room - length, row))
        else:
            rows.append(row)
        if len(still_open) > _OPEN_ROWS:
            rows.append(still_open.pop(min(range(len(still_open)), key=lambda place: still_open[place][0]))[1])
    rows += [row for _, row in still_open]
    rng.shuffle(rows)
    return rows


def group_by_length(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Shuffle documents into rows of one, so that the rows of a batch are of similar length.

    Args:
        lengths: tokens of each document.
        batch_size: rows in a batch.
        rng: where the order comes from.

    Returns:
        Rows of one document number each; every document once.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    size = batch_size * _GROUP_BATCHES
    batches = []
    for start in range(0, len(order), size):
        group = sorted(order[start : start + size], key=lambda document: lengths[document])
        batches += [group[at : at + batch_size] for at in range(0, len(group), batch_size)]
    # A smaller batch, if there is one, stays at the end, or every later batch would mix the lengths of two.
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
    """The rows of a whole training, epoch after epoch, each in an order of its own.

    Args:
        lengths: tokens of each document, none more than `width`; at least one.
        width: tokens in a row.
        batch_size: rows in a batch.
        epochs: how often each document is seen; of a broken number the last epoch is a part.
        seed: where the orders come from.
        packed: several documents a row, or one.
        limit: rows at most.
        of_epoch: the documents that an epoch takes, by its number from 0; None: each takes every document once.

    Returns:
        Rows of document numbers.
    """
    rows: list[list[int]] = []
    epoch = 0
    while epoch < epochs and len(rows) < limit:
        rng = random.Random(f"{seed}/{epoch}")
        taken = of_epoch(epoch) if of_epoch else range(len(lengths))
        own = [lengths[document] for document in taken]
        made = pack(own, width, rng) if packed else group_by_length(own, batch_size, rng)
        part = min(1.0, epochs - epoch)
        rows += [[taken[place] for place in row] for row in made[: max(1, round(part * len(made)))]]
        epoch += 1
    return rows if len(rows) <= limit else rows[: int(limit)]


class Rows(Dataset[list[Example]]):
    """The rows of a plan as the documents that stand in them."""

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
        pad: the token that fills a row up; it is never learnt.

    Returns:
        `input_ids`, `position_ids` and `targets`, [rows, longest row] each, and `tokens`, how many are real. A target
        is the token that the *next* position holds, IGNORED where it is not learnt.
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
        # What fills the row up is a document of its own, or the last one would go on in it.
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
