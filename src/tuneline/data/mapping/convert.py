"""The values of one row -> the fields of its record, for every shape whose fields are plain text.

Each shape is a small frozen object that is called with a row's values: it travels to any process, and holds what was
found out once for the whole file. A row that does not fit raises RowError, and no other row is touched by it.
"""

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
    """What makes the fields of a record from the values of a row."""

    def __call__(self, values: Values) -> Fields:
        """The fields; raises RowError where the row does not fit."""
        ...


class RowError(Exception):
    """A row that does not fit the shape of its file.

    Args:
        reason: a code, such as `empty`.
        detail: the field and what is wrong with it, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def text_of(column: str, value: Any) -> str:
    """The value of a column where it is text that is not blank; raises RowError where not."""
    if isinstance(value, str):
        if value and not value.isspace():
            return value
        raise RowError("empty", f"{column} is empty")
    if value is None:
        raise RowError("missing", f"{column} is missing")
    raise RowError("not-text", f"{column} is {describe_type(value)}, not text")


def written(column: str, value: Any) -> str:
    """A label or a number as it is written in JSON; empty where there is none."""
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
    """Raise where a row has a part that the other rows of its file have not.

    Args:
        others: columns that would change the meaning of the row.
        values: of the row.

    Raises:
        RowError: one of them is filled.
    """
    if not others.isdisjoint(values):
        for column in sorted(others.intersection(values)):
            if values[column]:
                raise RowError("shape", f"{column} is filled, which other rows of the file do not have")


@dataclass(frozen=True, slots=True)
class Columns:
    """A column for each field, as written."""

    columns: tuple[str, ...]
    others: frozenset[str] = frozenset()
    """Columns that change the meaning of a row where they are filled."""

    def __call__(self, values: Values) -> Fields:
        """The fields."""
        others = self.others
        if others and not others.isdisjoint(values):
            refuse_others(others, values)
        fields = tuple(map(values.get, self.columns))
        for value in fields:
            if type(value) is not str or not value or value.isspace():
                for column, field in zip(self.columns, fields, strict=True):
                    text_of(column, field)
        return fields  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class Paths:
    """A path into nested objects for each field, as in `translation.en`."""

    paths: tuple[tuple[str, ...], ...]

    def __call__(self, values: Values) -> Fields:
        """The fields."""
        return tuple([text_of(".".join(path), self._value(path, values)) for path in self.paths])

    def _value(self, path: tuple[str, ...], values: Values) -> Any:
        value: Any = values
        for depth, part in enumerate(path):
            if value is not None and not isinstance(value, dict):
                raise RowError("shape", f"{'.'.join(path[:depth])} is {describe_type(value)}, not an object")
            value = value.get(part) if value else None
        return value


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer, and what it is asked about: the prompt is the context, a blank line, the question."""

    question: str
    answer: str
    context: str

    def __call__(self, values: Values) -> Fields:
        """Prompt and completion."""
        prompt = text_of(self.question, values.get(self.question))
        context = values.get(self.context)
        if context is not None and context != "":
            prompt = f"{text_of(self.context, context)}\n\n{prompt}"
        return prompt, self._answer(values.get(self.answer))

    def _answer(self, value: Any) -> str:
        """Text; or the first of several, also as SQuAD has them: {text: [...], answer_start: [...]}."""
        column = self.answer
        if isinstance(value, dict):
            column, value = f"{column}.text", value.get("text")
        if isinstance(value, list):
            if not value:
                raise RowError("empty-answer", f"{column} holds no answer")
            value = value[0]
        return text_of(column, value)


@dataclass(frozen=True, slots=True)
class Poem:
    """A title and an author, and lines below them."""

    title: str
    author: str
    lines: str
    """Column of a list of lines, of a list of stanzas, of either as JSON text, or of text."""
    separator: str
    """What stands between the lines where they are text; empty: newlines."""
    is_text: bool
    """One text, or a prompt (title and author) with a completion (the lines)."""

    def __call__(self, values: Values) -> Fields:
        """Prompt and completion, or text."""
        head = text_of(self.title, values.get(self.title))
        author = values.get(self.author)
        if author is not None and author != "":
            head = f"{head}\n{text_of(self.author, author)}"
        body = text_of(self.lines, self._body(values.get(self.lines)))
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
        """A line, or the lines of a stanza."""
        if isinstance(part, list):
            return "\n".join([text_of(f"{place}[{index}]", line) for index, line in enumerate(part)])
        return text_of(place, part)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with its label as written."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """Text and label."""
        text, label = values.get(self.text), values.get(self.label)
        if type(text) is not str or not text or text.isspace():
            text = text_of(self.text, text)
        if type(label) is not str:
            if isinstance(label, list):
                raise RowError("shape", f"{self.label} is a list; other rows of the file have one label")
            label = written(self.label, label)
        if not label or label.isspace():
            raise RowError("no-label", f"{self.label} is empty")
        return text, label


def listed(value: Any) -> Any:
    """A list of labels that is written as JSON text, as in a cell of CSV; any other value as it is."""
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
    """A text with a list of labels: a JSON list, sorted, each label once."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """Text and labels."""
        text = text_of(self.text, values.get(self.text))
        labels = listed(values.get(self.label))
        if labels is None or labels == []:
            raise RowError("no-label", f"{self.label} is empty")
        if not isinstance(labels, list):
            raise RowError(
                "shape", f"{self.label} is {describe_type(labels)}; other rows of the file have a list of labels"
            )
        names = {written(f"{self.label}[{index}]", label) for index, label in enumerate(labels)}
        if any(not name or name.isspace() for name in names):
            raise RowError("no-label", f"{self.label} holds an empty label")
        return text, label_codec.encode(names)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A text with a number, for regression."""

    text: str
    label: str

    def __call__(self, values: Values) -> Fields:
        """Text, and the number as written."""
        text = text_of(self.text, values.get(self.text))
        value = values.get(self.label)
        number = written(self.label, value).strip()
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
        return text_of(self.text, values.get(self.text)), self.label


@dataclass(frozen=True, slots=True)
class Unknown:
    """No row at the beginning of the file could be read, so no row of it has a shape."""

    def __call__(self, values: Values) -> Fields:
        """Nothing: every row is set aside."""
        raise RowError("shape", "no row at the beginning of this file could be read, so its shape is not known")


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
