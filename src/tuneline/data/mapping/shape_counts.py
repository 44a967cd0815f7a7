"""How many rows of a file have which shape: a file whose rows are of several shapes is read by one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tuneline.data.mapping import recognise
from tuneline.data.mapping.chat import recognise_chat
from tuneline.data.mapping.recognise import Reading, View
from tuneline.data.mapping.shapes import Shape
from tuneline.data.reading.raw_rows import FilePlan, Row
from tuneline.data.records.record_form import Record, RecordType

_SAMPLES = 20
_SIGNATURES = 1_000
# Of a text with a number the whole file decides which it is.
_ALIKE = {"label", "number"}
_NAMED_COLUMNS = 5


@dataclass
class _Group:
    """Rows with the same filled columns."""

    rows: int = 0
    samples: list[Row] = field(default_factory=list)


class ShapeCounts:
    """Counts rows by the shape that each has by itself.

    Args:
        plan: of the file.
        shape: that the file is read by; None where none was found.
        record_types: what the rows may be; None: what they are.
    """

    def __init__(self, plan: FilePlan, shape: Shape | None, record_types: Sequence[RecordType] | None = None) -> None:
        self._plan, self._shape, self._types = plan, shape, record_types
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._more = _Group()

    def add(self, row: Row) -> None:
        """Count a row."""
        filled = tuple([key for key, value in row.values.items() if value is not None and value != "" and value != []])
        group = self._groups.get(filled)
        if group is None:
            group = self._more
            if len(self._groups) < _SIGNATURES:
                group = self._groups[filled] = _Group()
        group.rows += 1
        if len(group.samples) < _SAMPLES:
            group.samples.append(row)

    def found(self) -> dict[str, int]:
        """Shape -> rows, the file's own shape first, then the most frequent; one entry where all rows are alike."""
        counts: dict[str, int] = {}
        if self._shape is not None:
            counts[self._shape.kind] = 0
        for filled, group in [*self._groups.items(), ((), self._more)]:
            if group.rows:
                name = self._name(filled, group.samples)
                counts[name] = counts.get(name, 0) + group.rows
        first = self._shape.kind if self._shape is not None else None
        return dict(sorted(counts.items(), key=lambda item: (item[0] != first, -item[1])))

    def set_aside(self) -> int:
        """Rows of another shape than the file's that its shape does not accept."""
        if self._shape is None:
            return 0
        return sum(
            group.rows
            for filled, group in self._groups.items()
            if self._name(filled, group.samples) != self._shape.kind and not self._accepts(group.samples)
        )

    def _name(self, filled: tuple[str, ...], samples: Sequence[Row]) -> str:
        shape = self._shape
        if shape is not None and set(filled) <= {*shape.columns, *self._plan.columns}:
            # A part of it may be missing, but nothing of another shape is there.
            return shape.kind
        readings = self._readings(filled, samples)
        if not readings:
            named = ", ".join(filled[:_NAMED_COLUMNS]) + ("…" if len(filled) > _NAMED_COLUMNS else "")
            return f"unknown ({named})" if named else "unknown"
        reading = readings[0]
        if shape is not None and (
            reading.kind == shape.kind or {reading.kind, shape.kind} == _ALIKE or _is_given(shape)
        ):
            if self._accepts(samples):
                return shape.kind
            return f"{reading.kind} ({', '.join(reading.columns)})"
        return reading.kind

    def _accepts(self, samples: Sequence[Row]) -> bool:
        """Whether the file's shape makes a record of most of the samples."""
        assert self._shape is not None
        return 2 * sum(isinstance(self._shape.record(row), Record) for row in samples) > len(samples)

    def _readings(self, filled: tuple[str, ...], samples: Sequence[Row]) -> list[Reading]:
        view = View(replace(self._plan, first_rows=tuple(samples), columns=filled))
        readings = recognise_chat.readings(view) + recognise.plain_readings(view)
        return [one for one in readings if self._types is None or one.form.record_type in self._types]


def _is_given(shape: Shape) -> bool:
    """Whether the columns or the label of a file were given, not recognised."""
    return shape.kind in ("columns", "file names")


def counted(plan: FilePlan, shape: Shape | None, record_types: Sequence[RecordType] | None = None) -> ShapeCounts:
    """The first rows of a file, counted.

    Args:
        plan: of the file.
        shape: that it is read by; None where none was found.
        record_types: what the rows may be; None: what they are.
    """
    counts = ShapeCounts(plan, shape, record_types)
    for row in plan.first_rows:
        counts.add(row)
    return counts


def in_words(found: Mapping[str, int]) -> str:
    """Shapes with their rows, for a person.

    Args:
        found: shape -> rows.
    """
    return ", ".join(f"{name} {rows:,}" for name, rows in found.items())
