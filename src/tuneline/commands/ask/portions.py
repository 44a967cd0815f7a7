"""Rows in portions that fit into memory, and what became of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tuneline.commands.ask.answer_files import Format, Table
from tuneline.commands.ask.questions import Asked
from tuneline.errors import DataError

_CHARACTERS_AT_ONCE = 8_000_000
_NAMED = 5


@dataclass
class Account:
    """What became of the rows."""

    rows: int = 0
    unusable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """By the code of the reason."""
    first: list[str] = field(default_factory=list)
    cut: int = 0
    """Texts of which the model did not see all."""

    def count(self, rows: Sequence[Asked]) -> None:
        """Count rows, those that cannot be used by their reason."""
        self.rows += len(rows)
        for row in rows:
            if row.problem:
                self.unusable += 1
                self.reasons[row.problem.partition(":")[0]] += 1
                if len(self.first) < _NAMED:
                    self.first.append(f"{row.source}: {row.problem}")

    def lines(self, table: Table, form: Format, seen: str) -> Iterator[str]:
        """What a person must know of the rows.

        Args:
            table: what was written.
            form: as what.
            seen: what the model does with a text that is too long, in words.
        """
        if self.unusable:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common())
            yield f"warning: {self.unusable:,} of {self.rows:,} rows cannot be used ({counts}); the first:"
            yield from (f"  {line}" for line in self.first)
        if self.cut:
            yield f"warning: {self.cut:,} of {self.rows:,} texts are longer than {seen}"
        if form != "jsonl":
            for name, count in table.unknown.items():
                yield (
                    f"warning: {count:,} rows have a column {name!r} that the first rows do not have; it is left out: "
                    "only JSON lines hold it"
                )

    def check(self) -> None:
        """Refuse to call it a success where nothing could be used.

        Raises:
            DataError: there was no row, or none that can be used.
        """
        if not self.rows:
            raise DataError("there is no row in the input; give at least one")
        if self.unusable == self.rows:
            rows = "the only row cannot" if self.rows == 1 else f"none of the {self.rows:,} rows can"
            raise DataError(f"{rows} be used; mend it, or name another column with --column")


def windows(rows: Iterable[Asked], most: int) -> Iterator[list[Asked]]:
    """The rows in their order, so many at once as memory holds.

    Args:
        rows: all of them.
        most: rows at once.
    """
    window: list[Asked] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += sum(map(len, row.content.values())) if isinstance(row.content, dict) else len(row.content)
        if len(window) >= most or characters >= _CHARACTERS_AT_ONCE:
            yield window
            window, characters = [], 0
    if window:
        yield window
