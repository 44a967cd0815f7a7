"""Find exact and near duplicates among the first rows of a set, by the same rules as `prepare`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneline.data.preparing import duplicates
from tuneline.data.preparing.text import cleaning, grams
from tuneline.data.preparing.text.row_keys import KeyMaker, equal_keys
from tuneline.data.reading.guards import damage
from tuneline.data.records.record_form import Record, RecordForm

ROWS, CHARACTERS = 300_000, 60_000_000
"""The largest number of rows and of characters that are compared: they are kept in memory."""

_EXAMPLES = 3


class Repeated:
    """Compares the first rows of a set.

    Args:
        form: the form of the records.
        near: the Jaccard similarity of near duplicates; None: only exact duplicates are found.
    """

    def __init__(self, form: RecordForm, near: float | None) -> None:
        self._make_keys = KeyMaker(form, near=near is not None)
        self._near = near
        self._with_label = form.labelled
        self._rows: list[np.ndarray] = []
        self._bands: list[np.ndarray] = []
        self._texts: list[tuple[str, ...]] = []
        self._sources: list[str] = []
        self._characters = 0
        self.is_full = False
        """Whether further rows are ignored."""

    def add(
        self, records: Sequence[Record], values: Sequence[tuple[str, ...]], texts: Sequence[tuple[str, ...]]
    ) -> None:
        """Add rows.

        Args:
            records: the rows.
            values: the cleaned fields of each row.
            texts: the texts of each row that are compared, from `plain_texts`.
        """
        if self.is_full:
            return
        columns = [cleaning.keys(column) for column in zip(*texts, strict=True)]
        kept = [
            row
            for row in range(len(records))
            if all(column[row] and not damage.is_blank(column[row]) for column in columns)
        ]
        if len(kept) < len(records):
            columns = [[column[row] for row in kept] for column in columns]
        if not kept:
            return
        keyed = self._make_keys(
            [records[row] for row in kept], [values[row] for row in kept], columns, [0.0] * len(kept)
        )
        self._rows.append(keyed.rows)
        self._bands.append(keyed.bands)
        self._texts += [texts[row] for row in kept]
        self._sources += [records[row].source for row in kept]
        self._characters += int(keyed.rows["characters"].sum())
        self.is_full = len(self._texts) >= ROWS or self._characters >= CHARACTERS

    def as_json(self) -> dict[str, Any]:
        """The number of exact and near duplicates of earlier rows, with the first examples, as JSON."""
        count = len(self._texts)
        exact = np.arange(count)
        clusters = np.arange(count)
        if count:
            rows = np.concatenate(self._rows)
            exact = _firsts(equal_keys(rows))
            unique = np.flatnonzero(exact == np.arange(count))
            if self._near is not None:
                bands = np.concatenate(self._bands, axis=1)
                buckets = (duplicates.buckets(bands[band][unique], unique) for band in range(grams.BANDS))
                clusters = duplicates.cluster_rows(count, buckets, lambda pairs: self._compare(rows, pairs)).of_rows
        repeated = np.flatnonzero(exact != np.arange(count))
        near = np.flatnonzero((clusters != np.arange(count)) & (exact == np.arange(count)))
        return {
            "rows": count,
            "threshold": self._near,
            "exact": len(repeated),
            "near": len(near),
            "exact_examples": self._examples(repeated, exact),
            "near_examples": self._examples(near, clusters),
        }

    def _compare(self, rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        answers, characters = rows["answer"], rows["characters"]
        assert self._near is not None
        wanted = np.ones(len(pairs), bool)
        if self._with_label:
            wanted = answers[pairs[:, 0]] == answers[pairs[:, 1]]
        found = [np.zeros(0, bool)]
        for chunk in duplicates.bounded_chunks(pairs[wanted], characters):
            chosen, places = np.unique(chunk, return_inverse=True)
            texts = [self._texts[row] for row in chosen.tolist()]
            found.append(duplicates.compare_texts(texts, places.reshape(-1, 2), self._near))
        wanted[wanted] = np.concatenate(found)
        return wanted

    def _examples(self, rows: np.ndarray, originals: np.ndarray) -> list[dict[str, str]]:
        return [
            {"row": self._sources[row], "of": self._sources[int(originals[row])]} for row in rows[:_EXAMPLES].tolist()
        ]


def _firsts(keys: Sequence[np.ndarray]) -> np.ndarray:
    """int64, for every row the first row with the same key."""
    rows = np.arange(len(keys[0]))
    nothing = np.zeros(len(rows), np.int8)
    return duplicates.representatives(keys, duplicates.Preference(nothing, nothing, rows))
