"""A set while it is prepared: the keys of its rows, and the decision about each row."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.preparing.first_pass import FirstPass
from tuneline.data.preparing.store import Store
from tuneline.data.reading.guards import damage
from tuneline.data.records.record_form import SPLITS, SplitName
from tuneline.data.secrets import screening

REASONS = (
    "", "duplicate", "near-duplicate", "label-conflict", "held-out", "overlap", "held-out-group", "other-split",
    "pretraining", "spread",
)  # fmt: skip
"""In arrays a reason is its index here. Rows with the first reason stay."""

DECISION = np.dtype([("split", "i1"), ("reason", "i1"), ("set", "i2"), ("share", "f4"), ("other", "i8")])
"""The decision about a row. other: the row of `set` because of which the row is dropped; share: of the other row, which
the row contains."""

_JOB_BYTES = 4_000_000


@dataclass
class PreparedSet:
    """The keys of a set's rows, and the decisions about them."""

    store: Store
    raw: RawSet
    made: list[FirstPass]
    """[portions]"""
    rows: np.ndarray
    """[rows] of ROW."""
    split_numbers: np.ndarray
    """[rows] of their groups, from `splits.split_numbers`."""
    decisions: np.ndarray
    """[rows] of DECISION."""
    near: dict[str, Any] = field(default_factory=dict)
    clusters: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kept(self) -> np.ndarray:
        """Indices of the rows that were not dropped."""
        return np.flatnonzero(self.decisions["reason"] == 0)

    def kept_in(self, *names: SplitName) -> np.ndarray:
        """Return the kept rows of some splits."""
        wanted = np.isin(self.decisions["split"], [SPLITS.index(name) for name in names])
        return np.flatnonzero((self.decisions["reason"] == 0) & wanted)

    def drop(self, rows: np.ndarray, reason: str, **because: np.ndarray) -> None:
        """Drop rows.

        Args:
            rows: indices.
            reason: one of REASONS.
            because: set, other and share of DECISION, [rows] each.
        """
        self.decisions["reason"][rows] = REASONS.index(reason)
        for name, values in because.items():
            self.decisions[name][rows] = values

    def count(self, attribute: str) -> Counter[str]:
        """Return a count of the first pass, added up over all portions."""
        total: Counter[str] = Counter()
        for made in self.made:
            total.update(getattr(made, attribute))
        return total

    def label_names(self) -> dict[int, str]:
        """Return the label of each hash in `rows["answer"]`."""
        return {label_hash: label for made in self.made for label_hash, label in made.labels.items()}

    def dropped(self) -> dict[str, int]:
        """Return reason -> number of dropped rows, rows that could not be read included."""
        counts = self.count("reasons")
        numbers = np.bincount(self.decisions["reason"], minlength=len(REASONS)).tolist()
        counts.update({reason: number for reason, number in zip(REASONS[1:], numbers[1:], strict=True) if number})
        return dict(sorted(counts.items()))

    def report(self) -> dict[str, Any]:
        """Return the counts of the rows that came in, were dropped and went out, as prepare.json has them."""
        dropped, rows_out = self.dropped(), len(self.kept)
        rows_in = sum(made.rows for made in self.made)
        assert rows_in == rows_out + sum(dropped.values()), "a row was lost or counted twice"
        examples = [example for made in self.made for example in made.placeholder_examples]
        return {
            "set": self.store.path,
            "record_type": self.store.form.record_type,
            "files": len(self.raw.files),
            "rows_in": rows_in,
            "changed_by_cleaning": sum(made.changed for made in self.made),
            "dropped": dropped,
            "rows_out": rows_out,
            "near_duplicates": self.near,
            "largest_clusters": self.clusters,
            "secrets": {kind: self.count("secrets")[kind] for kind in screening.KINDS},
            "damaged": self._damaged(),
            "placeholders": {"rows": sum(made.placeholders for made in self.made), "first": examples[:3]},
            "warnings": list(self.raw.warnings),
        }

    def _damaged(self) -> dict[str, dict[str, Any]]:
        """Return for each kind of damage the rows that show it, the repaired rows, and an example."""
        rows, repaired = self.count("damaged"), self.count("repaired")
        examples = {kind: text for made in reversed(self.made) for kind, text in made.damage_examples.items()}
        return {
            kind: {"rows": rows[kind], "repaired": repaired[kind], "first": examples.get(kind, "")}
            for kind in damage.KINDS
            if rows[kind]
        }


def portion_groups(raw: RawSet) -> list[range]:
    """Return the portions of a set in groups, a group per job: a large portion alone, small files together."""
    groups: list[range] = []
    start = stop = 0
    size = 0.0
    for file in raw.files:
        for _ in file.portions:
            size += file.bytes / len(file.portions)
            stop += 1
            if size >= _JOB_BYTES:
                groups.append(range(start, stop))
                start, size = stop, 0.0
    if stop > start:
        groups.append(range(start, stop))
    return groups
