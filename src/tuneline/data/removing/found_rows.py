"""Which rows of a raw set are meant: those with a value in a column, or with exactly these values."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import xxhash

from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import FilePlan, Options, Row

_SPACE = " \t\r\n"


class Meaning(Protocol):
    """Says which rows are meant."""

    def means(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is meant."""
        ...

    def means_text(self, text: str) -> bool:
        """Whether a row of plain text is meant."""
        ...


@dataclass(frozen=True)
class Selection:
    """The rows to find. A row is meant if one of these says so."""

    values: tuple[tuple[str, str], ...] = ()
    """Columns with the value that a row must have there, as text."""
    digests: frozenset[str] = frozenset()
    """Digests of all values of a row."""
    texts: tuple[tuple[str, ...], ...] = ()
    """Texts that a row of plain text must all contain."""

    def means(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is meant."""
        if any(column in row and as_text(row[column]) == value for column, value in self.values):
            return True
        return bool(self.digests) and digest(row) in self.digests

    def means_text(self, text: str) -> bool:
        """Whether a row of plain text is meant."""
        return any(all(part in text for part in parts) for parts in self.texts)


@dataclass(frozen=True)
class FoundRows:
    """The rows of one file."""

    plan: FilePlan
    starts: tuple[int, ...]
    """The offset of every row, in the order of the file."""
    meant: tuple[int, ...]
    """The numbers of the rows that are meant, from 0."""
    lines: tuple[int, ...]
    """Their lines."""
    rows: tuple[dict[str, Any], ...]
    """Their values."""


def as_text(value: Any) -> str:
    """A value as a person writes it on the command line: 42 and 42.0 are `42`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip(_SPACE)


def digest(row: Mapping[str, Any]) -> str:
    """The digest of all values of a row, whatever the order of its columns."""
    found = orjson.dumps(dict(row), option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return xxhash.xxh3_128_hexdigest(found)


def find(path: Path, options: Options, selection: Meaning, *, is_text: bool = False) -> list[FoundRows]:
    """The files of a set that hold rows which are meant.

    Args:
        path: of the set.
        options: how its files are read.
        selection: the rows.
        is_text: whether the set holds plain text whose rows were made from the rows of another set.

    Raises:
        DataError: the set cannot be read.
    """
    return [found for plan in readers.plan(path, options) if (found := _in_file(plan, selection, is_text)).meant]


def columns(path: Path, options: Options) -> set[str]:
    """The columns that the files of a set have."""
    return {column for plan in readers.plan(path, options) for row in plan.first_rows for column in row.values}


def rows(path: Path, options: Options) -> Iterator[tuple[FilePlan, Row]]:
    """Every usable row of a set with the plan of its file."""
    for plan in readers.plan(path, options):
        for portion in plan.portions:
            with closing(readers.rows(portion)) as opened:
                for row in opened:
                    if isinstance(row, Row):
                        yield plan, row


def _in_file(plan: FilePlan, selection: Meaning, is_text: bool) -> FoundRows:
    starts: list[int] = []
    meant: list[int] = []
    lines: list[int] = []
    values: list[dict[str, Any]] = []
    for portion in plan.portions:
        with closing(readers.rows(portion)) as opened:
            for row in opened:
                number = len(starts)
                starts.append(row.offset)
                if not isinstance(row, Row):
                    continue
                text = row.values.get("text") if is_text else None
                if selection.means(row.values) or (isinstance(text, str) and selection.means_text(text)):
                    meant.append(number)
                    lines.append(row.line)
                    values.append(row.values)
    return FoundRows(plan, tuple(starts), tuple(meant), tuple(lines), tuple(values))


def texts_of(value: Any) -> list[str]:
    """Every text in the values of a row, however deep."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    parts: Sequence[Any] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts_of(part)]
