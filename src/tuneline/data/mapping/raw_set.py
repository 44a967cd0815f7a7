"""A raw set as every stage reads it: its files, the shape of each file, and its rows as records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from tuneline.data.mapping.choose import count_first_rows, file_path, in_words, labels_by_file, shape_of
from tuneline.data.mapping.convert import Shape, Unknown
from tuneline.data.reading import readers
from tuneline.data.reading.formats.sniff import is_about_data
from tuneline.data.reading.grouped_messages import describe_excluded, group_messages
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected
from tuneline.data.records.record_form import TYPES_OF_TASK, Record, RecordForm, RecordType, kept_names
from tuneline.errors import DataError
from tuneline.params import MIXABLE, READS_GENERAL, TASK_KEYS, Params
from tuneline.params.data import PRETRAINING, RAW, SetReading

SET_NAME = re.compile(r"\w[\w.-]{0,99}(?<!\.dvc)")
"""The allowed names of a set in a mixture."""

BAD_NAME = (
    f"is not a valid name for a set of a mixture: use letters, digits, . - and _, but not {RAW}, {PRETRAINING} or *.dvc"
)
MIXED: dict[str, tuple[RecordType, ...]] = {
    task: tuple(kind for other in keys.mixes for kind in TYPES_OF_TASK[other]) for task, keys in TASK_KEYS.items()
}
"""Task -> the record types of the sets that can be trained in addition to the raw set."""

_NAMED_ROWS = 5


@dataclass(frozen=True)
class RawSet:
    """A raw set without problems: its files, and the portions in which processes read it."""

    path: str
    form: RecordForm
    files: tuple[FilePlan, ...]
    shapes: tuple[Shape, ...]
    """The shape of each file, in the order of `files`."""
    portions: tuple[tuple[Portion, Shape], ...]
    bytes: int
    """The size of all files, unpacked."""
    warnings: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    """Column that is kept beside the fields -> its name in the clean splits."""


def open_set(
    path: Path,
    plans: Sequence[FilePlan],
    *,
    columns: Mapping[str, str],
    record_types: Sequence[RecordType] | None,
    group_by: str | None,
    order_by: str | None = None,
    must_group: bool = True,
    is_mixed: bool = False,
    keep: Sequence[str] = (),
) -> RawSet:
    """The raw set in a folder or a file; its rows are not read into memory.

    Args:
        path: the folder or the file.
        plans: how its files are read.
        columns: field of the record -> column of the files; if empty, the columns are recognised by their names.
        record_types: the allowed types of the records; None: all.
        group_by: the column whose value keeps rows together.
        order_by: the column by which the newest rows are held out.
        must_group: whether a file without these columns is refused; else each of its rows is a group.
        is_mixed: whether the set is added to another one and so never split: its test file is a test file even without
            a train file.
        keep: columns of the files that are kept beside the fields.

    Raises:
        DataError: a file cannot be read, has no known shape or another record type; all problems of all files.
    """
    problems: list[str] = []
    left_out = [plan for plan in plans if plan.excluded]
    plans = [plan for plan in plans if not plan.excluded]
    if left_out and not plans:
        problems.append(f"{path}: no file is left to read: {describe_excluded(left_out)}; exclude fewer files")
    elif not any(plan.refusal or plan.portions for plan in plans):
        named = ", ".join(plan.name for plan in plans[:_NAMED_ROWS])
        problems.append(f"{path}: has no rows in its {len(plans)} file(s): {named}; add rows")
    shapes: dict[str, Shape] = {}
    refused: list[tuple[str, str]] = []
    labels = labels_by_file(plans) if record_types and "classification" in record_types else {}
    for plan in plans:
        if plan.refusal:
            refused.append((file_path(path, plan), plan.refusal))
        elif plan.first_rows:
            try:
                shapes[plan.name] = shape_of(
                    plan,
                    path=path,
                    columns=columns,
                    record_types=record_types,
                    group_by=group_by,
                    order_by=order_by,
                    must_group=must_group,
                    keep=keep,
                    label=labels.get(plan.name),
                )
            except DataError as error:
                refused += [(file_path(path, plan), problem) for problem in error.problems]
    problems += group_messages(refused)
    if len({shape.form for shape in shapes.values()}) > 1:
        problems.append(_several_types(path, shapes))
    if problems:
        raise DataError(*problems)
    form = next(iter(shapes.values())).form if shapes else RecordForm(record_types[0] if record_types else "text")
    warnings = group_messages([(file_path(path, plan), warning) for plan in plans for warning in plan.warnings])
    if left_out:
        warnings.append(f"{path}: {describe_excluded(left_out)}")
    warnings += group_messages(
        [
            (file_path(path, plan), warning)
            for plan in plans
            if plan.name in shapes and (warning := _several_shapes(plan, shapes[plan.name], record_types))
        ]
    )
    splits = {plan.split for plan in plans if plan.first_rows}
    is_split = is_mixed or {"train", "test"} <= splits
    if not is_split and (named := sorted(split for split in splits if split)):
        missing = " and no ".join(split for split in ("train", "test") if split not in splits)
        warnings.append(
            f"{path}: names of files contain {', '.join(named)}, but the set has no {missing} file, so the names are "
            "ignored and all rows are split"
        )
    of_files: list[Shape] = []
    for plan in plans:
        shape = shapes.get(plan.name) or Shape(plan.name, "unknown", form, Unknown())
        of_files.append(replace(shape, split=plan.split if is_split else None))
    return RawSet(
        path.as_posix(),
        form,
        tuple(plans),
        tuple(of_files),
        tuple((portion, shape) for plan, shape in zip(plans, of_files, strict=True) for portion in plan.portions),
        sum(plan.bytes for plan in plans),
        tuple(warnings),
        kept_names(keep),
    )


class RawSets(NamedTuple):
    """All sets that the params name."""

    raw: RawSet
    """The set of data.raw, for fine-tuning."""
    pretraining: RawSet
    mixture: dict[str, RawSet]
    """Name of a folder in paths.mixture -> its set, sorted by name."""

    def all(self) -> list[RawSet]:
        """All sets, in the order in which they are prepared."""
        return [self.raw, self.pretraining, *self.mixture.values()]


def open_all(p: Params) -> RawSets:
    """The raw sets that the params name.

    Every folder in paths.mixture is a set, even if data.mixture does not name it: a change of weights prepares nothing.
    A folder that only another task can read, and that no param names, is left for that task.

    Args:
        p: all params.

    Raises:
        DataError: a set cannot be used; all problems of all sets.
    """
    problems: dict[str, None] = {}
    wanted: list[tuple[str, tuple[RecordType, ...]]] = [
        (p.data.raw, TYPES_OF_TASK[p.task]),
        (p.data.pretraining, ("text",)),
    ]
    names: list[str] = []
    if p.task in MIXABLE:
        try:
            names = _sets_in(Path(p.paths.mixture))
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
        wanted += [(f"{p.paths.mixture}/{name}", MIXED[p.task]) for name in names]
        missing = sorted(p.data.mixture.keys() - {*names, PRETRAINING})
        known = ", ".join([*names, PRETRAINING])
        problems |= dict.fromkeys(
            f"data.mixture.{name}: no set has this name; the sets are {known}" for name in missing
        )
        if p.data.general is not None and p.data.general not in names:
            problems[
                f"data.general: no set has the name {p.data.general}; the sets are {', '.join(names) or 'none'}"
            ] = None
    try:
        readings_of_sets = readings(p, names)
    except DataError as error:
        raise DataError(*dict.fromkeys([*problems, *error.problems])) from None
    sets: list[RawSet] = []
    of_mixture: dict[str, RawSet] = {}
    unnamed = {f"{p.paths.mixture}/{name}" for name in names if name not in (*p.data.mixture, p.data.general)}
    plans: dict[str, list[FilePlan]] = {}
    for number, (path, record_types) in enumerate(wanted):
        try:
            if path not in plans:
                plans[path] = readers.plan(Path(path), readings_of_sets[path].options)
            raw_set = open_set(
                Path(path),
                plans[path],
                columns=readings_of_sets[path].columns,
                record_types=record_types,
                group_by=p.data.split.group_by,
                order_by=p.data.split.order_by,
                # The columns are those of the set of data.raw; other sets may not have them.
                must_group=path == p.data.raw,
                # The names of the files of a frozen text say which rows were held out when it was written.
                is_mixed=path not in (p.data.raw, p.data.pretraining)
                or (path == p.data.pretraining and p.data.frozen_pretraining),
                keep=p.data.keep_columns if number == 0 else (),
            )
            if number < 2:
                sets.append(raw_set)
            else:
                of_mixture[Path(path).name] = raw_set
        except DataError as error:
            if path in unnamed and _is_for_another_task(path, plans, readings_of_sets[path].columns, p.task):
                continue
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise DataError(*problems)
    raw, pretraining = sets
    return RawSets(raw, pretraining, of_mixture)


def _is_for_another_task(
    path: str, plans: Mapping[str, Sequence[FilePlan]], columns: Mapping[str, str], task: str
) -> bool:
    """Whether the files can be read as a set of the mixture of a task that reads other records than `task`."""
    every: dict[RecordType, None] = dict.fromkeys(kind for kinds in MIXED.values() for kind in kinds)
    others: list[RecordType] = [kind for kind in every if kind not in MIXED[task]]
    try:
        open_set(
            Path(path), plans.get(path, ()), columns=columns, record_types=others, group_by=None, must_group=False,
            is_mixed=True,
        )  # fmt: skip
    except DataError:
        return False
    return True


class Reading(NamedTuple):
    """How a set is read."""

    options: Options
    columns: Mapping[str, str]
    """Field of the record -> column of the files; if empty, the columns are recognised by their names."""


def readings(p: Params, names: Sequence[str]) -> dict[str, Reading]:
    """How each set is read: data.raw by data.encoding, data.layout and data.columns, the others by data.reading.

    Args:
        p: all params.
        names: the names of the sets of the mixture.

    Returns:
        Path of a set -> how it is read.

    Raises:
        DataError: data.reading names the set of data.raw, or a set that does not exist.
    """
    is_same = p.data.pretraining == p.data.raw
    problems = [
        f"data.reading.{name}: remove it; the set of data.raw is read by data.encoding, data.layout and data.columns"
        for name in p.data.reading
        if name == RAW or (name == PRETRAINING and is_same)
    ]
    # A task without a mixture, or whose mixture is empty, keeps these params for the next task.
    problems += [
        f"data.reading.{name}: no set has this name; the sets are {', '.join([PRETRAINING, *names])}"
        for name in p.data.reading
        if (p.task in READS_GENERAL or p.data.mixture) and name not in (RAW, PRETRAINING, *names)
    ]
    if problems:
        raise DataError(*problems)
    paths = {PRETRAINING: p.data.pretraining, **{name: f"{p.paths.mixture}/{name}" for name in names}}
    likely = encodings_of(p)
    found = {path: set_reading(name, p.data.reading.get(name, SetReading()), likely) for name, path in paths.items()}
    of_raw = Options(p.data.encoding, p.data.layout, exclude=tuple(p.data.exclude), likely=likely)
    return found | {p.data.raw: Reading(of_raw, p.data.columns)}


def encodings_of(p: Params) -> tuple[str, ...]:
    """The encodings of the project's sets that params.yaml names, without UTF-8."""
    named = [p.data.encoding, *(section.encoding for section in p.data.reading.values())]
    return tuple(dict.fromkeys(name for name in named if name and name != Options().encoding))


def set_reading(name: str, section: SetReading, likely: tuple[str, ...] = ()) -> Reading:
    """How a set other than data.raw is read.

    Args:
        name: `pretraining`, or the name of a set of the mixture.
        section: its section of data.reading.
        likely: encodings of other sets of the project.
    """
    given = {key: value for key in ("encoding", "layout") if (value := getattr(section, key)) is not None}
    exclude = tuple(section.exclude)
    options = Options(**given, param=f"data.reading.{name}.encoding", exclude=exclude, likely=likely)
    return Reading(options, section.columns)


def is_mixture_name(name: str) -> bool:
    """Whether a set of a mixture may have this name; if not, the message is BAD_NAME."""
    return name not in (RAW, PRETRAINING) and bool(SET_NAME.fullmatch(name))


def _sets_in(folder: Path) -> list[str]:
    """The names of the sets in the folder of a mixture."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    problems = [
        f"{path}: is not in the folder of a set; move it into a folder, and name the folder in data.mixture"
        for path in found
        if not path.is_dir() and path.suffix != ".dvc" and path.name != "README.md"
    ]
    names = [path.name for path in found if path.is_dir()]
    problems += [f"{folder / name}: {BAD_NAME}; rename it" for name in names if not is_mixture_name(name)]
    if problems:
        raise DataError(*problems)
    return names


def read(portion: Portion, shape: Shape) -> Iterator[Record | Rejected]:
    """Every row of a portion in the order of the file: a record, or a rejected row with its reason.

    Args:
        portion: the portion of a file.
        shape: the shape of the same file.
    """
    record = shape.record
    for row in readers.rows(portion):
        yield row if isinstance(row, Rejected) else record(row)


def check_rejected(
    path: str, rows: int, rejected: int, reasons: Mapping[str, int], first: Sequence[Rejected], max_fraction: float
) -> None:
    """Raise an error if too many rows were set aside.

    Args:
        path: the path of the set.
        rows: the number of all rows, with those set aside.
        rejected: the number of rows set aside.
        reasons: reason -> number of rows.
        first: some of the rows set aside, for the message.
        max_fraction: the largest share of rows that may be set aside.

    Raises:
        DataError: more rows were set aside, or no row is left.
    """
    if not rows:
        raise DataError(f"{path}: has no rows; add rows, or use your own data with `tuneline use PATH`")
    if rejected <= max_fraction * rows and rejected < rows:
        return
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    named = first[:_NAMED_ROWS]
    raise DataError(
        f"{path}: {rejected:,} of {rows:,} rows cannot be used ({counts}), more than data.max_rejected_fraction "
        f"{max_fraction:g} allows; correct the rows, or raise it (`tuneline use PATH --max-rejected FRACTION`)",
        *(f"  {row.describe()}" for row in named),
        *([f"  and {rejected - len(named):,} more"] if rejected > len(named) else []),
    )


def _several_shapes(plan: FilePlan, shape: Shape, record_types: Sequence[RecordType] | None) -> str:
    """The warning about a file with rows of another shape, which are set aside; empty if it has none."""
    counts = count_first_rows(plan, shape, record_types)
    if not counts.set_aside():
        return ""
    return (
        f"its rows have several shapes; of the first {len(plan.first_rows):,} rows: {in_words(counts.found())}; it is "
        f"read as {shape.kind}, and rows of another shape are set aside: write one file per shape"
    )


def _several_types(path: Path, shapes: Mapping[str, Shape]) -> str:
    first_of: dict[RecordForm, list[str]] = {}
    for name, shape in shapes.items():
        first_of.setdefault(shape.form, []).append(name)
    words = []
    for form, names in first_of.items():
        words.append(f"{form} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})")
    about = [name for name in shapes if is_about_data(name)]
    remedy = "make one set per type"
    if about and any(set(names) <= set(about) for names in first_of.values()):
        remedy += (
            f", or exclude the files that only describe the data: {' '.join(f'--exclude {name}' for name in about[:3])}"
        )
    return f"{path}: the files contain rows of several types: {'; '.join(words)}; {remedy}"
