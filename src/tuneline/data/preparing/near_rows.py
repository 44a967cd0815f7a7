"""Finds the rows of one set that are near duplicates of rows of another set, as duplicates within a set are found."""

from collections.abc import Sequence

import numpy as np

from tuneline.data.preparing import duplicates
from tuneline.data.preparing.text import cleaning, grams


def near_rows(rows: Sequence[tuple[str, ...]], others: Sequence[tuple[str, ...]], threshold: float) -> np.ndarray:
    """Which rows are near duplicates of another set's rows.

    Args:
        rows: the texts of each row, as `row_keys.plain_texts` gives them; no row is empty.
        others: the texts of the rows of the other set.
        threshold: Jaccard similarity of near duplicates.

    Returns:
        bool, [rows].
    """
    found = np.zeros(len(rows), bool)
    if not rows or not others:
        return found
    bands = grams.sketch([" ".join(map(cleaning.key, row)) for row in [*rows, *others]]).bands
    everyone = np.arange(bands.shape[1])
    pairs: set[tuple[int, int]] = set()
    for band in bands:
        bucket = duplicates.buckets(band, everyone)
        for start, stop in zip(bucket.starts[:-1].tolist(), bucket.starts[1:].tolist(), strict=True):
            members = bucket.rows[start:stop]
            # Rows are in ascending order, so this set's come first.
            own, other = members[members < len(rows)], members[members >= len(rows)]
            pairs.update((row, one) for row in own.tolist() for one in other[: duplicates.ALL_PAIRS_UP_TO].tolist())
    if pairs:
        compared = np.array(sorted(pairs))
        is_near = duplicates.compare_texts([*rows, *others], compared, threshold)
        found[compared[is_near, 0]] = True
    return found
