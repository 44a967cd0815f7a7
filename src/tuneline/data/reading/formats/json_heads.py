"""What the beginning of a JSON text shows: where a value ends, and whether an object is a row or holds a table.

A table is held by an object of lists of rows, one for each split, or in one of three orientations:
`columns`: {"text": {"0": "a", "1": "b"}} or {"text": ["a", "b"]};
`keyed`: {"id-1": {"text": "a"}, "id-2": {"text": "b"}};
`split`: {"columns": ["text"], "index": [0, 1], "data": [["a"], ["b"]]}.
"""

import re
from typing import Any

from tuneline.data.reading.formats import strict_json

KEYED, COLUMNS, SPLIT = "keyed", "columns", "split"

# A string whole, or the beginning of one that ends later; or a bracket.
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)
_SPACE = b" \t\r\n"
# Fields of rows that are lists themselves: an object with one of them is a row, not an object of splits.
_LIST_FIELDS = frozenset(
    (
        *("conversations", "conversation", "messages", "history", "paragraphs", "tools", "chosen", "rejected"),
        *("prompt", "completion", "dialog", "dialogue", "turns", "answers", "functions", "choices", "content"),
    )
)
_SPLIT_HEAD = re.compile(rb'\{\s*"columns"\s*:\s*\[\s*"[^\[\]{}]*\]\s*,\s*"(?:index|data)"\s*:\s*\[')
_FIRST = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*')
_INNER_KEY = re.compile(rb'\{\s*"(\d*)')
_FEWEST_OF_A_KEYED = 2


def orientation(head: bytes, is_whole: bool) -> str:
    """How a file that begins with an object holds a table, or empty where it does not: its objects are rows.

    Args:
        head: its beginning.
        is_whole: whether that is all of it.
    """
    head = head.lstrip(_SPACE)
    if not head.startswith(b"{"):
        return ""
    if _SPLIT_HEAD.match(head):
        return SPLIT
    if is_splits(head):
        return ""
    end = value_end(head, 0)
    if end == 0:
        # An object that is larger than any row.
        return "" if is_whole else _of_beginning(head)
    if head[end:].strip():
        return ""
    try:
        return _of_values(strict_json.parse(head[:end].decode()))
    except ValueError:
        return ""


def _of_beginning(head: bytes) -> str:
    """The orientation by the first value of a large object."""
    first = _FIRST.match(head)
    value = head[first.end() :] if first else b""
    if value.startswith(b"{"):
        key = _INNER_KEY.match(value)
        return COLUMNS if key and key[1] else KEYED
    is_list = value.startswith(b"[") and value[1:].lstrip(_SPACE)[:1] not in (b"{", b"[", b"")
    return COLUMNS if is_list else ""


def _of_values(table: Any) -> str:
    """The orientation of a parsed object."""
    values = list(table.values()) if isinstance(table, dict) else []
    if values and all(isinstance(value, list) for value in values):
        is_even = len({len(value) for value in values}) == 1 and len(values[0]) > 0
        return COLUMNS if is_even and not any(isinstance(cell, dict) for value in values for cell in value) else ""
    if values and all(isinstance(value, dict) and value for value in values):
        keys = [key for value in values for key in value]
        if all(map(str.isdecimal, keys)):
            return COLUMNS
        is_keyed = len(values) >= _FEWEST_OF_A_KEYED and set.intersection(*(set(value) for value in values))
        return KEYED if is_keyed else ""
    return ""


def value_end(data: bytes, start: int) -> int:
    """Where the object, array or string that begins at `start` ends; 0 where that is beyond `data`."""
    depth = 0
    for match in TOKEN.finditer(data, start):
        sign = data[match.start()]
        if sign == 0x22:
            if match.end() == match.start() + 1:
                return 0
        else:
            depth += 1 if sign in b"{[" else -1
        if depth <= 0:
            return match.end()
    return 0


def is_splits(head: bytes) -> bool:
    """Whether an object holds lists of rows under its keys, as in {"train": [{…}, …], "test": […]}, and is no row.

    Args:
        head: the beginning of the object.
    """
    key = re.compile(rb'[\s,{]*"((?:[^"\\]|\\.)*)"\s*:\s*')
    position = 0
    while match := key.match(head, position):
        at = match.end()
        if head[at : at + 1] == b"[" and head[at + 1 :].lstrip(_SPACE)[:1] in (b"{", b"["):
            return match[1].decode("utf-8", "replace").casefold() not in _LIST_FIELDS
        if head[at : at + 1] in (b"{", b"[", b'"'):
            position = value_end(head, at)
            if not position:
                return False
        else:
            scalar = re.compile(rb"[^,}\]\s]*").match(head, at)
            position = scalar.end() if scalar else at
    return False
