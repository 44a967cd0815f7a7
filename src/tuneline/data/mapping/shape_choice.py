"""The shape of one file: which of the readings that fit it is taken, and what to say where none is."""

import difflib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneline.data.mapping import recognise, shape_counts
from tuneline.data.mapping.chat import recognise_chat
from tuneline.data.mapping.convert import NamedAfter
from tuneline.data.mapping.recognise import Reading, View
from tuneline.data.mapping.shapes import Shape
from tuneline.data.reading.raw_rows import FilePlan
from tuneline.data.records.record_form import FIELDS, TYPES_OF_TASK, RecordType
from tuneline.errors import DataError

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
    place = place_of(path, plan)
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


def place_of(path: Path | None, plan: FilePlan) -> str:
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
        recognise_chat.refuse_unpaired(view, place)
        found = recognise_chat.readings(view) + recognise.plain_readings(view)
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
    return recognise_chat.mapped(view, columns) or recognise.mapped(view, columns, wanted)


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
    found = shape_counts.counted(view.plan, None, wanted).found()
    if len(found) > 1 and sum(not name.startswith("unknown") for name in found) > 1:
        return (
            f"{place}: its rows are of several shapes, and none of them of most rows: of the first "
            f"{len(view.rows):,} {shape_counts.in_words(found)}; make a file of each"
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
