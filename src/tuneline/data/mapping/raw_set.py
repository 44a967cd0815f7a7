"""A raw set as the whole pipeline sees it: its files, the shape of each, and its rows as canonical records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tuneline.data.mapping.choose import count_first_rows, file_path, in_words, labels_by_file, shape_of
from tuneline.data.mapping.convert import Shape, Unknown
from tuneline.data.reading import readers
from tuneline.data.reading.formats.sniff import is_about_data
from tuneline.data.reading.grouped_messages import describe_excluded, group_messages
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected
from tuneline.data.records.record_form import TYPES_OF_TASK, Record, RecordForm, RecordType
from tuneline.errors import DataError
from tuneline.params import MIXABLE, Params
from tuneline.params.data import PRETRAINING, RAW, SetReading

SET_NAME = re.compile(r"\w[\w.-]{0,99}(?<!\.dvc)")
"""What a set's folder may be called."""

BAD_NAME = f"is no name for a set of a mixture: letters, digits, . - and _; not {RAW}, {PRETRAINING}, *.dvc"
MIXED: tuple[RecordType, ...] = tuple(kind for task in MIXABLE for kind in TYPES_OF_TASK[task])
"""What a set of a mixture may hold."""

_NAMED_ROWS = 5
_PLAIN = ("text", "document")


@dataclass(frozen=True)
class RawSet:
    """A raw set that can be used: its files, and the portions in which any process reads it."""

    path: str
    form: RecordForm
    files: tuple[FilePlan, ...]
    shapes: tuple[Shape, ...]
    """Of the files, in their order."""
    portions: tuple[tuple[Portion, Shape], ...]
    bytes: int
    """Of all files, unpacked."""
    warnings: tuple[str, ...]


def set_of(
    path: Path,
    plans: Sequence[FilePlan],
    *,
    columns: Mapping[str, str],
    record_types: Sequence[RecordType] | None,
    group_by: str | None,
    order_by: str | None = None,
    must_group: bool = True,
    is_mixed: bool = False,
) -> RawSet:
    """Find out what a raw set holds; its rows are not kept.

    Args:
        path: the folder of the set, or one file.
        plans: how its files are read.
        columns: field of the record -> column of the files; empty where known shapes are to be recognised.
        record_types: what the rows may be; None: what they are.
        group_by: column whose value keeps rows together.
        order_by: column by which the newest rows are held out.
        must_group: whether a file without these columns is refused; else its rows stand alone.
        is_mixed: whether it is trained beside another set, so never split: a file that is named as test is one, with or
            without others.

    Returns:
        The set.

    Raises:
        DataError: the set cannot be read, its columns are not understood, or it is of another record type; all
            problems of all files.
    """
    problems: list[str] = []
    left_out = [plan for plan in plans if plan.excluded]
    plans = [plan for plan in plans if not plan.excluded]
    if left_out and not plans:
        problems.append(f"{path}: no file is left to read: {describe_excluded(left_out)}; leave fewer out")
    elif not any(plan.refusal or plan.portions for plan in plans):
        named = ", ".join(plan.name for plan in plans[:_NAMED_ROWS])
        problems.append(f"{path}: holds no rows, in {len(plans)} file(s): {named}; put your text there")
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
                    label=labels.get(plan.name),
                )
            except DataError as error:
                refused += [(file_path(path, plan), problem) for problem in error.problems]
    problems += group_messages(refused)
    if len({shape.form for shape in shapes.values()}) > 1:
        problems.append(_several_kinds(path, shapes))
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
            f"{path}: {', '.join(named)} in the names of files says which rows they hold, but there is no {missing} "
            "file, so all rows are split anew"
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
    )


class RawSets(NamedTuple):
    """Every set that the params name."""

    raw: RawSet
    """To fine-tune on."""
    pretraining: RawSet
    mixture: dict[str, RawSet]
    """Name of a folder in paths.mixture -> its set, in the order of the names."""

    def all(self) -> list[RawSet]:
        """In the order in which they are prepared."""
        return [self.raw, self.pretraining, *self.mixture.values()]


def open_all(p: Params) -> RawSets:
    """The raw sets that the params name, as every stage sees them.

    Every folder in paths.mixture is a set, whether data.mixture names it or not: another weight prepares nothing anew.

    Args:
        p: all params.

    Returns:
        The sets.

    Raises:
        DataError: some of them cannot be used; all problems of all.
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
        wanted += [(f"{p.paths.mixture}/{name}", MIXED) for name in names]
        missing = sorted(p.data.mixture.keys() - {*names, PRETRAINING})
        known = ", ".join([*names, PRETRAINING])
        problems |= dict.fromkeys(
            f"data.mixture.{name}: there is no set of this name; there are {known}" for name in missing
        )
    try:
        readings_of_sets = readings(p, names)
    except DataError as error:
        raise DataError(*dict.fromkeys([*problems, *error.problems])) from None
    sets: list[RawSet] = []
    plans: dict[str, list[FilePlan]] = {}
    for path, record_types in wanted:
        try:
            if path not in plans:
                plans[path] = readers.plan(Path(path), readings_of_sets[path].options)
            one = set_of(
                Path(path),
                plans[path],
                columns=readings_of_sets[path].columns,
                record_types=record_types,
                group_by=p.data.split.group_by,
                order_by=p.data.split.order_by,
                # The columns are those of the set to fine-tune on; another set need not know them.
                must_group=path == p.data.raw,
                # The files of a frozen text say which rows were held out when it was written.
                is_mixed=path not in (p.data.raw, p.data.pretraining)
                or (path == p.data.pretraining and p.data.frozen_pretraining),
            )
            sets.append(one)
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise DataError(*problems)
    raw, pretraining, *mixture = sets
    return RawSets(raw, pretraining, dict(zip(names, mixture, strict=True)))


class Reading(NamedTuple):
    """How a set is read."""

    options: Options
    columns: Mapping[str, str]
    """Field of the record -> column of the files; empty where known names are to be recognised."""


def readings(p: Params, names: Sequence[str]) -> dict[str, Reading]:
    """How each set is read: data.encoding, data.layout and data.columns say it of `data.raw`, data.reading of others.

    Args:
        p: all params.
        names: of the sets of the mixture.

    Returns:
        Path of a set -> how it is read.

    Raises:
        DataError: data.reading names a set that is not there, or that of `data.raw`.
    """
    is_one = p.data.pretraining == p.data.raw
    problems = [
        f"data.reading.{name}: data.encoding, data.layout and data.columns say how the set of data.raw is read"
        for name in p.data.reading
        if name == RAW or (name == PRETRAINING and is_one)
    ]
    # A task that mixes nothing may keep what the next one needs.
    problems += [
        f"data.reading.{name}: there is no set of this name; there are {', '.join([PRETRAINING, *names])}"
        for name in p.data.reading
        if p.task in MIXABLE and name not in (RAW, PRETRAINING, *names)
    ]
    if problems:
        raise DataError(*problems)
    paths = {PRETRAINING: p.data.pretraining, **{name: f"{p.paths.mixture}/{name}" for name in names}}
    found = {path: reading_of(name, p.data.reading.get(name, SetReading())) for name, path in paths.items()}
    of_raw = Options(p.data.encoding, p.data.layout, exclude=tuple(p.data.exclude))
    return found | {p.data.raw: Reading(of_raw, p.data.columns)}


def reading_of(name: str, said: SetReading) -> Reading:
    """How a set other than `data.raw` is read.

    Args:
        name: `pretraining`, or of a set of the mixture.
        said: what data.reading says of it.
    """
    given = {key: value for key in ("encoding", "layout") if (value := getattr(said, key)) is not None}
    exclude = tuple(said.exclude)
    return Reading(Options(**given, param=f"data.reading.{name}.encoding", exclude=exclude), said.columns)


def is_mixture_name(name: str) -> bool:
    """Whether a set in a mixture may be called so; else it is BAD_NAME."""
    return name not in (RAW, PRETRAINING) and bool(SET_NAME.fullmatch(name))


def _sets_in(folder: Path) -> list[str]:
    """The names of the sets that a mixture may take."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    problems = [
        f"{path}: lies beside the folders of sets; lay it into a folder of its own, whose name data.mixture may give"
        for path in found
        if not path.is_dir() and path.suffix != ".dvc" and path.name != "README.md"
    ]
    names = [path.name for path in found if path.is_dir()]
    problems += [f"{folder / name}: {BAD_NAME}; rename it" for name in names if not is_mixture_name(name)]
    if problems:
        raise DataError(*problems)
    return names


def read(portion: Portion, shape: Shape) -> Iterator[Record | Rejected]:
    """The records of a portion and the rows set aside, in the order of the file; together they are all its rows.

    Args:
        portion: of a file.
        shape: of the same file.

    Yields:
        A record, or a row with the reason why it is none.
    """
    record = shape.record
    for row in readers.rows(portion):
        yield row if isinstance(row, Rejected) else record(row)


def check_rejected(
    path: str, rows: int, rejected: int, reasons: Mapping[str, int], first: Sequence[Rejected], max_fraction: float
) -> None:
    """Stop where too many rows were set aside.

    Args:
        path: of the set.
        rows: all of it, those set aside too.
        rejected: rows set aside.
        reasons: reason code -> rows.
        first: some of the rows set aside, to be named.
        max_fraction: share of all rows that may be set aside.

    Raises:
        DataError: more were, or no row is left; the first of them named.
    """
    if not rows:
        raise DataError(f"{path}: holds no rows; put your text there, or take your own with `tuneline use PATH`")
    if rejected <= max_fraction * rows and rejected < rows:
        return
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    named = first[:_NAMED_ROWS]
    raise DataError(
        f"{path}: {rejected:,} of {rows:,} rows cannot be used ({counts}), more than data.max_rejected_fraction "
        f"{max_fraction:g} allows; mend the rows, or raise it (`tuneline use PATH --max-rejected FRACTION`)",
        *(f"  {row.describe()}" for row in named),
        *([f"  and {rejected - len(named):,} more"] if rejected > len(named) else []),
    )


def _several_shapes(plan: FilePlan, shape: Shape, record_types: Sequence[RecordType] | None) -> str:
    """What to say of a file of which rows are set aside because they are of another shape; empty where none are."""
    counts = count_first_rows(plan, shape, record_types)
    if not counts.set_aside():
        return ""
    return (
        f"its rows are of several shapes: of the first {len(plan.first_rows):,} {in_words(counts.found())}; it is read "
        f"as {shape.kind}, and rows of another shape are set aside: make a file of each"
    )


def _several_kinds(path: Path, shapes: Mapping[str, Shape]) -> str:
    first_of: dict[RecordForm, list[str]] = {}
    for name, shape in shapes.items():
        first_of.setdefault(shape.form, []).append(name)
    words = []
    for form, names in first_of.items():
        words.append(f"{form} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})")
    about = [name for name in shapes if is_about_data(name)]
    remedy = "make a set of each"
    if about and any(set(names) <= set(about) for names in first_of.values()):
        remedy += f", or leave out what only tells of the data: {' '.join(f'--exclude {name}' for name in about[:3])}"
    return f"{path}: the files hold rows of several kinds: {'; '.join(words)}; {remedy}"
