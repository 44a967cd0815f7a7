"""JSON files: an array of rows, objects one after another, or one object that holds rows.

An object that holds rows is an object of splits, {"train": [{…}, …], "test": […]}, or a table in one of three
orientations:
`keyed`: {"id-1": {"text": "a"}, "id-2": {"text": "b"}};
`columns`: {"text": {"0": "a", "1": "b"}} or {"text": ["a", "b"]};
`split`: {"columns": ["text"], "index": [0, 1], "data": [["a"], ["b"]]}.

The ends of rows are found by counting brackets outside of strings, and each row is parsed alone. So a row with a
repeated key, NaN or half a character is rejected alone, and a file of any size takes little memory. The orientations
`columns` and `split` are parsed as a whole, because the cells of a row are in several places of the file.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from tuneline.data.reading.containers.byte_streams import (
    BLOCK,
    HEAD_BYTES,
    MAX_ROW_BYTES,
    RefusedError,
    Stream,
    count_lines,
)
from tuneline.data.reading.formats import json_lines, strict_json
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt, group_rows

KEYED, COLUMNS, SPLIT = "keyed", "columns", "split"

_MAX_VALUE_BYTES = 32_000_000
# A complete string, a bracket, or the quote of a string that ends later.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_SCALAR_END = re.compile(rb"[,\]}\s]")
_SPACE = b" \t\r\n"
# Fields of rows that are lists themselves: an object with one of them is a row, not an object of splits.
_LIST_FIELDS = frozenset(
    (
        *("conversations", "conversation", "messages", "history", "paragraphs", "tools", "chosen", "rejected"),
        *("prompt", "completion", "dialog", "dialogue", "turns", "answers", "functions", "choices", "content"),
    )
)
_SPLIT_HEAD = re.compile(rb'\{\s*"columns"\s*:\s*\[\s*"[^\[\]{}]*\]\s*,\s*"(?:index|data)"\s*:\s*\[')
_FIRST_KEY = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*')
_KEY = re.compile(rb'[\s,{]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_INNER_KEY = re.compile(rb'\{\s*"(\d*)')
_FEWEST_KEYED_ROWS = 2

_REMEDY = "; correct it, or write one row per line with `jq -c '.[]'`"
_REMEDY_OF_OBJECTS = "; correct it, or write one row per line with `jq -c .`"
_REMEDY_OF_TABLES = (
    "; write one row per line with `python -c \"import pandas; pandas.read_json('FILE').to_json('FILE.jsonl', "
    "orient='records', lines=True, force_ascii=False)\"`"
)


def table_orientation(head: bytes, is_whole: bool) -> str:
    """The orientation of the table in a file that starts with an object; empty if its objects are rows.

    Args:
        head: the first bytes of the file.
        is_whole: whether they are the whole file.
    """
    head = head.lstrip(_SPACE)
    if not head.startswith(b"{"):
        return ""
    if _SPLIT_HEAD.match(head):
        return SPLIT
    if is_object_of_splits(head):
        return ""
    end = find_value_end(head, 0)
    if end == 0:
        # The object is larger than any row.
        return "" if is_whole else _orientation_by_first_value(head)
    if head[end:].strip():
        return ""
    try:
        return _orientation_by_values(strict_json.parse(head[:end].decode()))
    except ValueError:
        return ""


def _orientation_by_first_value(head: bytes) -> str:
    first = _FIRST_KEY.match(head)
    value = head[first.end() :] if first else b""
    if value.startswith(b"{"):
        key = _INNER_KEY.match(value)
        return COLUMNS if key and key[1] else KEYED
    is_list = value.startswith(b"[") and value[1:].lstrip(_SPACE)[:1] not in (b"{", b"[", b"")
    return COLUMNS if is_list else ""


def _orientation_by_values(table: Any) -> str:
    values = list(table.values()) if isinstance(table, dict) else []
    if values and all(isinstance(value, list) for value in values):
        is_even = len({len(value) for value in values}) == 1 and len(values[0]) > 0
        return COLUMNS if is_even and not any(isinstance(cell, dict) for value in values for cell in value) else ""
    if values and all(isinstance(value, dict) and value for value in values):
        keys = [key for value in values for key in value]
        if all(map(str.isdecimal, keys)):
            return COLUMNS
        is_keyed = len(values) >= _FEWEST_KEYED_ROWS and set.intersection(*(set(value) for value in values))
        return KEYED if is_keyed else ""
    return ""


def find_value_end(data: bytes, start: int) -> int:
    """The offset after the object, array or string that starts at `start`; 0 if `data` ends before it does."""
    depth = 0
    for match in _TOKEN.finditer(data, start):
        char = data[match.start()]
        if char == 0x22:
            if match.end() == match.start() + 1:
                return 0
        else:
            depth += 1 if char in b"{[" else -1
        if depth <= 0:
            return match.end()
    return 0


def is_object_of_splits(head: bytes) -> bool:
    """Whether an object holds lists of rows, as in {"train": [{…}, …], "test": […]}, and is not a row.

    Args:
        head: the first bytes of the object.
    """
    position = 0
    while match := _KEY.match(head, position):
        at = match.end()
        if head[at : at + 1] == b"[" and head[at + 1 :].lstrip(_SPACE)[:1] in (b"{", b"["):
            return match[1].decode("utf-8", "replace").casefold() not in _LIST_FIELDS
        if head[at : at + 1] in (b"{", b"[", b'"'):
            position = find_value_end(head, at)
            if not position:
                return False
        else:
            end = _SCALAR_END.search(head, at)
            position = end.start() if end else len(head)
    return False


class Section(NamedTuple):
    """A list of rows in a file."""

    key: str | None
    """The key of the list in an object of splits; None if the file has one list."""
    bounds: tuple[tuple[int, int, int], ...]
    """Start, stop and first line of each portion."""
    orientation: str = ""
    """Of a table in an object: KEYED, COLUMNS or SPLIT."""


class _Cursor:
    """A position in a stream, and a buffer of the bytes after it."""

    def __init__(self, stream: Stream, stop: int | None = None, line: int = 1) -> None:
        self._stream, self._stop = stream, stop
        self._buffer = b""
        self._base = stream.position
        self._at = 0
        self._step = BLOCK
        self.line = line
        """Of the position."""
        self.remedy = _REMEDY
        """The end of the messages about broken JSON."""

    @property
    def offset(self) -> int:
        """Of the position, in the stream."""
        return self._base + self._at

    def _read_more(self) -> bool:
        """Read on, and drop what is before the position; returns whether there was more."""
        if len(self._buffer) - self._at > _MAX_VALUE_BYTES:
            raise RefusedError(f"holds one value of more than {_MAX_VALUE_BYTES:,} bytes{self.remedy}", self.line)
        wanted = self._step
        if self._stop is not None:
            wanted = min(wanted, self._stop - self._stream.position)
        data = self._stream.read(wanted) if wanted > 0 else b""
        self._buffer = self._buffer[self._at :] + data
        self._base += self._at
        self._at = 0
        return bool(data)

    def peek(self) -> bytes:
        """Go to the next byte that is not white space, and return it; empty at the end."""
        while (match := _NOT_SPACE.search(self._buffer, self._at)) is None:
            self._go_to(len(self._buffer))
            if not self._read_more():
                return b""
        self._go_to(match.start())
        return match.group()

    def look_ahead(self, size: int) -> bytes:
        """The next bytes, up to `size`."""
        while len(self._buffer) - self._at < size and self._read_more():
            pass
        return self._buffer[self._at : self._at + size]

    def skip(self) -> None:
        """Go on by one byte."""
        self._at += 1

    def _go_to(self, at: int) -> None:
        self.line += count_lines(self._buffer[self._at : at])
        self._at = at

    def read_value(self) -> bytes:
        """The JSON value that starts at the position, as bytes; the position is then after it."""
        end = self._value_end()
        data = self._buffer[self._at : end]
        self._go_to(end)
        self._step = BLOCK
        return data

    def _value_end(self) -> int:
        """The end of the value that starts at the position, in the buffer, which then has all of the value."""
        if self._buffer[self._at] not in b'{["':
            while (match := _SCALAR_END.search(self._buffer, self._at)) is None:
                if not self._read_more():
                    return len(self._buffer)
            return match.start()
        depth, done = 0, 0
        while True:
            # Relative to the start of the value, because reading more moves it in the buffer.
            position = self._at + done
            for match in _TOKEN.finditer(self._buffer, position):
                start, end = match.span()
                char = self._buffer[start]
                if char == 0x22:
                    if end == start + 1:
                        position = start
                        break
                else:
                    depth += 1 if char in b"{[" else -1
                position = end
                if depth <= 0:
                    return end
            else:
                position = len(self._buffer)
            done = position - self._at
            self._step *= 2
            if not self._read_more():
                raise RefusedError(f"ends in the middle of the value that starts here{self.remedy}", self.line)

    def unexpected(self, expected: str) -> RefusedError:
        """The error of a file in which something else is at the position."""
        char = self.peek()
        found = repr(char.decode("utf-8", "replace")) if char else "the end of the file"
        return RefusedError(f"is not JSON: expected {expected}, found {found}{self.remedy}", self.line)

    def expect_value(self) -> None:
        """Raise RefusedError unless a value starts at the position."""
        char = self.peek()
        if not char or char in b",]}:":
            raise self.unexpected("a value")

    def has_next(self, close: bytes) -> bool:
        """Go past the comma after a value, or past the bracket that closes its list; returns whether it is a comma."""
        char = self.peek()
        if char not in (b",", close):
            raise self.unexpected(f"a comma or {close.decode()}")
        self.skip()
        return char == b","


def scan(stream: Stream) -> Iterator[Section]:
    """The lists of rows of a file, which is read to its end.

    Args:
        stream: UTF-8, at its start (after a byte order mark).

    Yields:
        One section, or one for each split.

    Raises:
        RefusedError: the file is not JSON, or a table in it is not a table.
    """
    cursor = _Cursor(stream)
    first = cursor.peek()
    head = cursor.look_ahead(HEAD_BYTES)
    orientation = table_orientation(head, len(head) < HEAD_BYTES)
    if orientation == KEYED:
        yield Section(None, tuple(group_rows(_span(cursor) for _ in _members(cursor))), orientation)
    elif orientation:
        start, line = cursor.offset, cursor.line
        cursor.remedy = _REMEDY_OF_TABLES
        _, rows = _parse_table(cursor.read_value(), orientation)
        yield Section(None, ((start, cursor.offset, line),) if rows else (), orientation)
    elif first == b"[":
        yield Section(None, tuple(group_rows(_elements(cursor))))
    elif first == b"{" and is_object_of_splits(head):
        yield from _splits(cursor)
    else:
        yield Section(None, tuple(group_rows(_objects(cursor))))
    if char := cursor.peek():
        raise RefusedError(f"has {char.decode('utf-8', 'replace')!r} after its end{_REMEDY}", cursor.line)


def _span(cursor: _Cursor) -> tuple[int, int, int]:
    """Start, end and line of the value at the cursor, which is then after it."""
    start, line = cursor.offset, cursor.line
    cursor.read_value()
    return start, cursor.offset, line


def _elements(cursor: _Cursor) -> Iterator[tuple[int, int, int]]:
    """Start, end and line of each value of the array at the cursor, which is then after it."""
    cursor.skip()
    if cursor.peek() == b"]":
        cursor.skip()
        return
    while True:
        cursor.expect_value()
        yield _span(cursor)
        if not cursor.has_next(b"]"):
            return


def _objects(cursor: _Cursor) -> Iterator[tuple[int, int, int]]:
    """Start, end and line of each object of a file of objects one after another."""
    cursor.remedy = _REMEDY_OF_OBJECTS
    while char := cursor.peek():
        if char != b"{":
            raise cursor.unexpected("an object")
        yield _span(cursor)


def _members(cursor: _Cursor) -> Iterator[tuple[bytes, int]]:
    """The key of each member of the object at the cursor, and its line; the caller reads the value at the cursor."""
    cursor.skip()
    while True:
        if cursor.peek() != b'"':
            raise cursor.unexpected("a key")
        line = cursor.line
        key = cursor.read_value()
        if cursor.peek() != b":":
            raise cursor.unexpected("a colon")
        cursor.skip()
        cursor.expect_value()
        yield key, line
        if not cursor.has_next(b"}"):
            return


def _splits(cursor: _Cursor) -> Iterator[Section]:
    """The lists of rows in the object at the cursor; other values are skipped."""
    seen: set[str] = set()
    for data, line in _members(cursor):
        try:
            key = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise RefusedError(f"is not JSON: {error}{_REMEDY}", line) from None
        if key in seen:
            raise RefusedError(f"the key {key!r} occurs twice; rename one of them", line)
        seen.add(key)
        if cursor.peek() == b"[":
            yield Section(key, tuple(group_rows(_elements(cursor))))
        else:
            cursor.read_value()


def read(portion: Portion, stream: Stream) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: the portion to read.
        stream: UTF-8, at the start of the portion.

    Yields:
        Rows and rejected rows; a pair of a text and a label has the columns `text` and `label`.
    """
    cursor = _Cursor(stream, portion.stop, portion.first_line)
    if portion.orientation in (COLUMNS, SPLIT):
        if cursor.peek():
            yield from _table_rows(portion, cursor.read_value())
        return
    while char := cursor.peek():
        if char == b",":
            cursor.skip()
            if portion.orientation == KEYED:
                _skip_key(cursor)
            continue
        line, offset = cursor.line, cursor.offset
        data = cursor.read_value()
        values = strict_json.load(data, strict_json.has_spaced_keys(data)) if len(data) <= MAX_ROW_BYTES else None
        if values is None and char == b"[" and len(data) <= MAX_ROW_BYTES:
            values = _pair(data)
        yield json_lines.reject(portion, line, offset, data) if values is None else Row(line, offset, values)


def _skip_key(cursor: _Cursor) -> None:
    """Go past a key and its colon, or to the end of a file that was cut since it was scanned."""
    if cursor.peek():
        cursor.read_value()
    if cursor.peek():
        cursor.skip()


def _pair(data: bytes) -> dict[str, object] | None:
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if len(values) == 2 and isinstance(values[0], str) and isinstance(values[1], str | int):
        return {"text": values[0], "label": values[1]}
    return None


def _table_rows(portion: Portion, data: bytes) -> Iterator[Row | Rejected]:
    """The rows of a table that is parsed as a whole, numbered from 1."""
    names, cells = _parse_table(data, portion.orientation)
    for number, row in enumerate(cells, 1):
        size = sum(len(cell.encode("utf-8", "surrogatepass")) for cell in row if isinstance(cell, str))
        if size > MAX_ROW_BYTES:
            text = excerpt(next(cell for cell in row if isinstance(cell, str)))
            yield Rejected(portion.name, number, -1, "too-long", f"{size:,} bytes in one row", text)
        else:
            yield Row(number, -1, dict(zip(names, row, strict=True)))


def _parse_table(data: bytes, orientation: str) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns, and the cells of each row in that order.

    Args:
        data: the JSON text of the table.
        orientation: COLUMNS or SPLIT.

    Raises:
        RefusedError: the text is not JSON, or not a table.
    """
    try:
        table = strict_json.parse(data.decode())
    except strict_json.UnsoundError as error:
        raise RefusedError(f"{error.detail}; correct it") from None
    except ValueError as error:
        raise RefusedError(f"is not JSON: {error}; correct it") from None
    found = _parse_split(table) if orientation == SPLIT else _parse_columns(table)
    if found is None:
        raise RefusedError(
            f"is one JSON object of columns, but the columns do not have the same rows{_REMEDY_OF_TABLES}"
        )
    return found


def _parse_split(table: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    names, rows = table.get("columns"), table.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(name, str) for name in names):
        return None
    is_table = all(isinstance(row, list) and len(row) == len(names) for row in rows)
    return (names, rows) if is_table and len(set(names)) == len(names) else None


def _parse_columns(table: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    names, columns = list(table), list(table.values())
    if all(isinstance(column, list) for column in columns):
        is_table = len(set(map(len, columns))) == 1
        return (names, [list(row) for row in zip(*columns, strict=True)]) if is_table else None
    if not all(isinstance(column, dict) for column in columns):
        return None
    keys = list(columns[0])
    if any(column.keys() != columns[0].keys() for column in columns):
        return None
    return names, [[column[key] for column in columns] for key in keys]
