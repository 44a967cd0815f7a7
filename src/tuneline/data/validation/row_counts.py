"""How many rows of a set can be used, how many not and why, counted while they stream by."""

from collections import Counter
from pathlib import Path

from tuneline.data.mapping.raw_set import RawSet, check_rejected
from tuneline.data.mapping.shape_choice import place_of
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records.record_form import Record
from tuneline.errors import DataError

_NAMED_FILES = 20


class Tally:
    """The rows of one set.

    Args:
        raw: the set.
        kept: rows set aside that are kept, to be named.
    """

    def __init__(self, raw: RawSet, kept: int) -> None:
        self._raw, self._kept = raw, kept
        self.rows = 0
        """All rows, those set aside too."""
        self.reasons: Counter[str] = Counter()
        """Reason -> rows set aside."""
        self.first: list[Rejected] = []
        """The first rows set aside."""
        self._usable: set[str] = set()
        self._lost: dict[str, tuple[int, Rejected]] = {}

    def add(self, row: Record | Rejected) -> None:
        """Count the next row."""
        self.rows += 1
        if isinstance(row, Record):
            self._usable.add(row.file)
            return
        self.reasons[row.reason] += 1
        if len(self.first) < self._kept:
            self.first.append(row)
        count, first = self._lost.get(row.source, (0, row))
        self._lost[row.source] = count + 1, first

    def check(self, max_fraction: float) -> None:
        """Stop where too many rows were set aside, or all of a file.

        Args:
            max_fraction: share of all rows that may be set aside.

        Raises:
            DataError: more were; with the first of them, or with the files.
        """
        check_rejected(self._raw.path, self.rows, self.reasons.total(), self.reasons, self.first, max_fraction)
        # A document is a row: of those a share may be lost, as of any rows.
        lost = [
            (place_of(Path(self._raw.path), plan), *self._lost[plan.name])
            for plan in self._raw.files
            if plan.name in self._lost and plan.name not in self._usable and plan.format != "document"
        ]
        problems = [
            f"{place}: none of its {count:,} rows can be used, the first for {first.reason}: {first.detail} (line "
            f"{first.line}); mend them, or take the file away"
            for place, count, first in lost[:_NAMED_FILES]
        ]
        if len(lost) > _NAMED_FILES:
            problems.append(f"  and {len(lost) - _NAMED_FILES:,} more files")
        if problems:
            raise DataError(*problems)
