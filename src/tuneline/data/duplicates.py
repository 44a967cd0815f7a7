"""Exact duplicates: which row of those with the same key stays."""

from collections.abc import Sequence


def representatives(keys: Sequence[str], ranks: Sequence[int]) -> list[int]:
    """For every row, the row that stands for all with its key.

    Args:
        keys: of the rows, equal where they are the same.
        ranks: of the rows; the highest stays, of equals the first. Held-out rows rank above training rows: a row that
            is in both must stay where it is not learnt.

    Returns:
        Row -> the row that stays, which is itself where it stays.
    """
    kept: dict[str, int] = {}
    for row, (key, rank) in enumerate(zip(keys, ranks, strict=True)):
        if key not in kept or rank > ranks[kept[key]]:
            kept[key] = row
    return [kept[key] for key in keys]
