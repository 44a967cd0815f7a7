"""Which of the readings that fit a file is taken, and what to say where none is."""

import difflib
from collections.abc import Mapping, Sequence

from tuneline.data import recognition
from tuneline.data.recognition import Reading, View
from tuneline.data.shapes import FIELDS, TYPES_OF_TASK, RecordType
from tuneline.errors import DataError

_OPTIONAL = {"tools", "prompt"}


def choose(view: View, place: str, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> Reading:
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
        found = recognition.plain_readings(view)
    if not found:
        raise DataError(_not_understood(view, place, wanted))
    fitting = [reading for reading in found if wanted is None or reading.record_type in wanted]
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
    missing = [name for name in columns.values() if name not in view.columns and not _leads_somewhere(view, name)]
    if missing:
        close = difflib.get_close_matches(missing[0], view.columns, n=1)
        hint = f"did you mean {close[0]}?" if close else f"columns found: {', '.join(view.columns)}"
        raise DataError(f"{place}: data.columns names {', '.join(missing)}, which the file does not have; {hint}")
    return recognition.mapped(view, columns, wanted)


def _leads_somewhere(view: View, name: str) -> bool:
    """Whether a dotted name leads into objects of the file."""
    column, dot, _ = name.partition(".")
    return bool(dot) and column in view.columns and view.mostly(column, lambda value: isinstance(value, dict))


def _not_understood(view: View, place: str, wanted: Sequence[RecordType] | None) -> str:
    fields = FIELDS[wanted[0] if wanted else "prompt-completion"]
    example = ", ".join(f"{field}: {column}" for field, column in zip(fields, [*view.columns, "…", "…"], strict=False))
    return (
        f"{place}: columns found: {recognition.describe_types(view)}; they are of no known shape; say in params.yaml "
        f"which of them are {' and '.join(fields)}, as in data.columns: {{{example}}}"
    )


def _other_type(view: View, place: str, found: Sequence[Reading], wanted: Sequence[RecordType]) -> str:
    types: list[RecordType] = list(dict.fromkeys([reading.record_type for reading in found]))
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
        f"(columns found: {recognition.describe_types(view)})"
    )
