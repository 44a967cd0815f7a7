"""Raw files, their portions and their rows, and the rows that are set aside, each with its place in its file."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

_EXCERPT = 200


class Row(NamedTuple):
    """A row as it stands in its file."""

    line: int
    """1-based line on which it starts."""
    offset: int
    """Of its first byte in the unpacked file; of UTF-16 and UTF-32, in the same text as UTF-8; in a table -1."""
    values: dict[str, Any]
    """Column -> value."""


new_row = tuple.__new__
"""`new_row(Row, (line, offset, values))` is `Row(line, offset, values)` at twice the speed, for millions of rows."""


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


def excerpt(text: str) -> str:
    """The beginning of a row, short enough for a report."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


@dataclass(frozen=True)
class Options:
    """How the files of a set are read."""

    encoding: str = "utf-8"
    """By Python's name; a byte order mark wins over it."""
    layout: Literal["rows", "documents"] = "rows"
    """Plain text: one row per line, or one document per file."""
    param: str = "data.encoding"
    """The param that says the encoding, for remedies; empty where only an option does."""
    exclude: tuple[str, ...] = ()
    """Files that are left out: a name or a pattern as in `*.md`, or a path from the folder of the set."""


@dataclass(frozen=True)
class Portion:
    """A part of one file that any process can read by itself; its bounds depend on the file alone."""

    path: str
    """Of the file on disk."""
    name: str
    """What rows call it: relative to the set, with forward slashes; of an archive's member `archive.zip/member.csv`."""
    format: str
    """jsonl, json, csv, tsv, text, document, parquet or arrow."""
    encoding: str
    containers: tuple[str, ...]
    """From the outside to the inside: gzip, zstd, `zip:MEMBER`, `tar:MEMBER`."""
    start: int
    """Of the first byte, in the unpacked file; of parquet and arrow, the first row."""
    stop: int | None
    """After the last byte (or row); None: to the end."""
    first_line: int
    """1-based number of the first line (or row)."""
    columns: tuple[str, ...] = ()
    """The header of a CSV file."""
    delimiter: str = ""
    """Of a CSV file."""
    orientation: str = ""
    """Of a JSON file that is one object with a table in it: keyed, columns or split."""


@dataclass(frozen=True)
class FilePlan:
    """What one file is, and how it is read; or why it is refused."""

    name: str
    format: str
    """Empty where it was not found out."""
    encoding: str
    columns: tuple[str, ...]
    """That most of its first rows have."""
    first_rows: tuple[Row, ...]
    """Up to 1,000 rows from the beginning, to recognise its shape by."""
    portions: tuple[Portion, ...]
    bytes: int
    """Unpacked."""
    split: str | None = None
    """train, validation or test where the file's name, or its key in an object of splits, says so."""
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    """Why it is not read, and the remedy; empty where it is."""
    excluded: str = ""
    """The pattern by which it is left out; empty where it is not."""
