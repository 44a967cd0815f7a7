"""The types of this package: plans of files, their portions, their rows, and the rows that are rejected."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

PORTION_BYTES = 32_000_000
"""About the size of a portion, unpacked."""
_EXCERPT = 200


class Row(NamedTuple):
    """A row as it is in its file."""

    line: int
    """The line on which it starts, from 1; in a table, the number of the row."""
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
        """The source and the reason, for a person."""
        return f"{self.source}:{self.line}: {self.reason}: {self.detail}"


@dataclass(frozen=True)
class Options:
    """How the files of a set are read."""

    encoding: str = "utf-8"
    """By Python's name; a byte order mark in the file has precedence."""
    layout: Literal["rows", "documents"] = "rows"
    """Plain text: one row per line, or one document per file."""
    param: str = "data.encoding"
    """The param that sets the encoding, for remedies; empty if only a command-line option sets it."""
    exclude: tuple[str, ...] = ()
    """Files that are left out: a name, a pattern such as `*.md`, or a path relative to the set."""
    likely: tuple[str, ...] = ()
    """Encodings of other files of the project: they are tried first when a file is not in `encoding`."""


@dataclass(frozen=True)
class Portion:
    """A part of one file that any process can read alone; its bounds depend on the file only."""

    path: str
    """Of the file on disk."""
    name: str
    """The source of its rows: relative to the set, with forward slashes; of a member of an archive
    `archive.zip/member.csv`."""
    format: str
    """jsonl, json, csv, tsv, text, document, parquet or arrow."""
    encoding: str
    containers: tuple[str, ...]
    """From the outermost to the innermost: gzip, zstd, `zip:MEMBER`, `tar:MEMBER`."""
    start: int
    """Offset of the first byte in the unpacked file; in parquet and arrow, the number of rows before it."""
    stop: int | None
    """Offset after the last byte (or row); None: to the end."""
    first_line: int
    """Number of the first line (or row), from 1."""
    columns: tuple[str, ...] = ()
    """The header of a CSV file, or the columns of a table that are read."""
    delimiter: str = ""
    """Of a CSV file."""
    orientation: str = ""
    """Of a JSON file that is one object with a table in it: keyed, columns or split."""


@dataclass(frozen=True)
class FilePlan:
    """What one file is and how it is read; or why it is refused."""

    name: str
    format: str = ""
    """Empty if it is not known."""
    encoding: str = ""
    columns: tuple[str, ...] = ()
    """The columns that most of its first rows have."""
    first_rows: tuple[Row, ...] = ()
    """Up to 1,000 rows from the beginning, by which its shape is recognised."""
    portions: tuple[Portion, ...] = ()
    bytes: int = 0
    """Unpacked."""
    split: str | None = None
    """train, validation or test, if the name of the file or its key in an object of splits names one."""
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    """Why the file is not read, and the remedy; empty if it is read."""
    excluded: str = ""
    """The pattern that leaves the file out; empty if none does."""


def excerpt(text: str) -> str:
    """The beginning of a row, short enough for a report."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


def reject_too_long(portion: Portion, line: int, offset: int, length: int, start: bytes, encoding: str) -> Rejected:
    """A rejected row of `length` bytes, of which only the `start` is kept."""
    text = start[:1000].decode(encoding, "replace")
    return Rejected(portion.name, line, offset, "too-long", f"{length:,} bytes in one row", excerpt(text))


def reject_encoding(portion: Portion, line: int, offset: int, data: bytes, error: UnicodeDecodeError) -> Rejected:
    """A rejected row that is not in the encoding of its file."""
    detail = f"0x{data[error.start]:02x} at byte {error.start} is not {portion.encoding}"
    text = data[:1000].decode(error.encoding, "backslashreplace")
    return Rejected(portion.name, line, offset, "encoding", detail, excerpt(text))


def reject_zero_byte(portion: Portion, line: int, offset: int, text: str) -> Rejected:
    """A rejected row that contains a zero byte."""
    detail = f"a zero byte at character {text.index(chr(0))}"
    return Rejected(portion.name, line, offset, "nul-byte", detail, excerpt(text.replace("\0", "\\0")))


def group_rows(rows: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """The bounds of the portions of a file.

    Args:
        rows: start, stop and line of each row.

    Yields:
        Start, stop and first line of each portion of about PORTION_BYTES.
    """
    start, stop, first_line = -1, -1, 1
    for row_start, row_stop, line in rows:
        if start >= 0 and row_stop - start > PORTION_BYTES:
            yield start, stop, first_line
            start = -1
        if start < 0:
            start, first_line = row_start, line
        stop = row_stop
    if start >= 0:
        yield start, stop, first_line
