"""A set while it is prepared: its rows in numbers, and what becomes of each."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.preparing import first_pass
from tuneline.data.preparing.store import Catalogue
from tuneline.data.reading.guards import damage
from tuneline.data.records.record_form import SPLITS, SplitName
from tuneline.data.secrets import screening

REASONS = (
    "", "duplicate", "near-duplicate", "label-conflict", "held-out", "overlap", "held-out-group", "other-split",
    "pretraining", "spread",
)  # fmt: skip
"""In arrays a reason is its index here; the first one: the row stays."""

DECISION = np.dtype([("split", "i1"), ("reason", "i1"), ("set", "i2"), ("share", "f4"), ("other", "i8")])
"""What becomes of a row. other: the row of `set` that is the reason; share: of that row, that it holds."""

_HANDED_OUT = 4_000_000
"""Bytes."""


@dataclass
class Prepared:
    """The rows of a set in numbers, and what becomes of them."""

    catalogue: Catalogue
    raw: RawSet
    made: list[first_pass.Made]
    rows: np.ndarray
    split_numbers: np.ndarray
    """[rows] of their groups, from `splits.split_numbers`."""
    decisions: np.ndarray
    near: dict[str, Any] = field(default_factory=dict)
    clusters: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stays(self) -> np.ndarray:
        """Indices of the rows that are still in."""
        return np.flatnonzero(self.decisions["reason"] == 0)

    def of(self, *names: SplitName) -> np.ndarray:
        """Of these, the rows of some splits."""
        wanted = np.isin(self.decisions["split"], [SPLITS.index(name) for name in names])
        return np.flatnonzero((self.decisions["reason"] == 0) & wanted)

    def drop(self, rows: np.ndarray, reason: str) -> None:
        """Take rows out."""
        self.decisions["reason"][rows] = REASONS.index(reason)

    def count(self, attribute: str) -> Counter[str]:
        """One of the counts of the first pass, over all portions."""
        total: Counter[str] = Counter()
        for one in self.made:
            total.update(getattr(one, attribute))
        return total

    def label_names(self) -> dict[int, str]:
        """Return the label of each hash in `rows["answer"]`."""
        return {label_hash: label for made in self.made for label_hash, label in made.labels.items()}

    def account(self) -> dict[str, Any]:
        """Where every row went."""
        reasons = self.count("reasons")
        numbers = np.bincount(self.decisions["reason"], minlength=len(REASONS)).tolist()
        reasons.update({reason: number for reason, number in zip(REASONS[1:], numbers[1:], strict=True) if number})
        rows_in = sum(one.rows for one in self.made)
        assert rows_in == numbers[0] + sum(reasons.values()), "a row was lost or counted twice"
        examples = [example for one in self.made for example in one.placeholder_examples]
        return {
            "set": self.catalogue.path,
            "record_type": self.catalogue.form.record_type,
            "files": len(self.raw.files),
            "rows_in": rows_in,
            "changed_by_cleaning": sum(one.changed for one in self.made),
            "dropped": dict(sorted(reasons.items())),
            "rows_out": numbers[0],
            "near_duplicates": self.near,
            "largest_clusters": self.clusters,
            "secrets": {kind: self.count("secrets")[kind] for kind in screening.KINDS},
            "damaged": self._damaged(),
            "placeholders": {"rows": sum(one.placeholders for one in self.made), "first": examples[:3]},
            "warnings": list(self.raw.warnings),
        }

    def _damaged(self) -> dict[str, dict[str, Any]]:
        """Of each kind of damage that was found: rows that show it, rows that were repaired, and an example."""
        rows, repaired = self.count("damaged"), self.count("repaired")
        examples = {kind: text for one in reversed(self.made) for kind, text in one.damage_examples.items()}
        return {
            kind: {"rows": rows[kind], "repaired": repaired[kind], "first": examples.get(kind, "")}
            for kind in damage.KINDS
            if rows[kind]
        }


def together(one: RawSet) -> list[range]:
    """Portions that are handed out together: a large one alone, small files until they hold some megabytes."""
    groups: list[range] = []
    start = stop = 0
    size = 0.0
    for file in one.files:
        for _ in file.portions:
            size += file.bytes / len(file.portions)
            stop += 1
            if size >= _HANDED_OUT:
                groups.append(range(start, stop))
                start, size = stop, 0.0
    if stop > start:
        groups.append(range(start, stop))
    return groups
