"""A shape: how the rows of one file become records."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneline.data.mapping.convert import Convert, RowError
from tuneline.data.reading.raw_rows import Rejected, Row, excerpt
from tuneline.data.records.record_form import Record, RecordForm

_SHOWN = 200
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHOWN
_SHORT.maxlevel = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of one file become records; small, and the same in every process."""

    file: str
    """What rows call it."""
    kind: str
    """How the rows were written: alpaca, sharegpt, messages, pair, columns, …"""
    form: RecordForm
    convert: Convert
    columns: tuple[str, ...] = ()
    """Of the file, that the records are made of."""
    group_by: str | None = None
    order_by: str | None = None
    split: str | None = None
    media: tuple[str, ...] = ()
    """Of the file, that hold pictures, sound or films: a row that has one cannot be learnt as text alone."""

    def record(self, row: Row) -> Record | Rejected:
        """One row as a record, or set aside with the reason and the field."""
        line, offset, values = row
        try:
            if self.media:
                _refuse_media(self.media, values)
            fields = self.convert(values)
            group = order = None
            if self.group_by is not None:
                group = _key(values.get(self.group_by), "no-group", self.group_by, "data.split.group_by")
            if self.order_by is not None:
                order = _key(values.get(self.order_by), "order", self.order_by, "data.split.order_by")
        except RowError as error:
            return Rejected(self.file, line, offset, error.reason, error.detail, excerpt(_beginning(values)))
        return Record(self.file, line, offset, fields, group, order, self.split)


def _refuse_media(columns: tuple[str, ...], values: Mapping[str, Any]) -> None:
    for column in columns:
        if values.get(column):
            raise RowError("not-text", f"{column} holds a picture, sound or a film, which cannot be learnt")


def _beginning(values: Mapping[str, Any]) -> str:
    """The beginning of each value; however large or deep it is, little of it is looked at."""
    return " | ".join([value[:_SHOWN] if isinstance(value, str) else _SHORT.repr(value) for value in values.values()])


def _key(value: Any, reason: str, column: str, param: str) -> str:
    """The value of a column that rows are grouped or ordered by."""
    if value is None or isinstance(value, list | dict | bytes) or not (text := str(value)).strip():
        raise RowError(reason, f"{column} is empty, or no single value; {param} needs it")
    return text
