"""JSON lines: an object a line; and what makes any JSON text a row, or a row that is set aside."""

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from tuneline.data.reading import texts
from tuneline.data.reading.rows import Portion, Rejected, Row, excerpt, new_row
from tuneline.data.reading.streams import MAX_ROW_BYTES, Block, Stream, blocks

MAX_DEPTH = 200
"""Of lists and objects in a row; orjson writes up to 254 deep."""

_SPACED = re.compile(rb'"[ \t\r\n]+:')
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*(:)?', re.DOTALL)


def read(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: what is read.
        stream: at its start.
        encoding: of the stream.

    Yields:
        Rows, and what is set aside; blank lines lie between them.
    """
    line = portion.first_line
    is_utf8 = encoding == "utf-8"
    for block in blocks(stream, portion.stop):
        if block.is_cut:
            yield texts.too_long(portion, line, block, encoding)
            line += 1
            continue
        offset = block.offset
        spaced = has_spaced_keys(block.data)
        is_long = block.length > MAX_ROW_BYTES
        for data in block.data.splitlines(keepends=True):
            # Only an object is taken here; whatever is odd about a line is found out below.
            if is_utf8:
                values = None if is_long and len(data) > MAX_ROW_BYTES else load(data, spaced)
                if values is not None:
                    yield new_row(Row, (line, offset, values))
                elif data.strip():
                    yield diagnose(portion, line, offset, data)
            else:
                yield from _in_other_encoding(portion, line, offset, data, encoding)
            offset += len(data)
            line += 1


def _in_other_encoding(
    portion: Portion, line: int, offset: int, data: bytes, encoding: str
) -> Iterator[Row | Rejected]:
    try:
        text = data.decode(encoding).strip()
    except UnicodeDecodeError as error:
        yield texts.wrong_encoding(portion, line, offset, data, error)
        return
    if not text:
        return
    encoded = text.encode()
    values = load(encoded, True) if len(encoded) <= MAX_ROW_BYTES else None
    yield diagnose(portion, line, offset, encoded) if values is None else Row(line, offset, values)


def has_spaced_keys(data: bytes) -> bool:
    """Whether a key in some JSON text may have a blank before its colon.

    Args:
        data: the text, or many.
    """
    return _SPACED.search(data) is not None


def load(data: bytes, spaced: bool) -> dict[str, Any] | None:
    """The object that a JSON text is.

    Args:
        data: UTF-8.
        spaced: False where `has_spaced_keys` has denied it for this text.

    Returns:
        Its values; None where it is no object, or something about it is wrong: `diagnose` says what.
    """
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(values) is not dict or not _is_sound(data, values, spaced):
        return None
    return values


def _is_sound(data: bytes, values: dict[str, Any], spaced: bool) -> bool:
    """Whether no key stands twice and nothing is nested too deep, in a JSON text that parses.

    orjson keeps the last of two equal keys. So the keys in the text are counted: as many as were kept means none twice.
    """
    # Behind every key stands `":`, if no blank is before a colon, and it may stand elsewhere: so there are at most as
    # many keys as that. Where there are as many as in the outermost object, there are no others, and none was lost.
    most = data.count(b'":')
    if most == len(values) and not spaced:
        for value in values.values():
            if type(value) is list and data.count(b"[") > MAX_DEPTH:
                return _measure(values)[1] <= MAX_DEPTH
        return True
    keys, depth = _measure(values)
    if depth > MAX_DEPTH:
        return False
    if not spaced and (keys == most or (keys == most - data.count(b'\\":') and b'\\\\":' not in data)):
        # An escaped quote with no backslash before it is in a string, and so is no end of a key.
        return True
    return keys == _KEY.findall(data).count(b":")


def _measure(value: Any) -> tuple[int, int]:
    """The number of keys of a JSON value, and how deep it is nested."""
    keys, depth = 0, 0
    level = [value] if isinstance(value, dict | list) else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                keys += len(item)
                item = item.values()
            for child in item:
                kind = type(child)
                if kind is dict or kind is list:
                    inner.append(child)
        level = inner
    return keys, depth


def diagnose(portion: Portion, line: int, offset: int, data: bytes) -> Rejected:
    """What is wrong with a JSON text that is no row.

    Args:
        portion: that it is in.
        line: on which it begins.
        offset: of its first byte.
        data: UTF-8, as it should be.

    Returns:
        The row that is set aside.
    """
    if len(data) > MAX_ROW_BYTES:
        return texts.too_long(portion, line, Block(offset, data[:1000], len(data), 0), "utf-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return texts.wrong_encoding(portion, line, offset, data, error)
    if "\0" in text:
        return texts.nul_byte(portion, line, offset, text)
    reason, detail = _problem(data, text)
    return Rejected(portion.name, line, offset, reason, detail, excerpt(text.strip()))


def _problem(data: bytes, text: str) -> tuple[str, str]:
    """The reason code and the detail."""
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _syntax(text, error)
    if _measure(values)[1] > MAX_DEPTH:
        return "too-deep", f"nested more than {MAX_DEPTH} deep"
    if not isinstance(values, dict):
        return "not-an-object", f"a row is an object, here is {kind(values)}"
    return "repeated-key", f"{_repeated_key(text)!r} stands twice in one object"


def _syntax(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    if "surrogate" in str(error):
        return "lone-surrogate", "half a character, such as \\ud800 without its partner"
    if "depth" in str(error):
        return "too-deep", f"nested more than {MAX_DEPTH} deep"

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse, parse_int=float)
    except json.JSONDecodeError as problem:
        return "json", f"{problem.msg} at character {problem.pos}"
    except RecursionError:
        return "too-deep", f"nested more than {MAX_DEPTH} deep"
    except ValueError as constant:
        return "not-finite", f"{constant} is no JSON value"
    return ("not-finite", "a number too large to be one") if "infinity" in str(error) else ("json", str(error))


def _repeated_key(text: str) -> str:
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)

    json.loads(text, object_pairs_hook=check, parse_int=float)
    return repeated[0]


def kind(value: Any) -> str:
    """What a JSON value is, for a person."""
    names = {list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "null")
