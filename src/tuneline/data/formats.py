"""The bytes of one file -> its rows: JSON lines, CSV and TSV, plain text with a row a line.

A row that is broken is set aside, alone; what makes the rows around it doubtful refuses the whole file.
"""

import csv
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from tuneline.data.rows import RawFile, Row
from tuneline.errors import DataError

MAX_ROW_BYTES = 1_000_000
"""A longer row is a broken file more often than a row."""

_KEY = re.compile(rb'"\s*:')
_SURROGATE = re.compile("[\ud800-\udfff]")
_GUESSES = ("utf-8", "gb18030", "big5", "shift_jis", "euc_kr", "cp1252")


class _Content:
    """The bytes of a file, to be taken line by line."""

    def __init__(self, content: bytes, start: int, encoding: str) -> None:
        self._content, self._start, self._encoding = content, start, encoding

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        r"""Number, offset and bytes of every line: \n, \r\n and \r end a line, U+2028 does not."""
        offset = self._start
        for number, line in enumerate(self._content[self._start :].splitlines(keepends=True), 1):
            yield number, offset, line
            offset += len(line)

    def decode(self, line: bytes) -> tuple[str, str]:
        """The text, and what is wrong with it where something is."""
        try:
            return line.decode(self._encoding), ""
        except UnicodeDecodeError as error:
            return line.decode(self._encoding, "backslashreplace"), self._wrong_byte(line[error.start], error.start)

    def escaped(self, line: bytes) -> str:
        """The text, with half characters for the bytes that are none."""
        return line.decode(self._encoding, "surrogateescape")

    def wrong_byte(self, text: str) -> str:
        """What is wrong with an escaped text; empty where nothing is."""
        found = None if text.isascii() else _SURROGATE.search(text)
        return self._wrong_byte(ord(found.group()) - 0xDC00, found.start()) if found else ""

    def _wrong_byte(self, byte: int, position: int) -> str:
        return f"0x{byte:02x} at {position} is no {self._encoding}{self._hint}"

    @cached_property
    def _hint(self) -> str:
        for guess in _GUESSES:
            try:
                self._content.decode(guess)
            except UnicodeDecodeError:
                continue
            return f"; the file can be read as {guess}: if that is right, set data.encoding to it"
        return ""


def read_jsonl(name: str, content: bytes, start: int, encoding: str) -> RawFile:
    """JSON lines: an object a line.

    Args:
        name: what rows call the file.
        content: its bytes.
        start: where they begin, after a byte order mark.
        encoding: by Python's name.

    Returns:
        The rows, and those set aside.
    """
    file = RawFile(name, "jsonl", [])
    columns: dict[str, None] = {}
    whole = _Content(content, start, encoding)
    for number, offset, line in whole.lines():
        data = line.strip()
        if not data:
            continue
        text, problem = whole.decode(data)
        if len(data) > MAX_ROW_BYTES:
            file.reject(number, offset, "too-long", f"{len(data):,} bytes in one row", text)
            continue
        if problem:
            file.reject(number, offset, "encoding", problem, text)
            continue
        data = text.encode()
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            file.reject(number, offset, *_diagnose(text, error), text)
            continue
        if not isinstance(values, dict):
            file.reject(number, offset, "not-an-object", f"a row is an object, here is {kind(values)}", text)
            continue
        # Every key is followed by a colon, so as many keys as colons after quotes means that none came twice.
        if len(_KEY.findall(data)) != _count_keys(values) and (key := _repeated_key(text)) is not None:
            file.reject(number, offset, "repeated-key", f"{key!r} stands twice in one object", text)
            continue
        columns.update(dict.fromkeys(values))
        file.rows.append(Row(number, offset, values))
    file.columns = list(columns)
    return file


def kind(value: Any) -> str:
    """What a JSON value is, for a person."""
    names = {list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "null")


def _diagnose(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    """The reason code and the detail of a row that orjson refuses."""
    if "surrogate" in str(error):
        return "lone-surrogate", "half a character, such as \\ud800 without its partner"
    if "depth" in str(error):
        return "too-deep", "nested more than 1,024 deep"

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as problem:
        return "json", f"{problem.msg} at character {problem.pos}"
    except RecursionError:
        return "too-deep", "nested too deep"
    except ValueError as constant:
        return "not-finite", f"{constant} is no JSON value"
    return ("not-finite", "a number too large to be one") if "infinity" in str(error) else ("json", str(error))


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_count_keys, value))
    return 0


def _repeated_key(text: str) -> str | None:
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)

    json.loads(text, object_pairs_hook=check)
    return repeated[0] if repeated else None


def read_text(name: str, content: bytes, start: int, encoding: str) -> RawFile:
    """Plain text: a row a line, blank lines between them.

    Args:
        name: what rows call the file.
        content: its bytes.
        start: where they begin, after a byte order mark.
        encoding: by Python's name.

    Returns:
        The rows, with one column `text`, and those set aside.
    """
    file = RawFile(name, "text", ["text"])
    whole = _Content(content, start, encoding)
    for number, offset, line in whole.lines():
        data = line.rstrip(b"\r\n")
        if not data.strip():
            continue
        text, problem = whole.decode(data)
        if len(data) > MAX_ROW_BYTES:
            file.reject(number, offset, "too-long", f"{len(data):,} bytes in one row", text)
        elif problem:
            file.reject(number, offset, "encoding", problem, text)
        else:
            file.rows.append(Row(number, offset, {"text": text}))
    return file


def read_csv(path: Path, name: str, content: bytes, start: int, encoding: str) -> RawFile:
    """CSV or TSV with a header; cells stay text: "NA", "null" and "00123" are what they say.

    Args:
        path: of the file, for errors.
        name: what rows call it.
        content: its bytes.
        start: where they begin, after a byte order mark.
        encoding: by Python's name.

    Returns:
        The rows, and those set aside.

    Raises:
        DataError: a column stands twice, or a quote swallows lines.
    """
    places: list[tuple[int, int]] = []
    whole = _Content(content, start, encoding)

    def lines() -> Iterator[str]:
        for number, offset, line in whole.lines():
            places.append((number, offset))
            yield whole.escaped(line)

    form = "tsv" if path.suffix.lower() == ".tsv" else "csv"
    first_line = whole.escaped(next((line for *_, line in whole.lines()), b""))
    delimiter = "\t" if form == "tsv" else max(",;\t|", key=first_line.count)
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    file = RawFile(name, form, [])
    while True:
        read = len(places)
        cells, problem = [], ""
        try:
            cells = next(reader)
        except StopIteration:
            return file
        except csv.Error as error:
            problem = str(error)
        if not cells and not problem:
            continue
        line, offset = places[min(read, len(places) - 1)]
        if not file.columns and not problem:
            file.columns = _header(path, cells)
            continue
        text = delimiter.join(cells)
        if not problem and len(cells) != len(file.columns):
            problem = f"{len(cells)} cells under {len(file.columns)} columns"
        if problem and (not file.columns or len(places) - read > 1):
            # The lines that a stray quote swallowed are rows that nobody would count.
            raise DataError(
                f"{path}:{line}: {problem}, from line {line} to {places[-1][0]}; a quote that opens there is not "
                "closed, or not doubled"
            )
        if problem:
            file.reject(line, offset, "csv", problem, text)
        elif wrong := whole.wrong_byte(text):
            file.reject(line, offset, "encoding", wrong, text)
        else:
            file.rows.append(Row(line, offset, dict(zip(file.columns, cells, strict=True))))


def _header(path: Path, cells: list[str]) -> list[str]:
    doubled = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubled:
        raise DataError(f"{path}:1: the column {', '.join(map(repr, doubled))} stands twice; rename one of them")
    return cells
