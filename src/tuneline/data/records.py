"""Raw rows -> canonical records: `prompt` and `completion`, or `text`, each with its source and its group."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from tuneline.data import formats, readers
from tuneline.data.rows import RawFile, Rejected, excerpt
from tuneline.errors import DataError
from tuneline.params import Params

RecordType = Literal["prompt-completion", "text"]

FIELDS: dict[RecordType, tuple[str, ...]] = {"prompt-completion": ("prompt", "completion"), "text": ("text",)}
"""Record type -> the fields that a model is shown."""

RECORD_TYPE_OF_TASK: dict[str, RecordType] = {"sft": "prompt-completion", "language-modeling": "text"}

_SPELLINGS: dict[RecordType, tuple[tuple[str, ...], ...]] = {
    "prompt-completion": (
        ("prompt", "completion"),
        ("prompt", "response"),
        ("instruction", "output"),
        ("instruction", "response"),
        ("question", "answer"),
        ("query", "response"),
        ("input", "output"),
    ),
    "text": (("text",), ("content",)),
}
# Beside a question they are part of it: leaving them out without a word would teach answers to half a question.
_PARTS_OF_A_PROMPT = ("input", "context", "history", "system")
_NAMED_ROWS = 5


class Record(NamedTuple):
    """One canonical record."""

    file: str
    """Relative to the set."""
    line: int
    offset: int
    values: tuple[str, ...]
    """In the order of FIELDS."""
    group: str | None
    """The value of the column that keeps rows together; None where there is no such column."""

    @property
    def source(self) -> str:
        """Where the record stands, for a person."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class RecordSet:
    """The records of a raw set, in the order of files and lines, and what was set aside."""

    path: str
    record_type: RecordType
    columns: dict[str, list[str]]
    """File -> its columns."""
    formats: dict[str, str]
    """File -> its format."""
    records: list[Record]
    rejected: list[Rejected]

    @property
    def rows(self) -> int:
        """All rows, those set aside too."""
        return len(self.records) + len(self.rejected)


def read(
    path: Path,
    *,
    encoding: str,
    columns: Mapping[str, str],
    record_type: RecordType | None = None,
    group_by: str | None = None,
    must_group: bool = True,
) -> RecordSet:
    """Read a raw set as the whole pipeline sees it.

    Args:
        path: the folder of the set, or one file.
        encoding: of the files, by Python's name.
        columns: field of the record -> column of the files; empty where known names are to be recognised.
        record_type: what the rows must be; None: what they are.
        group_by: column whose value keeps rows together.
        must_group: whether a file without that column is refused; else its rows stand alone.

    Returns:
        The records and the rows set aside; together they are all rows of the set.

    Raises:
        DataError: the set cannot be read, its columns are not understood, or it is of another record type.
    """
    files = readers.read_set(path, encoding)
    problems: list[str] = []
    mappings: dict[str, Mapping[str, str]] = {}
    for file in files:
        try:
            if file.rows:
                mappings[file.name] = _mapping(path, file, columns, record_type)
                if must_group:
                    _check_group(path, file, group_by)
        except DataError as error:
            problems += error.problems
    types: dict[str, RecordType] = {name: _type_of(mapping) for name, mapping in mappings.items()}
    if len(set(types.values())) > 1:
        named = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        problems.append(f"{path}: the files hold rows of several kinds: {named}; make a set of each")
    if problems:
        raise DataError(*problems)
    found: RecordType = next(iter(types.values())) if types else record_type or "text"
    records: list[Record] = []
    rejected: list[Rejected] = []
    for file in files:
        if file.rows:
            column = group_by if must_group or group_by in _usual_columns(file) else None
            records += _map_rows(file, [mappings[file.name][name] for name in FIELDS[found]], column)
        rejected += sorted(file.rejected, key=lambda row: row.offset)
    formats = {file.name: file.format for file in files}
    return RecordSet(path.as_posix(), found, {file.name: file.columns for file in files}, formats, records, rejected)


def check_rejected(records: RecordSet, max_fraction: float) -> None:
    """Stop where too many rows were set aside.

    Args:
        records: the set.
        max_fraction: share of all rows that may be set aside.

    Raises:
        DataError: more were, the first of them named.
    """
    if len(records.rejected) <= max_fraction * records.rows and records.records:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(r.reason for r in records.rejected).items())
    raise DataError(
        f"{records.path}: {len(records.rejected)} of {records.rows} rows cannot be used ({reasons}), more than "
        f"data.max_rejected_fraction {max_fraction:g} allows; mend the rows, or raise it",
        *(f"  {row.describe()}" for row in records.rejected[:_NAMED_ROWS]),
        *([f"  and {len(records.rejected) - _NAMED_ROWS} more"] if len(records.rejected) > _NAMED_ROWS else []),
    )


def _type_of(mapping: Mapping[str, str]) -> RecordType:
    return "text" if "text" in mapping else "prompt-completion"


def _usual_columns(file: RawFile) -> list[str]:
    """Columns that most rows have: one odd row says nothing about the others."""
    counts = Counter(column for row in file.rows for column in row.values)
    return [column for column in file.columns if 2 * counts[column] > len(file.rows)]


def _mapping(
    path: Path, file: RawFile, columns: Mapping[str, str], record_type: RecordType | None
) -> Mapping[str, str]:
    """Field -> column of one file."""
    present = _usual_columns(file)
    place = path / file.name if path.is_dir() else path
    if columns and file.format != "text":
        wanted = [kind for kind, fields in FIELDS.items() if set(columns) == set(fields)]
        if not wanted:
            raise DataError(
                f"data.columns: {', '.join(columns)} are no fields of a record; give prompt and completion, or text"
            )
        if missing := [column for column in columns.values() if column not in present]:
            close = difflib.get_close_matches(missing[0], present, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns found: {', '.join(present)}"
            raise DataError(f"{place}: data.columns names {', '.join(missing)}, which the file does not have; {hint}")
        mapping = dict(columns)
    else:
        mapping = _recognise(file, present, record_type)
    if not mapping:
        fields = FIELDS[record_type or "prompt-completion"]
        example = ", ".join(f"{field}: {column}" for field, column in zip(fields, [*present, "…", "…"], strict=False))
        parts = [column for column in present if column.strip().casefold() in _PARTS_OF_A_PROMPT]
        why = f" ({', '.join(parts)} beside a question is not read yet)" if parts else ""
        raise DataError(
            f"{place}: columns found: {', '.join(present)}{why}; say in params.yaml which of them are "
            f"{' and '.join(fields)}, as in data.columns: {{{example}}}"
        )
    if record_type and _type_of(mapping) != record_type:
        task = {"prompt-completion": "sft", "text": "language-modeling"}[_type_of(mapping)]
        raise DataError(
            f"{place}: holds {_type_of(mapping)} rows, but {record_type} rows are needed; set task: {task}, or map "
            f"columns to {' and '.join(FIELDS[record_type])} by data.columns (columns found: {', '.join(present)})"
        )
    return mapping


def _recognise(file: RawFile, present: Sequence[str], record_type: RecordType | None) -> dict[str, str]:
    """The first known spelling that fits, of the wanted type first; empty where none does."""
    by_name = {column.strip().casefold(): column for column in reversed(present)}
    kinds: list[RecordType] = sorted(FIELDS, key=lambda kind: kind != record_type)
    for kind in kinds:
        for spelling in _SPELLINGS[kind]:
            if not set(spelling) <= set(by_name):
                continue
            others = [by_name[name] for name in _PARTS_OF_A_PROMPT if name in by_name and name not in spelling]
            if kind == "prompt-completion" and any(row.values.get(other) for row in file.rows for other in others):
                return {}
            return {field: by_name[name] for field, name in zip(FIELDS[kind], spelling, strict=True)}
    return {}


def _check_group(path: Path, file: RawFile, group_by: str | None) -> None:
    present = _usual_columns(file)
    if group_by is None or group_by in present:
        return
    place = path / file.name if path.is_dir() else path
    raise DataError(
        f"{place}: has no column {group_by!r}, by which data.split.group_by keeps rows together; set it to null, or to "
        f"one of {', '.join(present)}"
    )


def _map_rows(file: RawFile, columns: Sequence[str], group_by: str | None) -> list[Record]:
    records: list[Record] = []
    for row in file.rows:
        values = tuple(row.values.get(column) for column in columns)
        problem = _problem(columns, values)
        group = row.values.get(group_by) if group_by is not None else None
        if not problem and group_by is not None and (not isinstance(group, str | int) or not str(group).strip()):
            problem = ("no-group", f"{group_by} is empty, by which data.split.group_by keeps rows together")
        if problem:
            text = excerpt(" | ".join(map(str, row.values.values())))
            file.rejected.append(Rejected(file.name, row.line, row.offset, *problem, text))
            continue
        texts = cast(tuple[str, ...], values)
        records.append(Record(file.name, row.line, row.offset, texts, None if group is None else str(group)))
    return records


def _problem(columns: Sequence[str], values: Sequence[Any]) -> tuple[str, str] | None:
    for column, value in zip(columns, values, strict=True):
        if value is None:
            return "missing", f"{column} is missing"
        if not isinstance(value, str):
            return "not-text", f"{column} is {formats.kind(value)}, not text"
        if not value.strip():
            return "empty", f"{column} is empty"
    return None


def read_both(p: Params) -> tuple[RecordSet, RecordSet]:
    """The raw set and the pretraining set that the params name, as every stage sees them.

    Args:
        p: all params.

    Returns:
        The set to fine-tune on and the set to pretrain on.

    Raises:
        DataError: one of them cannot be used, or both.
    """
    # data.columns says how the set to fine-tune on spells its fields; another set has its own spelling.
    columns = {p.data.raw: p.data.columns}
    wanted: list[tuple[str, RecordType]] = [(p.data.raw, RECORD_TYPE_OF_TASK[p.task]), (p.data.pretraining, "text")]
    sets: list[RecordSet] = []
    problems: dict[str, None] = {}
    for path, record_type in wanted:
        try:
            records = read(
                Path(path),
                encoding=p.data.encoding,
                columns=columns.get(path, {}),
                record_type=record_type,
                group_by=p.data.split.group_by,
                # The column is one of the set to fine-tune on; another set need not know it.
                must_group=path == p.data.raw,
            )
            check_rejected(records, p.data.max_rejected_fraction)
            sets.append(records)
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise DataError(*problems)
    raw, pretraining = sets
    return raw, pretraining
