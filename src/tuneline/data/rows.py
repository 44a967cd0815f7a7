"""Raw rows and the rows that are set aside, each with its place in its file."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

_EXCERPT = 200


class Row(NamedTuple):
    """A row as it stands in its file."""

    line: int
    """1-based line on which it starts."""
    offset: int
    """Of its first byte in the file."""
    values: dict[str, Any]
    """Column -> value."""


class Rejected(NamedTuple):
    """A row that is set aside."""

    source: str
    """The file, relative to the set."""
    line: int
    offset: int
    reason: str
    """A code, such as `json` or `repeated-key`."""
    detail: str
    row: str
    """The beginning of the row."""

    def describe(self) -> str:
        """The place and the reason, for a person."""
        return f"{self.source}:{self.line}: {self.reason}: {self.detail}"


@dataclass
class RawFile:
    """The rows of one file."""

    name: str
    """Relative to the set, with forward slashes."""
    format: str
    """jsonl, csv, tsv or text."""
    columns: list[str]
    """In the order of their first occurrence."""
    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, line: int, offset: int, reason: str, detail: str, row: str) -> None:
        """Set a row aside."""
        self.rejected.append(Rejected(self.name, line, offset, reason, detail, excerpt(row)))


def excerpt(text: str) -> str:
    """The beginning of a row, short enough for a report."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
