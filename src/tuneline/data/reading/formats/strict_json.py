"""Parsing JSON without loss: a repeated key is an error, and integers of any size are exact.

orjson keeps the last of two equal keys, and returns a float for an integer of more than 64 bits. Both are detected here
at the speed of orjson: the first by counting keys, the second by checking the few floats that are so large.
"""

import json
import re
from typing import Any

import orjson

MAX_DEPTH = 200
"""Levels of lists and objects; orjson writes up to 254."""

_SPACED = re.compile(rb'"[ \t\r\n]+:')
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*(:)?', re.DOTALL)
_TEXT = frozenset((str,))
# A float below it is never an integer of more than 64 bits.
_WIDE = float(1 << 63)


class UnsoundError(ValueError):
    """A JSON text can be parsed, but a part of it would be lost, or it nests too deep.

    Args:
        reason: a code, such as `repeated-key`.
        detail: for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def describe_type(value: Any) -> str:
    """The JSON type of a value, for a person."""
    names = {
        list: "a list",
        str: "text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        dict: "an object",
        bytes: "bytes",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def has_spaced_keys(data: bytes) -> bool:
    """Whether a key may have white space before its colon.

    Args:
        data: one JSON text, or several.
    """
    return _SPACED.search(data) is not None


def load(data: bytes, spaced: bool) -> dict[str, Any] | None:
    """The object of a JSON text; None if the text is not an object, or cannot be parsed without loss.

    Args:
        data: UTF-8.
        spaced: the result of `has_spaced_keys` for this text.
    """
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(values) is not dict:
        return None
    # Every key ends with `":` if no white space is before a colon, so the text has at most that many keys. If the
    # outermost object has as many, then no key was lost, and no inner object has any.
    most = data.count(b'":')
    if most == len(values) and not spaced:
        for value in values.values():
            kind = type(value)
            if kind is list:
                if not _TEXT.issuperset(map(type, value)):
                    break
            elif kind is float and not -_WIDE < value < _WIDE:
                break
        else:
            return values
    try:
        return _sound(data, values, most, spaced)
    except UnsoundError:
        return None


def parse(text: str) -> Any:
    """The value of a JSON text; integers of any size are exact.

    Args:
        text: without lone surrogates.

    Raises:
        UnsoundError: a key occurs twice, or the text nests too deep.
        ValueError: the text is not JSON.
    """
    data = text.encode()
    return _sound(data, orjson.loads(data), data.count(b'":'), has_spaced_keys(data))


def check(data: bytes) -> None:
    """Raise UnsoundError if a key occurs twice in a JSON text, or the text nests too deep.

    Args:
        data: JSON in UTF-8.
    """
    _sound(data, orjson.loads(data), 0, True)


def _sound(data: bytes, value: Any, most: int, spaced: bool) -> Any:
    """The parsed value with exact integers; raises UnsoundError if a key was lost or the nesting is too deep.

    Args:
        data: the JSON text.
        value: the value by orjson.
        most: the number of `":` in the text.
        spaced: whether a key may have white space before its colon.
    """
    keys, depth, is_wide = _measure(value)
    if depth > MAX_DEPTH:
        raise UnsoundError("too-deep", f"nested more than {MAX_DEPTH} deep")
    # An escaped quote without a backslash before it is inside of a string, so it is not the end of a key.
    is_sure = not spaced and (keys == most or (keys == most - data.count(b'\\":') and b'\\\\":' not in data))
    if not is_sure and keys != _KEY.findall(data).count(b":"):
        raise UnsoundError("repeated-key", f"the key {_repeated_key(data)!r} occurs twice in one object")
    return json.loads(data) if is_wide else value


def _measure(value: Any) -> tuple[int, int, bool]:
    """The number of keys in a JSON value, its depth, and whether it has a float of 2^63 or more."""
    keys, depth, is_wide = 0, 0, False
    level = [value] if type(value) is dict or type(value) is list else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                keys += len(item)
                item = item.values()
            for child in item:
                kind = type(child)
                if kind is str:
                    continue
                if kind is dict or kind is list:
                    inner.append(child)
                elif kind is float and not -_WIDE < child < _WIDE:
                    is_wide = True
        level = inner
    return keys, depth, is_wide


def _repeated_key(data: bytes) -> str:
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)

    json.loads(data, object_pairs_hook=check, parse_int=float)
    return repeated[0]
