"""Open the files of a raw set for a task, read every row once, and describe what they hold."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from tuneline import params
from tuneline.data.mapping import choose, raw_set
from tuneline.data.mapping.convert import Shape
from tuneline.data.mapping.raw_set import RawSet, Reading
from tuneline.data.preparing import long_rows
from tuneline.data.profiling.profile import Lengths
from tuneline.data.reading.raw_rows import FilePlan, Options
from tuneline.data.records import field_texts, labels
from tuneline.data.records.record_form import TYPES_OF_TASK, Record, RecordType
from tuneline.data.validation.row_counts import Tally
from tuneline.errors import DataError

_NAMED_ROWS = 5
_FEW_LABELS = 20
MEASURED_ROWS = 20_000
"""The first rows of a set whose lengths are measured."""
_BATCH = 1_000
_WRITTEN = (
    "pairs, conversations and plain text",
    "the text in a column `text`, or in `prompt` and `completion`",
)
_MIXED_ROWS: dict[params.Task, tuple[str, str]] = {
    "sft": _WRITTEN,
    "language-modeling": _WRITTEN,
    "classification": ("texts with labels", "them in columns `text` and `label`"),
    "regression": ("texts with numbers", "them in columns `text` and `label`"),
}
"""Task -> which rows can be trained in addition, and the columns that they need."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class ReadingArguments:
    """How the command line wants files read. What it does not set is None or empty."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the record -> column of the files."""
    encoding: str | None = None
    layout: params.Layout | None = None
    """How plain text is read."""
    exclude: tuple[str, ...] = ()
    """Patterns of files to leave out."""

    def over(self, options: Options) -> Options:
        """The options, replaced where the command line sets a value."""
        return replace(
            options,
            encoding=self.encoding or options.encoding,
            layout=self.layout or options.layout,
            exclude=self.exclude or options.exclude,
        )


def readings_of_sets(p: params.Params, arguments: ReadingArguments) -> dict[Path, Reading]:
    """How the files of each data set of the project are read.

    Args:
        p: all params.
        arguments: the settings of the command line, which take precedence.

    Returns:
        Absolute path of a set -> how its files are read.

    Raises:
        DataError: data.reading is wrong.
    """
    names = [name for name in p.data.reading if name != params.PRETRAINING]
    found = raw_set.readings(p, names)
    return {_absolute(path): Reading(arguments.over(way.options), way.columns) for path, way in found.items()}


def reading_at(path: Path, sets: Mapping[Path, Reading]) -> Reading | None:
    """How the set that is at `path`, or contains it, is read. None if `path` belongs to no set.

    Args:
        path: of a file or a folder.
        sets: the result of `readings_of_sets`.
    """
    absolute = _absolute(path)
    return next((reading for folder, reading in sets.items() if absolute.is_relative_to(folder)), None)


def _absolute(path: Path | str) -> Path:
    # Unlike Path.resolve, it takes a link that leads to itself; whoever reads the file refuses it.
    return Path(os.path.realpath(path))


def task_named(name: str | None) -> params.Task | None:
    """The task with this name. None for None.

    Raises:
        DataError: no task has this name.
    """
    tasks = get_args(params.Task)
    if name is not None and name not in tasks:
        raise DataError(f"--task {name}: is not a task; give one of {', '.join(tasks)}")
    return next((task for task in tasks if task == name), None)


def open_for_task(
    path: Path,
    plans: Sequence[FilePlan],
    columns: Mapping[str, str],
    group_by: str | None,
    order_by: str | None,
    task: params.Task | None,
    present: params.Task,
    *,
    keep: Sequence[str] = (),
    is_new: bool,
) -> tuple[params.Task, RawSet]:
    """The task that suits the rows, and the set as it is read for this task."""

    def opened(types: Sequence[RecordType] | None) -> RawSet:
        return raw_set.open_set(
            path, plans, columns=columns, record_types=types, group_by=group_by, order_by=order_by, keep=keep
        )

    if task is not None:
        return task, opened(TYPES_OF_TASK[task])
    try:
        as_present = opened(TYPES_OF_TASK[present])
    except DataError:
        # If this fails too, its error is about the set, not about a task that the user did not choose.
        found = opened(None)
        return task_named(choose.task_of(found.form.record_type)) or present, found
    if not is_new:
        return present, as_present
    try:
        found = opened(None)
    except DataError:
        # The files have several shapes, and only the present task reads all of them as the same record type.
        return present, as_present
    found_task = task_named(choose.task_of(found.form.record_type)) or present
    # The rows fit both tasks if the present task uses as many columns: poems, or stars as classes and as numbers.
    pairs = zip(as_present.shapes, found.shapes, strict=True)
    fits_both = all({*mine.columns} >= {*other.columns} for mine, other in pairs)
    return (present, as_present) if fits_both else (found_task, found)


def open_mixed(path: Path, plans: Sequence[FilePlan], columns: Mapping[str, str], task: params.Task) -> RawSet:
    """The set as it is read to be trained in addition to the raw set of a task.

    Raises:
        DataError: its rows cannot be read, or their record type cannot be mixed in.
    """

    def opened(types: Sequence[RecordType] | None) -> RawSet:
        return raw_set.open_set(path, plans, columns=columns, record_types=types, group_by=None, is_mixed=True)

    try:
        return opened(raw_set.MIXED[task])
    except DataError as error:
        try:
            found = opened(None)
        except DataError:
            raise error from None
        if found.form.record_type in raw_set.MIXED[task]:
            raise
        what, columns_of_it = _MIXED_ROWS[task]
        raise DataError(
            f"{path}: holds {found.form.record_type} rows, and only {what} can be mixed in; make it the raw set "
            f"(`tuneline use {path}`), or give {columns_of_it}"
        ) from None


def read(found: RawSet, max_fraction: float) -> Tally:
    """Read every row once, and count.

    Raises:
        DataError: the share of unusable rows is more than `max_fraction`.
    """
    tally = Tally(found, _NAMED_ROWS)
    for portion, shape in found.portions:
        for row in raw_set.read(portion, shape):
            tally.add(row)
    tally.check(max_fraction)
    return tally


def describe(path: Path, found: RawSet, tally: Tally) -> list[str]:
    """Lines that say what the set holds and how its files are read."""
    unusable = tally.reasons.total()
    messages = [
        f"{path}: {tally.rows - unusable:,} rows of {found.form.record_type}, {unusable:,} set aside",
        *_readings(found),
    ]
    names = sorted(set(choose.labels_by_file(found.files).values()))
    if found.form.record_type == "text" and len(names) <= _FEW_LABELS and not all(name.isdecimal() for name in names):
        messages.append(f"  if the names of its files are labels ({', '.join(names)}), give --task classification")
    remark = numbers_remark(tally.labels)
    messages += [f"  {remark}"] if remark else []
    messages += [f"  {line}" for line in tally.describe_unusable()]
    warnings = [*found.warnings, *labels.spelling_warnings(tally.labels)]
    return messages + [f"  warning: {warning}" for warning in warnings]


def numbers_remark(names: Iterable[str]) -> str:
    """What to say of the labels of a classification if all of them are numbers; empty if they are not, or are two."""
    found = [*names]
    if len(found) <= 2 or not all(map(_NUMBER.fullmatch, found)):
        return ""
    return "all labels are numbers: with --task regression they are predicted as numbers"


def describe_unused(found: RawSet) -> list[str]:
    """What columns that are not used are good for; empty if all are used."""
    has_unused = any(_unused(plan, shape) for plan, shape in zip(found.files, found.shapes, strict=True))
    hint = (
        "  columns that are not used are left out; to keep them, for slices, name them in data.keep_columns; to hold "
        "out the newest rows by a date, name its column in data.split.order_by"
    )
    return [hint] if has_unused else []


def _unused(plan: FilePlan, shape: Shape) -> list[str]:
    used = {*shape.columns, *shape.keep, shape.group_by, shape.order_by}
    return [column for column in plan.columns if column not in used] if plan.first_rows else []


def _readings(found: RawSet) -> Iterator[str]:
    """How the files are read, and which columns are not used; one line per shape."""
    ways: dict[str, int] = {}
    for plan, shape in zip(found.files, found.shapes, strict=True):
        if not plan.first_rows:
            continue  # an empty file: a warning names it
        unused = _unused(plan, shape)
        way = f"{shape.kind}, from {', '.join(shape.columns)}" if shape.columns else shape.kind
        way += f"; not used: {', '.join(unused)}" if unused else ""
        ways[way] = ways.get(way, 0) + 1
    yield from (f"  {count} file{'s' if count > 1 else ''} read as {way}" for way, count in ways.items())


def describe_overlong(found: RawSet, p: params.Params) -> list[str]:
    """Lines about rows that are longer than `finetune.max_length`; empty if no row is.

    The base's tokenizer counts the tokens. If there is none yet, they are estimated from bytes.
    """
    tokenizer = _tokenizer(p)
    size = long_rows.bytes_per_token(p)
    lengths = Lengths(tokenizer, p.finetune.max_length, size)
    batch: list[tuple[str, ...]] = []
    for number, row in enumerate(_encoded_texts(found), 1):
        batch.append(row)
        if len(batch) == _BATCH:
            lengths.add(batch)
            batch = []
        if number == MEASURED_ROWS:
            break
    if batch:
        lengths.add(batch)
    how = f"by the tokenizer of {tokenizer.parent}" if tokenizer else f"estimated with {size:g} bytes per token"
    tokens = lengths.values()
    among = f", the first {len(tokens):,} rows" if len(tokens) == MEASURED_ROWS else ""
    return long_rows.describe(tokens, how + among, p)


def _tokenizer(p: params.Params) -> Path | None:
    """The tokenizer file of a base that is given. A builtin base trains its own later, on text that may change."""
    if p.base.source == "builtin":
        return None
    folder = Path(p.base.input if p.base.source == "path" else p.paths.base)
    file = folder / "tokenizer.json"
    return file if file.is_file() else None


def _encoded_texts(found: RawSet) -> Iterator[tuple[str, ...]]:
    """The texts of each usable row that become tokens."""
    for portion, shape in found.portions:
        for row in raw_set.read(portion, shape):
            if not isinstance(row, Record):
                continue
            texts = field_texts.texts(found.form, row.values)
            if found.form.labelled:
                texts = texts[:1]
            elif found.form.record_type == "preference":
                texts = (texts[0], max(texts[1:], key=len))
            yield texts
