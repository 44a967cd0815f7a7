"""JSON files: one array of rows, an object of such arrays (one a split), an object of rows by key, or objects one after
another; and an object that is a table by columns.

The ends of the rows are found by counting brackets outside of strings; each row is then parsed by itself. So a row that
is broken in its values (a key twice, NaN, half a character) is set aside alone, and a file of any size takes little
memory.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from tuneline.data.reading.containers.byte_streams import BLOCK, MAX_ROW_BYTES, RefusedError, Stream, count_lines
from tuneline.data.reading.formats import json_lines, json_tables, strict_json
from tuneline.data.reading.formats.json_heads import COLUMNS, KEYED, SPLIT, TOKEN, is_splits, orientation
from tuneline.data.reading.formats.sniff import HEAD_BYTES
from tuneline.data.reading.raw_rows import Portion, Rejected, Row

PORTION_BYTES = 32_000_000

_MAX_VALUE_BYTES = 32_000_000
_NEXT = re.compile(rb"[^ \t\r\n]")
_SCALAR_END = re.compile(rb"[,\]}\s]")
_REMEDY = "; mend it, or write one row per line with `jq -c '.[]'`"
_REMEDY_OF_OBJECTS = "; mend it, or write one row per line with `jq -c .`"


class Section(NamedTuple):
    """A list of rows in a file, or the file's only one."""

    key: str | None
    """Of the object of splits that it stands under."""
    bounds: tuple[tuple[int, int, int], ...]
    """Of its portions: start, stop and first line."""
    orientation: str = ""
    """Of an object with a table in it, as in `jsonheads`."""


class _Text:
    """A window on a stream that moves on as its bytes are used up."""

    def __init__(self, stream: Stream, stop: int | None = None, line: int = 1) -> None:
        self._stream, self._stop = stream, stop
        self._buffer = b""
        self._base = stream.position
        self._at = 0
        self._step = BLOCK
        self.line = line
        """At the present place."""
        self.remedy = _REMEDY
        """What a person can do about a file of this kind that is broken."""

    @property
    def offset(self) -> int:
        """Of the present place."""
        return self._base + self._at

    def _more(self) -> bool:
        """Read on; what is before the present place is let go."""
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
        """The next sign that is no blank; empty at the end."""
        while (match := _NEXT.search(self._buffer, self._at)) is None:
            self._go_to(len(self._buffer))
            if not self._more():
                return b""
        self._go_to(match.start())
        return match.group()

    def ahead(self, size: int) -> bytes:
        """What follows, up to `size` bytes."""
        while len(self._buffer) - self._at < size and self._more():
            pass
        return self._buffer[self._at : self._at + size]

    def skip(self) -> None:
        """Go on behind the present sign."""
        self._at += 1

    def _go_to(self, at: int) -> None:
        self.line += count_lines(self._buffer[self._at : at])
        self._at = at

    def value(self) -> bytes:
        """The JSON value that begins here, as bytes; the present place is then behind it."""
        end = self._end()
        data = self._buffer[self._at : end]
        self._go_to(end)
        self._step = BLOCK
        return data

    def _end(self) -> int:
        """Where the value that begins here ends, in a buffer that holds all of it."""
        if self._buffer[self._at] not in b'{["':
            while (match := _SCALAR_END.search(self._buffer, self._at)) is None:
                if not self._more():
                    return len(self._buffer)
            return match.start()
        depth, done = 0, 0
        while True:
            # Counted from the value's beginning, which moves when more is read.
            position = self._at + done
            for match in TOKEN.finditer(self._buffer, position):
                start, end = match.span()
                sign = self._buffer[start]
                if sign == 0x22:
                    if end == start + 1:
                        position = start
                        break
                else:
                    depth += 1 if sign in b"{[" else -1
                position = end
                if depth <= 0:
                    return end
            else:
                position = len(self._buffer)
            done = position - self._at
            self._step *= 2
            if not self._more():
                raise RefusedError(f"ends in the middle of a value that begins here{self.remedy}", self.line)


def scan(stream: Stream) -> Iterator[Section]:
    """The lists of rows of a file, which is read to its end.

    Args:
        stream: UTF-8, at its beginning (behind a byte order mark).

    Yields:
        One section, or one for each split.

    Raises:
        RefusedError: it is no JSON, or none with rows.
    """
    text = _Text(stream)
    first = text.peek()
    head = text.ahead(HEAD_BYTES)
    form = orientation(head, len(head) < HEAD_BYTES)
    if form == KEYED:
        yield Section(None, tuple(_portions(_keyed(text))), form)
        _expect_end(text)
    elif form:
        start, line = text.offset, text.line
        text.remedy = json_tables.REMEDY
        _, rows = json_tables.parsed(text.value(), form)
        yield Section(None, ((start, text.offset, line),) if rows else (), form)
        _expect_end(text)
    elif first == b"[":
        text.skip()
        yield Section(None, tuple(_array(text)))
        _expect_end(text)
    elif first == b"{" and is_splits(text.ahead(HEAD_BYTES)):
        yield from _object(text)
        _expect_end(text)
    else:
        yield Section(None, tuple(_portions(_objects(text))))


def _expect_end(text: _Text) -> None:
    if sign := text.peek():
        raise RefusedError(f"goes on with {sign.decode('utf-8', 'replace')!r} behind its end{_REMEDY}", text.line)


def _array(text: _Text) -> Iterator[tuple[int, int, int]]:
    return _portions(_elements(text))


def _elements(text: _Text) -> Iterator[tuple[int, int, int]]:
    """Start, end and line of each value of the array that we are in, which is left behind."""
    if text.peek() == b"]":
        text.skip()
        return
    while True:
        sign = text.peek()
        if not sign or sign in b",]}:":
            raise RefusedError(f"is no JSON: a value is missing here{_REMEDY}", text.line)
        start, line = text.offset, text.line
        text.value()
        yield start, text.offset, line
        sign = text.peek()
        text.skip()
        if sign == b"]":
            return
        if sign != b",":
            what = f"{sign.decode('utf-8', 'replace')!r}" if sign else "the end of the file"
            raise RefusedError(f"is no JSON: {what} stands where a comma or ] should{_REMEDY}", text.line)


def _objects(text: _Text) -> Iterator[tuple[int, int, int]]:
    """Start, end and line of each object of a file that is nothing but objects."""
    text.remedy = _REMEDY_OF_OBJECTS
    while sign := text.peek():
        if sign != b"{":
            raise RefusedError(
                f"is no JSON: {sign.decode('utf-8', 'replace')!r} stands where an object should{text.remedy}", text.line
            )
        start, line = text.offset, text.line
        text.value()
        yield start, text.offset, line


def _keyed(text: _Text) -> Iterator[tuple[int, int, int]]:
    """Start, end and line of each value of the object that begins here."""
    text.skip()
    while True:
        if text.peek() != b'"':
            raise RefusedError(f"is no JSON: a key is missing here{_REMEDY}", text.line)
        text.value()
        if text.peek() != b":":
            raise RefusedError(f"is no JSON: a colon is missing here{_REMEDY}", text.line)
        text.skip()
        if (sign := text.peek()) in (b"", b",", b"]", b"}", b":"):
            raise RefusedError(f"is no JSON: a value is missing here{_REMEDY}", text.line)
        start, line = text.offset, text.line
        text.value()
        yield start, text.offset, line
        sign = text.peek()
        text.skip()
        if sign == b"}":
            return
        if sign != b",":
            raise RefusedError(f"is no JSON: a comma or }} is missing here{_REMEDY}", text.line)


def _portions(values: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    start, stop, first_line = -1, -1, 1
    for begin, end, line in values:
        if start >= 0 and end - start > PORTION_BYTES:
            yield start, stop, first_line
            start = -1
        if start < 0:
            start, first_line = begin, line
        stop = end
    if start >= 0:
        yield start, stop, first_line


def _object(text: _Text) -> Iterator[Section]:
    """The lists of rows under the keys of an object; other values are passed over."""
    text.skip()
    seen: set[str] = set()
    while True:
        if text.peek() != b'"':
            raise RefusedError(f"is no JSON: a key is missing here{_REMEDY}", text.line)
        line = text.line
        key = _text_of(text.value(), line)
        if key in seen:
            raise RefusedError(f"the key {key!r} stands twice; rename one of them", line)
        seen.add(key)
        if text.peek() != b":":
            raise RefusedError(f"is no JSON: a colon is missing here{_REMEDY}", text.line)
        text.skip()
        sign = text.peek()
        if sign == b"[":
            text.skip()
            yield Section(key, tuple(_array(text)))
        elif not sign or sign in b",]}:":
            raise RefusedError(f"is no JSON: a value is missing here{_REMEDY}", text.line)
        else:
            text.value()
        sign = text.peek()
        text.skip()
        if sign == b"}":
            return
        if sign != b",":
            raise RefusedError(f"is no JSON: a comma or }} is missing here{_REMEDY}", text.line)


def _text_of(data: bytes, line: int) -> str:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"is no JSON: {error}{_REMEDY}", line) from None


def read(portion: Portion, stream: Stream) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: what is read.
        stream: UTF-8, at its start.

    Yields:
        Rows; a pair of a text and a label has the columns `text` and `label`.
    """
    text = _Text(stream, portion.stop, portion.first_line)
    if portion.orientation in (COLUMNS, SPLIT):
        if text.peek():
            yield from json_tables.rows(portion, text.value())
        return
    is_keyed = portion.orientation == KEYED
    while sign := text.peek():
        if sign == b",":
            text.skip()
            if is_keyed:
                _skip_key(text)
            continue
        line, offset = text.line, text.offset
        data = text.value()
        values = strict_json.load(data, strict_json.has_spaced_keys(data)) if len(data) <= MAX_ROW_BYTES else None
        if values is None and sign == b"[" and len(data) <= MAX_ROW_BYTES:
            values = _pair(data)
        yield json_lines.diagnose(portion, line, offset, data) if values is None else Row(line, offset, values)


def _skip_key(text: _Text) -> None:
    """Go on behind the key and the colon before a value."""
    if text.peek():
        text.value()
    if text.peek():
        text.skip()


def _pair(data: bytes) -> dict[str, object] | None:
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if len(values) == 2 and isinstance(values[0], str) and isinstance(values[1], str | int):
        return {"text": values[0], "label": values[1]}
    return None
