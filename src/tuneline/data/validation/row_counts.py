"""Counts the rows of a set that can be used, and the rows that cannot, with reasons, while they are read."""

from collections import Counter
from pathlib import Path

from tuneline.data.mapping.choose import file_path
from tuneline.data.mapping.raw_set import RawSet, check_rejected
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import Record
from tuneline.errors import DataError

_NAMED_ROWS = 5
_NAMED_FILES = 20
_COUNTED_LABELS = 100_000


class Tally:
    """Counts of the rows of a set.

    Args:
        raw: the set.
        kept: number of unusable rows that are kept, to name them.
    """

    def __init__(self, raw: RawSet, kept: int) -> None:
        self._raw, self._kept = raw, kept
        self.rows = 0
        """All rows, unusable rows included."""
        self.reasons: Counter[str] = Counter()
        """Reason -> unusable rows."""
        self.first: list[Rejected] = []
        """The first unusable rows."""
        self.labels: Counter[str] = Counter()
        """Label -> usable rows of a classification; of many labels the first."""
        self._usable: set[str] = set()
        self._lost: dict[str, tuple[int, Rejected]] = {}

    def add(self, row: Record | Rejected) -> None:
        """Count the next row."""
        self.rows += 1
        if isinstance(row, Record):
            self._usable.add(row.file)
            form = self._raw.form
            if form.record_type == "classification" and len(self.labels) < _COUNTED_LABELS:
                self.labels.update(label_codec.decode(row.values[1], multi_label=form.multi_label))
            return
        self.reasons[row.reason] += 1
        if len(self.first) < self._kept:
            self.first.append(row)
        count, first = self._lost.get(row.source, (0, row))
        self._lost[row.source] = count + 1, first

    def describe_unusable(self) -> list[str]:
        """A line for each of the first unusable rows, and a line with the number of the others."""
        named = self.first[:_NAMED_ROWS]
        more = self.reasons.total() - len(named)
        return [row.describe() for row in named] + ([f"and {more:,} more"] if more else [])

    def check(self, max_fraction: float) -> None:
        """Raise if too many rows of the set, or all rows of a file, cannot be used.

        Args:
            max_fraction: share of all rows that may be unusable.

        Raises:
            DataError: names the first unusable rows, or the files without a usable row.
        """
        check_rejected(self._raw.path, self.rows, self.reasons.total(), self.reasons, self.first, max_fraction)
        # A document is one row, so a file of one unusable document is not an error by itself.
        lost = [
            (file_path(Path(self._raw.path), plan), *self._lost[plan.name])
            for plan in self._raw.files
            if plan.name in self._lost and plan.name not in self._usable and plan.format != "document"
        ]
        problems = [
            f"{place}: none of its {count:,} rows can be used; the first because of {first.reason}: {first.detail} "
            f"(line {first.line}); repair the rows, or remove the file"
            for place, count, first in lost[:_NAMED_FILES]
        ]
        if len(lost) > _NAMED_FILES:
            problems.append(f"  and {len(lost) - _NAMED_FILES:,} more files")
        if problems:
            raise DataError(*problems)
