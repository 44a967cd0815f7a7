"""The shape of one file: which of the readings that fit it is taken, and what to say where none is."""

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tuneline.data.mapping import recognise
from tuneline.data.mapping.convert import NamedAfter, Shape
from tuneline.data.mapping.recognise import Reading, View
from tuneline.data.reading.raw_rows import FilePlan, Row
from tuneline.data.records.record_form import FIELDS, TYPES_OF_TASK, Record, RecordType
from tuneline.errors import DataError

_SPLITS = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"))
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst")
_SAMPLES = 20
_SIGNATURES = 1_000
# Of a text with a number the whole file decides which it is.
_ALIKE = {"label", "number"}
_NAMED_COLUMNS = 5
_SQUAD = (
    "jq -c '.data[].paragraphs[] | .context as $context | .qas[] | "
    "{id, $context, question, answers: {text: [.answers[].text]}}'"
)
_OPTIONAL = {"tools", "prompt"}
# Of a question about a picture the words alone are half. A text with a label may be learnt without its picture.
_OF_TEXT_ALONE: tuple[RecordType, ...] = ("prompt-completion", "messages", "preference")


def shape_of(
    plan: FilePlan,
    *,
    path: Path | None = None,
    columns: Mapping[str, str] | None = None,
    record_types: Sequence[RecordType] | None = None,
    group_by: str | None = None,
    order_by: str | None = None,
    must_group: bool = True,
    label: str | None = None,
) -> Shape:
    """How the rows of one file become records, by most of its first rows.

    Args:
        plan: of the file, with at least one row.
        path: of the set, for errors.
        columns: field of the record -> column; empty where known shapes are to be recognised.
        record_types: what the rows may be; None: what they are.
        group_by: column whose value keeps rows together.
        order_by: column by which the newest rows are held out.
        must_group: whether a file without these columns is refused.
        label: of every row, from the name of its file or folder.

    Returns:
        The shape.

    Raises:
        DataError: the columns are not understood, or the rows are of another type; with the remedy.
    """
    place = file_path(path, plan)
    media: tuple[str, ...] = ()
    view = View(plan)
    if label is not None:
        text = (columns or {}).get("text") or view.usual(*recognise.LABELLED) or "text"
        reading = Reading("file names", recognise.LABEL_FORM, NamedAfter(text, label), (text,))
    else:
        reading = _choose(view, place, columns or {}, record_types)
        if reading.form.record_type in _OF_TEXT_ALONE:
            media = view.media()
    keys: dict[str, str | None] = {"group_by": None, "order_by": None}
    for param, column in (("group_by", group_by), ("order_by", order_by)):
        if column is not None and column in plan.columns:
            keys[param] = column
        elif column is not None and must_group:
            close = difflib.get_close_matches(column, plan.columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.columns_found(view)}"
            raise DataError(
                f"{place}: has no column {column!r}, which data.split.{param} names; set it to null, or to a column "
                f"of the file; {hint}"
            )
    return Shape(
        plan.name,
        reading.kind,
        reading.form,
        reading.convert,
        reading.columns,
        split=plan.split,
        media=media,
        **keys,
    )


def file_path(path: Path | None, plan: FilePlan) -> str:
    """Where a file of a set is, for a person."""
    if path is None:
        return plan.name
    return (path if path.is_dir() else path.parent).joinpath(plan.name).as_posix()


def _choose(view: View, place: str, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> Reading:
    """The reading of one file.

    Args:
        view: its first rows.
        place: where it is, for errors.
        columns: field of the record -> column; empty where known shapes are to be recognised.
        wanted: types that the rows may be; None: what they are.

    Returns:
        The most telling reading of a wanted type.

    Raises:
        DataError: nothing fits; with the columns found and the mapping to write.
    """
    if columns and view.plan.format not in ("text", "document"):
        found = _mapped(view, place, columns, wanted)
    else:
        recognise.refuse_unpaired(view, place)
        found = recognise.readings(view)
    if not found:
        raise DataError(_not_understood(view, place, wanted))
    fitting = [reading for reading in found if wanted is None or reading.form.record_type in wanted]
    if not fitting:
        raise DataError(_other_type(view, place, found, wanted or ()))
    return fitting[0]


def task_of(record_type: RecordType) -> str:
    """The task that learns from records of a type."""
    return next(task for task, types in TYPES_OF_TASK.items() if record_type in types)


def _mapped(view: View, place: str, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> list[Reading]:
    fields = set(columns)
    if not any(fields <= set(known) and set(known) - fields <= _OPTIONAL for known in FIELDS.values()):
        known = "; ".join(dict.fromkeys(" and ".join(fields) for fields in FIELDS.values()))
        raise DataError(f"data.columns: {', '.join(columns)} are not the fields of a record; known are {known}")
    may_lead = fields in ({"text"}, {"prompt", "completion"})
    missing = [
        name
        for name in columns.values()
        if name not in view.columns and not (may_lead and _leads_somewhere(view, name))
    ]
    if missing:
        close = difflib.get_close_matches(missing[0], view.columns, n=1)
        hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.columns_found(view)}"
        raise DataError(f"{place}: data.columns names {', '.join(missing)}, which the file does not have; {hint}")
    return recognise.mapped_readings(view, columns, wanted)


def _leads_somewhere(view: View, name: str) -> bool:
    """Whether a dotted name leads into objects of the file."""
    column, dot, _ = name.partition(".")
    return bool(dot) and column in view.columns and view.mostly(column, lambda value: isinstance(value, dict))


def _not_understood(view: View, place: str, wanted: Sequence[RecordType] | None) -> str:
    if recognise.is_squad(view):
        return (
            f"{place}: is SQuAD by article, in which a row holds many questions; make it a row a question with "
            f"`{_SQUAD} FILE > squad.jsonl`"
        )
    found = count_first_rows(view.plan, None, wanted).found()
    if len(found) > 1 and sum(not name.startswith("unknown") for name in found) > 1:
        return (
            f"{place}: its rows are of several shapes, and none of them of most rows: of the first "
            f"{len(view.rows):,} {in_words(found)}; make a file of each"
        )
    if nested := recognise.nested(view):
        return (
            f"{place}: its rows stand deeper in it, at {', '.join(nested)}; make a file of them with "
            f"`jq -c '{nested[0]}[]' FILE > rows.jsonl`"
        )
    return (
        f"{place}: columns found: {recognise.describe_types(view)}; they are of no known shape; say in params.yaml "
        f"which of them are {_example(view, wanted)}"
    )


def _example(view: View, wanted: Sequence[RecordType] | None) -> str:
    """What to write for the columns of a file of no known shape, from what they hold.

    Args:
        view: the file.
        wanted: types that the rows may be; None: what they are.

    Returns:
        The fields, and the mapping of the likeliest columns: of labelled text where a column repeats its values.
    """
    labels = view.repeating()
    others = [column for column in view.columns if column not in labels]
    record_type: RecordType = wanted[0] if wanted else "classification" if labels and others else "prompt-completion"
    fields = FIELDS[record_type]
    said, remark = " and ".join(fields), ""
    if record_type == "classification" and labels and others:
        columns = [*view.longest(others, 1), view.likeliest_label(labels)]
        said += "" if wanted else " (or prompt and completion)"
        remark = f"; values that repeat as labels do are in: {', '.join(labels)}" if len(labels) > 1 else ""
    else:
        columns = [*view.longest(view.columns, len(fields)), "…", "…"]
    pairs = list(zip(fields, columns, strict=False))
    example = ", ".join(f"{field}: {column}" for field, column in pairs)
    options = " ".join(f"--column {shlex.quote(f'{field}={column}')}" for field, column in pairs)
    return f"{said}, as in data.columns: {{{example}}}, or to `tuneline use`: {options}{remark}"


def _other_type(view: View, place: str, found: Sequence[Reading], wanted: Sequence[RecordType]) -> str:
    types: list[RecordType] = list(dict.fromkeys([reading.form.record_type for reading in found]))
    tasks = list(dict.fromkeys(task_of(kind) for kind in types))
    if view.plan.format in ("text", "document") and "classification" in wanted:
        return (
            f"{place}: is plain text, and no label stands in the names: put the files of each class in a folder named "
            f"by it (spam/1.txt), or the rows of each class in a file named by it (spam.txt); or set task: {tasks[0]}"
        )
    fields = FIELDS[wanted[0]]
    return (
        f"{place}: holds {' or '.join(types)} rows, but {' or '.join(wanted)} rows are needed; set task: "
        f"{' or '.join(tasks)}, or map columns to {' and '.join(fields)} by data.columns "
        f"(columns found: {recognise.describe_types(view)})"
    )


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
        readings = recognise.readings(view)
        return [one for one in readings if self._types is None or one.form.record_type in self._types]


def _is_given(shape: Shape) -> bool:
    """Whether the columns or the label of a file were given, not recognised."""
    return shape.kind in ("columns", "file names")


def count_first_rows(
    plan: FilePlan, shape: Shape | None, record_types: Sequence[RecordType] | None = None
) -> ShapeCounts:
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


def labels_by_file(plans: Sequence[FilePlan]) -> dict[str, str]:
    """The label of every file of a set whose rows are texts without a label of their own.

    Args:
        plans: of all files.

    Returns:
        File -> label: the name of its folder where folders tell the files apart, else (for plain text with one row per
        line) the file's own name. Empty where a file has a column of labels or none of texts, or fewer than two labels
        come out.
    """
    files = [plan for plan in plans if not plan.refusal and plan.first_rows]
    if not files or not all(map(_is_unlabelled, files)):
        return {}
    folders = {plan.name: _folder(plan.name) for plan in files}
    if all(folders.values()) and len(set(folders.values())) > 1:
        return folders
    if any(plan.format != "text" for plan in files):
        return {}
    names = {plan.name: _stem(plan.name) for plan in files}
    return names if len(set(names.values())) > 1 else {}


def _is_unlabelled(plan: FilePlan) -> bool:
    """Whether the rows of a file are texts, and say nothing of a label."""
    if plan.format in ("text", "document"):
        return True
    view = View(plan)
    return view.usual(*recognise.LABELLED) is not None and view.usual(*recognise.LABELS) is None


def _folder(name: str) -> str:
    """The innermost folder that is neither a split nor an archive; empty where there is none."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.casefold() not in _SPLITS and not part.casefold().endswith(_ARCHIVES):
            return part
    return ""


def _stem(name: str) -> str:
    stem = PurePosixPath(name).name
    while (suffix := PurePosixPath(stem).suffix.casefold()) in (".txt", ".text", *_ARCHIVES) and suffix:
        stem = PurePosixPath(stem).stem
    return stem
