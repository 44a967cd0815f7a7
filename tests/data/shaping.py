"""Shapes of literal rows, for tests."""

import pickle
from collections.abc import Sequence
from typing import Any

import orjson

from tuneline.data.mapping.choose import shape_of
from tuneline.data.mapping.convert import Shape
from tuneline.data.reading.raw_rows import FilePlan, Rejected, Row
from tuneline.data.records.record_form import Record, RecordType


def plan(rows: Sequence[dict[str, Any]], form: str = "jsonl") -> FilePlan:
    names = dict.fromkeys(name for row in rows for name in row)
    usual = tuple(name for name in names if 2 * sum(name in row for row in rows) > len(rows))
    first = tuple(Row(line, 0, row) for line, row in enumerate(rows, 1))
    return FilePlan("a.jsonl", form, "utf-8", usual, first, (), 0)


def shape(*rows: dict[str, Any], types: Sequence[RecordType] | None = None, **columns: str) -> Shape:
    return shape_of(plan(rows), record_types=types, columns=columns)


def result(made: Shape, row: dict[str, Any]) -> Any:
    """The fields, JSON read again, or the reason and the detail; by a shape that has come from another process."""
    sent = pickle.dumps(made)
    assert len(sent) < 1000
    made = pickle.loads(sent)
    found = made.record(Row(1, 0, row))
    if isinstance(found, Rejected):
        return found.reason, found.detail
    assert isinstance(found, Record)
    is_json = made.form.conversational
    return tuple(orjson.loads(value) if is_json and value else value for value in found.values)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
