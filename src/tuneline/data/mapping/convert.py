"""Convert the values of one row to the fields of its record, for every shape whose fields are plain text.

A converter is a small frozen object that is made once per file and can be pickled. It is called with the values of a
row, and raises RowError if the row does not fit.
"""

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tuneline.data.reading.formats import strict_json
from tuneline.data.reading.formats.strict_json import describe_type
from tuneline.data.reading.raw_rows import Rejected, Row, excerpt
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import Record, RecordForm

_SHOWN = 200
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHOWN
_SHORT.maxlevel = 4

Values = Mapping[str, Any]
"""Column -> value of one row."""

Fields = tuple[str, ...]
"""The fields of one record, in the order of its type."""


class Convert(Protocol):
    """Converts the values of a row to the fields of a record."""

    def __call__(self, values: Values) -> Fields:
        """The fields of the record; raises RowError if the row does not fit."""
        ...


class RowError(Exception):
    """A row that does not fit the shape of its file.

    Args:
        reason: a code, such as `empty`.
        detail: the field and its problem, for messages.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def checked_text(column: str, value: Any) -> str:
    """The value of a column; raises RowError if it is not text, or only white space."""
    if isinstance(value, str):
        if value and not value.isspace():
            return value
        raise RowError("empty", f"{column} is empty")
    if value is None:
        raise RowError("missing", f"{column} is missing")
    raise RowError("not-text", f"{column} is {describe_type(value)}, not text")


def label_text(column: str, value: Any) -> str:
    """A label or a number as JSON writes it; empty for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    raise RowError("not-text", f"{column} is {describe_type(value)}, not text")


def refuse_others(others: frozenset[str], values: Values) -> None:
    """Raise an error if a row has a value that the shape of its file ignores.

    Args:
        others: columns that would change the meaning of the row.
        values: the values of the row.

    Raises:
        RowError: a column of `others` has a value.
    """
    if not others.isdisjoint(values):
        for column in sorted(others.intersection(values)):
            if values[column]:
                raise RowError("shape", f"{column} has a value, but other rows of the file have none")


@dataclass(frozen=True, slots=True)
class Columns:
    """One column per field, unchanged."""

    columns: tuple[str, ...]
    others: frozenset[str] = frozenset()
    """Columns that change the meaning of a row if they have a value."""

    def __call__(self, values: Values) -> Fields:
        """The fields."""
        others = self.others
        if others and not others.isdisjoint(values):
            refuse_others(others, values)
        fields = tuple(map(values.get, self.columns))
        for value in fields:
            if type(value) is not str or not value or value.isspace():
                for column, field in zip(self.columns, fields, strict=True):
                    checked_text(column, field)
        return fields  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class Paths:
    """One path into nested objects per field, as in `translation.en`."""

    paths: tuple[tuple[str, ...], ...]

    def __call__(self, values: Values) -> Fields:
        """The fields."""
        return tuple([checked_text(".".join(path), self._value(path, values)) for path in self.paths])

    def _value(self, path: tuple[str, ...], values: Values) -> Any:
        value: Any = values
        for depth, part in enumerate(path):
            if value is not None and not isinstance(value, dict):
                raise RowError("shape", f"{'.'.join(path[:depth])} is {describe_type(value)}, not an object")
            value = value.get(part) if value else None
        return value


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer and an optional context: the prompt is the context, an empty line and the question."""

    question: str
    answer: str
    context: str

    def __call__(self, values: Values) -> Fields:
        """Prompt and completion."""
        prompt = checked_text(self.question, values.get(self.question))
        context = values.get(self.context)
        if context is not None and context != "":
            prompt = f"{checked_text(self.context, context)}\n\n{prompt}"
        return prompt, self._answer(values.get(self.answer))

    def _answer(self, value: Any) -> str:
        """The text; or the first of several texts, also as in SQuAD: {text: [...], answer_start: [...]}."""
        column = self.answer
        if isinstance(value, dict):
            column, value = f"{column}.text", value.get("text")
        if isinstance(value, list):
            if not value:
                raise RowError("empty-answer", f"{column} has no answer")
            value = value[0]
        return checked_text(column, value)


@dataclass(frozen=True, slots=True)
class Poem:
    """A poem: the title, the author and the lines."""

    title: str
    author: str
    lines: str
    """The column of a list of lines, of a list of stanzas, of either as JSON text, or of text."""
    separator: str
    """The text between two lines if the column is text; empty: a newline."""
    is_text: bool
    """Whether the record is one text; else its prompt is title and author, and its completion the lines."""

    def __call__(self, values: Values) -> Fields:
        """Prompt and completion, or text."""
        head = checked_text(self.title, values.get(self.title))
        author = values.get(self.author)
        if author is not None and author != "":
            head = f"{head}\n{checked_text(self.author, author)}"
        body = checked_text(self.lines, self._body(values.get(self.lines)))
        return (f"{head}\n{body}",) if self.is_text else (head, body)

    def _body(self, value: Any) -> Any:
        if isinstance(value, str) and value[:1] == "[":
            try:
                value = strict_json.parse(value)
            except ValueError:
                return value
        if isinstance(value, list):
            is_stanzas = any(isinstance(stanza, list) for stanza in value)
            parts = [self._part(f"{self.lines}[{index}]", part) for index, part in enumerate(value)]
            return ("\n\n" if is_stanzas else "\n").join(parts)
        if isinstance(value, str) and self.separator and "\n" not in value:
            return "\n".join([line for part in value.split(self.separator) if (line := part.strip())])
        return value

    def _part(self, place: str, part: Any) -> str:
        """A line, or the lines of a stanza, as text."""
        if isinstance(part, list):
            return "\n".join([checked_text(f"{place}[{index}]", line) for index, line in enumerate(part)])
        return checked_text(place, part)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and one label."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """Text and label."""
        text, label = values.get(self.text), values.get(self.label)
        if type(text) is not str or not text or text.isspace():
            text = checked_text(self.text, text)
        if type(label) is not str:
            if isinstance(label, list):
                raise RowError("shape", f"{self.label} is a list; other rows of the file have one label")
            label = label_text(self.label, label)
        if not label or label.isspace():
            raise RowError("no-label", f"{self.label} is empty")
        return text, label


def listed(value: Any) -> Any:
    """The list of labels that a JSON text contains, as in a cell of CSV; any other value unchanged."""
    if isinstance(value, str) and value[:2] in ('["', "[]"):
        try:
            labels = strict_json.parse(value)
        except ValueError:
            return value
        if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
            return labels
    return value


@dataclass(frozen=True, slots=True)
class ManyLabelled:
    """A text and a list of labels, encoded by `label_codec`."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """Text and labels."""
        text = checked_text(self.text, values.get(self.text))
        labels = listed(values.get(self.label))
        if labels is None or labels == []:
            raise RowError("no-label", f"{self.label} is empty")
        if not isinstance(labels, list):
            raise RowError(
                "shape", f"{self.label} is {describe_type(labels)}; other rows of the file have a list of labels"
            )
        names = {label_text(f"{self.label}[{index}]", label) for index, label in enumerate(labels)}
        if any(not name or name.isspace() for name in names):
            raise RowError("no-label", f"{self.label} contains an empty label")
        return text, label_codec.encode(names)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A text and a number, for regression."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """The text and the number, unchanged."""
        text = checked_text(self.text, values.get(self.text))
        value = values.get(self.label)
        number = label_text(self.label, value).strip()
        if not number:
            raise RowError("no-label", f"{self.label} is empty")
        try:
            is_number = math.isfinite(float(number)) and not isinstance(value, bool)
        except ValueError:
            is_number = False
        if not is_number:
            raise RowError("not-a-number", f"{self.label} is {number[:50]!r}, not a number")
        return text, number


@dataclass(frozen=True, slots=True)
class NamedAfter:
    """A text whose label is the name of its file or folder."""

    text: str
    label: str
    """The label itself."""

    def __call__(self, values: Values) -> Fields:
        """Text and label."""
        return checked_text(self.text, values.get(self.text)), self.label


@dataclass(frozen=True, slots=True)
class Unknown:
    """The converter of a file without a readable first row; it rejects every row."""

    def __call__(self, values: Values) -> Fields:
        """Always raises RowError."""
        raise RowError("shape", "no row at the beginning of this file could be read, so its shape is not known")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of one file become records."""

    file: str
    """The name of the file in the records."""
    kind: str
    """The format of the rows: alpaca, sharegpt, messages, pair, columns, …"""
    form: RecordForm
    convert: Convert
    columns: tuple[str, ...] = ()
    """The columns of the file that become fields."""
    group_by: str | None = None
    order_by: str | None = None
    split: str | None = None
    keep: tuple[str, ...] = ()
    """The columns that are kept beside the fields."""
    media: tuple[str, ...] = ()
    """The columns of pictures, sound or films. A row with a value in them is rejected."""

    def record(self, row: Row) -> Record | Rejected:
        """A row as a record, or rejected with the reason."""
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
        kept = tuple([_kept_text(values.get(column)) for column in self.keep])
        return Record(self.file, line, offset, fields, group, order, self.split, kept)


def _kept_text(value: Any) -> str:
    """A value beside the fields as text, which refuses no row: lists and objects as JSON, nothing as an empty text."""
    if value is None or isinstance(value, bytes):
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return label_text("", value) if isinstance(value, str | bool | int | float) else str(value)


def _refuse_media(columns: tuple[str, ...], values: Mapping[str, Any]) -> None:
    for column in columns:
        if values.get(column):
            raise RowError(
                "not-text", f"{column} contains a picture, sound or a film, but models are trained on text only"
            )


def _beginning(values: Mapping[str, Any]) -> str:
    """The beginning of each value; the rest of a large or deep value is not read."""
    return " | ".join([value[:_SHOWN] if isinstance(value, str) else _SHORT.repr(value) for value in values.values()])


def _key(value: Any, reason: str, column: str, param: str) -> str:
    """The value of a column by which rows are grouped or ordered."""
    if value is None or isinstance(value, list | dict | bytes) or not (text := str(value)).strip():
        raise RowError(reason, f"{column} is empty or not a single value, but {param} needs a value")
    return text
