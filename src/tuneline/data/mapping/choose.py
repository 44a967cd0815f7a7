"""The shape of one file: which of its matches is chosen, and the error if there is none."""

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tuneline.data.mapping import recognise, suggest
from tuneline.data.mapping.convert import NamedAfter, Shape
from tuneline.data.mapping.recognise import Match, View
from tuneline.data.reading.raw_rows import FilePlan, Row
from tuneline.data.records.record_form import FIELDS, TYPES_OF_TASK, Record, RecordType
from tuneline.errors import DataError

_SPLITS = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"))
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst")
_SAMPLES = 20
_SIGNATURES = 1_000
# Whether a text with a number has a label or a number depends on all rows of the file.
_ALIKE = {"label", "number"}
_NAMED_COLUMNS = 5
_SQUAD = (
    "jq -c '.data[].paragraphs[] | .context as $context | .qas[] | "
    "{id, $context, question, answers: {text: [.answers[].text]}}'"
)
_OPTIONAL = {"tools", "prompt"}
# A question about a picture is incomplete without the picture. A labelled text is not.
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
    keep: Sequence[str] = (),
    label: str | None = None,
) -> Shape:
    """The shape that fits most of the first rows of a file.

    Args:
        plan: the plan of the file, with at least one row.
        path: the path of the set, for errors.
        columns: field of the record -> column; if empty, the columns are recognised by their names.
        record_types: the allowed types of the records; None: all.
        group_by: the column whose value keeps rows together.
        order_by: the column by which the newest rows are held out.
        must_group: whether a file without these columns is refused.
        keep: columns that are kept beside the fields; a file without them is refused.
        label: the label of every row, from the name of its file or folder; None: the file has a column of labels.

    Raises:
        DataError: no shape fits, or the rows are of another type; with the remedy.
    """
    file = file_path(path, plan)
    media: tuple[str, ...] = ()
    view = View(plan)
    if label is not None:
        text = (columns or {}).get("text") or view.usual(*recognise.LABELLED) or "text"
        match = Match("file names", recognise.LABEL_FORM, NamedAfter(text, label), (text,))
    else:
        match = _choose(view, file, columns or {}, record_types)
        if match.form.record_type in _OF_TEXT_ALONE:
            media = view.media()
    keys: dict[str, str | None] = {"group_by": None, "order_by": None}
    for param, column in (("group_by", group_by), ("order_by", order_by)):
        if column is not None and column in plan.columns:
            keys[param] = column
        elif column is not None and must_group:
            close = difflib.get_close_matches(column, plan.columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.column_names(view)}"
            raise DataError(
                f"{file}: has no column {column!r}, the value of data.split.{param}; set data.split.{param} to null "
                f"or to a column of the file; {hint}"
            )
    for column in keep:
        if column not in plan.columns:
            close = difflib.get_close_matches(column, plan.columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.column_names(view)}"
            raise DataError(f"{file}: has no column {column!r}, which data.keep_columns names; remove it there; {hint}")
    return Shape(
        plan.name,
        match.kind,
        match.form,
        match.convert,
        match.columns,
        split=plan.split,
        keep=tuple(keep),
        media=media,
        **keys,
    )


def file_path(path: Path | None, plan: FilePlan) -> str:
    """The path of a file of a set, for messages."""
    if path is None:
        return plan.name
    return (path if path.is_dir() else path.parent).joinpath(plan.name).as_posix()


def _choose(view: View, file: str, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> Match:
    """The most specific match of a file that gives records of a wanted type.

    Args:
        view: the first rows of the file.
        file: the path of the file, for errors.
        columns: field of the record -> column; if empty, the columns are recognised by their names.
        wanted: the allowed types of the records; None: all.

    Raises:
        DataError: no match fits; names the columns found and the mapping to write.
    """
    if columns and view.plan.format not in ("text", "document"):
        found = _mapped(view, file, columns, wanted)
    else:
        recognise.refuse_unpaired(view, file)
        found = recognise.matches(view)
    if not found:
        raise DataError(_not_understood(view, file, wanted))
    fitting = [match for match in found if wanted is None or match.form.record_type in wanted]
    if not fitting:
        raise DataError(_other_type(view, file, found, wanted or ()))
    return fitting[0]


def task_of(record_type: RecordType) -> str:
    """The task that trains on records of a type."""
    return next(task for task, types in TYPES_OF_TASK.items() if record_type in types)


def _mapped(view: View, file: str, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> list[Match]:
    fields = set(columns)
    if not any(fields <= set(known) and set(known) - fields <= _OPTIONAL for known in FIELDS.values()):
        known = "; ".join(dict.fromkeys(" and ".join(fields) for fields in FIELDS.values()))
        raise DataError(f"data.columns: {', '.join(columns)} are not the fields of a record; use {known}")
    may_lead = fields in ({"text"}, {"prompt", "completion"})
    missing = [
        name
        for name in columns.values()
        if name not in view.columns and not (may_lead and _leads_somewhere(view, name))
    ]
    if missing:
        close = difflib.get_close_matches(missing[0], view.columns, n=1)
        hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.column_names(view)}"
        raise DataError(f"{file}: has no column {', '.join(missing)}, which data.columns names; {hint}")
    return recognise.mapped_matches(view, columns, wanted)


def _leads_somewhere(view: View, name: str) -> bool:
    """Whether a dotted name is a path into objects of the file."""
    column, dot, _ = name.partition(".")
    return bool(dot) and column in view.columns and view.mostly(column, lambda value: isinstance(value, dict))


def _not_understood(view: View, file: str, wanted: Sequence[RecordType] | None) -> str:
    if recognise.is_squad(view):
        return (
            f"{file}: is SQuAD with one article per row, and each article has many questions; write one question per "
            f"row with `{_SQUAD} FILE > squad.jsonl`"
        )
    found = count_first_rows(view.plan, None, wanted).found()
    if len(found) > 1 and sum(not name.startswith("unknown") for name in found) > 1:
        return (
            f"{file}: its rows have several shapes, and no shape fits most rows; of the first {len(view.rows):,} "
            f"rows: {in_words(found)}; write one file per shape"
        )
    if nested := recognise.nested_paths(view):
        return (
            f"{file}: its rows are in a nested list, at {', '.join(nested)}; write them to a file with "
            f"`jq -c '{nested[0]}[]' FILE > rows.jsonl`"
        )
    return (
        f"{file}: columns found: {recognise.describe_columns(view)}; they have no known shape; name the columns of "
        f"{_example(view, wanted)}"
    )


def _example(view: View, wanted: Sequence[RecordType] | None) -> str:
    """The fields of a record, and the mapping of the most likely columns of a file without a known shape.

    Args:
        view: the file.
        wanted: the allowed types of the records; None: what the values look like.
    """
    likely = suggest.suggest(view)
    is_labelled = bool(likely.labels and likely.text) and not likely.asks
    record_type: RecordType = wanted[0] if wanted else "classification" if is_labelled else "prompt-completion"
    fields = FIELDS[record_type]
    names, remark = " and ".join(fields), ""
    if record_type == "classification" and likely.labels and likely.text:
        columns = [likely.text, likely.labels[-1]]
        names += "" if wanted else " (or prompt and completion)"
        others = [column for column in view.columns if column in likely.labels]
        remark = f"; columns with repeated values, which may be labels: {', '.join(others)}" if others[1:] else ""
        if likely.pair and not wanted:
            remark += f"; or as pairs: {_options(zip(FIELDS['prompt-completion'], likely.pair, strict=True))}"
    elif record_type == "prompt-completion" and likely.pair:
        columns = [*likely.pair]
    else:
        columns = [*view.longest(likely.texts, len(fields)), "…", "…"]
    pairs = list(zip(fields, columns, strict=False))
    example = ", ".join(f"{field}: {column}" for field, column in pairs)
    return f"{names}, as in data.columns: {{{example}}}, or to `tuneline use`: {_options(pairs)}{remark}"


def _options(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"--column {shlex.quote(f'{field}={column}')}" for field, column in pairs)


def _other_type(view: View, file: str, found: Sequence[Match], wanted: Sequence[RecordType]) -> str:
    types: list[RecordType] = list(dict.fromkeys([match.form.record_type for match in found]))
    tasks = list(dict.fromkeys(task_of(kind) for kind in types))
    if view.plan.format in ("text", "document") and "classification" in wanted:
        return (
            f"{file}: is plain text, and the names of files and folders are not labels: put the files of each label "
            "into a folder with its name (spam/1.txt), or its rows into a file with its name (spam.txt); or set task: "
            f"{tasks[0]}"
        )
    fields = FIELDS[wanted[0]]
    return (
        f"{file}: contains {' or '.join(types)} rows, but the task needs {' or '.join(wanted)} rows; set task: "
        f"{' or '.join(tasks)}, or name the columns of {' and '.join(fields)} in data.columns "
        f"(columns found: {recognise.describe_columns(view)})"
    )


@dataclass
class _Group:
    """The rows whose filled columns are the same."""

    rows: int = 0
    samples: list[Row] = field(default_factory=list)


class ShapeCounts:
    """Counts the rows of a file by the shape that each row has alone.

    Args:
        plan: the plan of the file.
        shape: the shape of the file; None if no shape fits.
        record_types: the allowed types of the records; None: all.
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
        """Shape -> number of rows: the shape of the file first, then the most frequent."""
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
        """The number of rows that have another shape than the file, and are set aside."""
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
            # Columns of the shape may be missing, but the row has no others.
            return shape.kind
        matches = self._matches(filled, samples)
        if not matches:
            named = ", ".join(filled[:_NAMED_COLUMNS]) + ("…" if len(filled) > _NAMED_COLUMNS else "")
            return f"unknown ({named})" if named else "unknown"
        match = matches[0]
        if shape is not None and (match.kind == shape.kind or {match.kind, shape.kind} == _ALIKE or _is_given(shape)):
            if self._accepts(samples):
                return shape.kind
            return f"{match.kind} ({', '.join(match.columns)})"
        return match.kind

    def _accepts(self, samples: Sequence[Row]) -> bool:
        """Whether the shape of the file makes records of most samples."""
        assert self._shape is not None
        return 2 * sum(isinstance(self._shape.record(row), Record) for row in samples) > len(samples)

    def _matches(self, filled: tuple[str, ...], samples: Sequence[Row]) -> list[Match]:
        view = View(replace(self._plan, first_rows=tuple(samples), columns=filled))
        matches = recognise.matches(view)
        return [match for match in matches if self._types is None or match.form.record_type in self._types]


def _is_given(shape: Shape) -> bool:
    """Whether the user named the columns, or the names of files give the labels."""
    return shape.kind in ("columns", "file names")


def count_first_rows(
    plan: FilePlan, shape: Shape | None, record_types: Sequence[RecordType] | None = None
) -> ShapeCounts:
    """The counts of the first rows of a file; arguments as in `ShapeCounts`."""
    counts = ShapeCounts(plan, shape, record_types)
    for row in plan.first_rows:
        counts.add(row)
    return counts


def in_words(found: Mapping[str, int]) -> str:
    """The shapes and their number of rows, for messages.

    Args:
        found: shape -> number of rows.
    """
    return ", ".join(f"{name} {rows:,}" for name, rows in found.items())


def labels_by_file(plans: Sequence[FilePlan]) -> dict[str, str]:
    """The label of every file of a set of texts, from the names of folders or files, as in `spam/1.txt` or `spam.txt`.

    Args:
        plans: the plans of all files.

    Returns:
        File -> label: the name of the folder if the files are in several folders; else, for plain text with one row per
        line, the name of the file. Empty if a file has a column of labels or no texts, or if there is only one label.
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
    """Whether the rows of a file are texts without a column of labels."""
    if plan.format in ("text", "document"):
        return True
    view = View(plan)
    return view.usual(*recognise.LABELLED) is not None and view.usual(*recognise.LABELS) is None


def _folder(name: str) -> str:
    """The name of the innermost folder that is neither a split nor an archive; else empty."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.casefold() not in _SPLITS and not part.casefold().endswith(_ARCHIVES):
            return part
    return ""


def _stem(name: str) -> str:
    stem = PurePosixPath(name).name
    while (suffix := PurePosixPath(stem).suffix.casefold()) in (".txt", ".text", *_ARCHIVES) and suffix:
        stem = PurePosixPath(stem).stem
    return stem
