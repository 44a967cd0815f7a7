"""JSON texts -> values, of which nothing was lost: no key stands twice, no number was rounded, nothing is too deep.

orjson keeps the last of two equal keys, and makes a float of a whole number beyond 64 bits. Both are found out here, at
its speed: the first by counting, the second by looking at the few floats that are so large.
"""

import json
import re
from typing import Any

import orjson

MAX_DEPTH = 200
"""Of lists and objects in a row; orjson writes up to 254 deep."""

_SPACED = re.compile(rb'"[ \t\r\n]+:')
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*(:)?', re.DOTALL)
_TEXT = frozenset((str,))
# Below it a float is never a whole number beyond 64 bits.
_WIDE = float(1 << 63)


class UnsoundError(ValueError):
    """A JSON text that parses, but not to what it says.

    Args:
        reason: a code, such as `repeated-key`.
        detail: for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def describe_type(value: Any) -> str:
    """What a value is, for a person."""
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
        Its values; None where it is no object, or something about it is wrong.
    """
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(values) is not dict:
        return None
    # Behind every key stands `":`, if no blank is before a colon, and it may stand elsewhere: so there are at most as
    # many keys as that. Where there are as many as in the outermost object, there are no others, and none was lost.
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
    """The value that a JSON text in a field of a row is.

    Args:
        text: without lone surrogates.

    Returns:
        The value; whole numbers of any size are exact.

    Raises:
        ValueError: it is no JSON; as UnsoundError: it is, but a key stands twice or it is too deep.
    """
    data = text.encode()
    return _sound(data, orjson.loads(data), data.count(b'":'), has_spaced_keys(data))


def check(data: bytes) -> None:
    """Find out what is wrong with a JSON text that parses.

    Args:
        data: UTF-8.

    Raises:
        UnsoundError: a key stands twice, or it is too deep.
    """
    _sound(data, orjson.loads(data), 0, True)


def _sound(data: bytes, value: Any, most: int, spaced: bool) -> Any:
    """The parsed value, with whole numbers as they are written; raises UnsoundError where something was lost.

    Args:
        data: the JSON text.
        value: that it was parsed to.
        most: keys that may be in it, where none has a blank before its colon.
        spaced: whether one may have.
    """
    keys, depth, is_wide = _measure(value)
    if depth > MAX_DEPTH:
        raise UnsoundError("too-deep", f"nested more than {MAX_DEPTH} deep")
    # An escaped quote with no backslash before it is in a string, and so is no end of a key.
    is_sure = not spaced and (keys == most or (keys == most - data.count(b'\\":') and b'\\\\":' not in data))
    if not is_sure and keys != _KEY.findall(data).count(b":"):
        raise UnsoundError("repeated-key", f"{_repeated_key(data)!r} stands twice in one object")
    return json.loads(data) if is_wide else value


def _measure(value: Any) -> tuple[int, int, bool]:
    """The number of keys of a JSON value, how deep it is nested, and whether it has a number of 2^63 or more."""
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
