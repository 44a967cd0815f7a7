"""Your own text: read as the pipeline would, copied to data/raw, put under DVC, and named in params.yaml."""

import codecs
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from tuneline import files, params, pipeline
from tuneline.data.judging.tallies import Tally
from tuneline.data.mapping import choosing, labelnames, records
from tuneline.data.mapping.records import TYPES_OF_TASK, RawSet
from tuneline.data.reading import readers
from tuneline.data.reading.rows import FilePlan, Options
from tuneline.errors import DataError
from tuneline.params import editing, gate

RAW = Path("data/raw")

_NAMED_ROWS = 5
_FEW_LABELS = 20


def use(
    path: Path,
    *,
    name: str | None,
    group_by: str | None,
    columns: Mapping[str, str],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None = None,
    task: str | None = None,
) -> Iterator[str]:
    """Make the text at `path` the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        name: of the set, a folder under data/raw; by default that of `path`.
        group_by: column whose value keeps rows together when they are split; None: as the set was split before, or
            rows with the same prompt.
        columns: field of the record -> column of the files; empty: as the set was read before, or by known names.
        encoding: of the files; None: as the set was read before, or UTF-8.
        layout: of plain text; None: as the set was read before, or rows.
        task: what is learnt from it; None: the present task where the rows fit it, else the one that they fit best.

    Yields:
        What was found and done, a line each.

    Raises:
        DataError: the text cannot be used; nothing was changed.
    """
    p = params.load()
    name = name or _name_of(path)
    if not records.SET_NAME.fullmatch(name):
        raise DataError(f"{name!r}: is no name for a folder under {RAW}; give one with --name, of letters and digits")
    target = RAW / name
    if target.as_posix() in (p.paths.sample, p.paths.sample_text):
        raise DataError(f"{target}: belongs to the built-in corpus, which is made anew; choose another with --name")
    order_by = None
    options = Options(_known(encoding or Options().encoding), layout or Options().layout)
    if target.as_posix() == p.data.raw:
        # The next month's files are split and read as the last month's were, unless this call says otherwise.
        group_by, columns = group_by or p.data.split.group_by, columns or p.data.columns
        order_by = p.data.split.order_by
        options = Options(_known(encoding or p.data.encoding), layout or p.data.layout)
    plans = readers.plan(path, options)
    learnt, found = _open(path, plans, columns, group_by, order_by, _task(task), p.task)
    yield from _read(path, found, p.data.max_rejected_fraction)
    _copy(path, target)
    pipeline.add(target)
    yield f"{target}: copied, and under DVC ({target}.dvc)"
    if target.as_posix() != p.data.raw:
        yield from _of_another_set(p)
    if left_out := [rule.metric for rule in p.gate.rules if gate.problem_of_task(rule, learnt)]:
        yield f"  gate.rules on {', '.join(left_out)} are left out, as task {learnt} does not measure that"
    values = _values(p, learnt, target, group_by, columns, options)
    editing.set_values(Path(params.PARAMS_FILE), values)
    yield from (f"{params.PARAMS_FILE}: {key}: {value}" for key, value in values.items())
    params.load()
    yield "next: make run"


def mix(
    path: Path,
    *,
    name: str | None,
    weight: float,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    layout: params.Layout | None = None,
) -> Iterator[str]:
    """Train the text at `path` beside the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        name: of the set, a folder under paths.mixture; by default that of `path`.
        weight: how often each of its examples comes in an epoch.
        columns: field of the record -> column of the files; empty: as data.reading says, or by known names.
        encoding: of the files; None: as data.reading says, or UTF-8.
        layout: of plain text; None: as data.reading says, or rows.

    Yields:
        What was found and done, a line each.

    Raises:
        DataError: the text cannot be used; nothing was changed.
    """
    p = params.load()
    try:
        params.MixtureSet(weight=weight)
    except ValidationError as error:
        raise DataError(f"--mix: {weight:g}: {error.errors()[0]['msg'].lower()}") from None
    if p.task not in params.MIXABLE:
        raise DataError(
            f"--mix: has no meaning for task {p.task}: only where text is learnt ({', '.join(params.MIXABLE)}) may "
            "sets be mixed"
        )
    name = name or _name_of(path)
    target = Path(p.paths.mixture) / name
    if not records.is_mixture_name(name):
        raise DataError(f"{target}: {records.BAD_NAME}; give another with --name")
    said = {"encoding": encoding and _known(encoding), "layout": layout, "columns": dict(columns or {})}
    before = p.data.reading.get(name, params.SetReading()).model_dump(exclude_defaults=True)
    reading = before | {key: value for key, value in said.items() if value}
    way = records.reading_of(name, params.SetReading(**reading))
    plans = readers.plan(path, way.options)
    found = records.set_of(path, plans, columns=way.columns, record_types=records.MIXED, group_by=None, is_mixed=True)
    yield from _read(path, found, p.data.max_rejected_fraction)
    _copy(path, target)
    pipeline.add(target)
    yield f"{target}: copied, and under DVC ({target}.dvc)"
    kept = {other: one.model_dump(exclude_unset=True) for other, one in p.data.mixture.items()}
    values: dict[str, Any] = {"data.mixture": kept | {name: kept.get(name, {}) | {"weight": weight}}}
    if reading != before:
        others = {other: one.model_dump(exclude_defaults=True) for other, one in p.data.reading.items()}
        values["data.reading"] = others | {name: reading}
    editing.set_values(Path(params.PARAMS_FILE), values)
    yield from (f"{params.PARAMS_FILE}: {key}: {value}" for key, value in values.items())
    params.load()
    yield "next: make run"


def _name_of(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name


def _known(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(f"--encoding {encoding}: is no encoding that Python knows; utf-8 and gb18030 are two") from None
    return encoding


def _task(name: str | None) -> params.Task | None:
    tasks = get_args(params.Task)
    if name is not None and name not in tasks:
        raise DataError(f"--task {name}: is no task; give one of {', '.join(tasks)}")
    return next((task for task in tasks if task == name), None)


def _open(
    path: Path,
    plans: Sequence[FilePlan],
    columns: Mapping[str, str],
    group_by: str | None,
    order_by: str | None,
    task: params.Task | None,
    present: params.Task,
) -> tuple[params.Task, RawSet]:
    """The task that the rows are for, and the set as it is read for it."""

    def opened(types: Sequence[records.RecordType] | None) -> RawSet:
        return records.set_of(path, plans, columns=columns, record_types=types, group_by=group_by, order_by=order_by)

    if task is not None:
        return task, opened(TYPES_OF_TASK[task])
    try:
        return present, opened(TYPES_OF_TASK[present])
    except DataError:
        # What is wrong with the set is said by its own reading, not by that for a task which nobody named.
        found = opened(None)
    return _task(choosing.task_of(found.record_type)) or present, found


def _read(path: Path, found: RawSet, max_fraction: float) -> Iterator[str]:
    """Read every row once, and say what was found."""
    tally = Tally(found, _NAMED_ROWS)
    for portion, shape in found.portions:
        for row in records.read(portion, shape):
            tally.add(row)
    tally.check(max_fraction)
    aside = tally.reasons.total()
    yield f"{path}: {tally.rows - aside:,} rows of {found.record_type}, {aside:,} set aside"
    yield from _describe(found)
    labels = sorted(set(labelnames.label_names(found.files).values()))
    if found.record_type == "text" and len(labels) <= _FEW_LABELS and not all(label.isdecimal() for label in labels):
        yield f"  the names of its files could be labels ({', '.join(labels)}): if they are, give --task classification"
    yield from (f"  {row.describe()}" for row in tally.first)
    yield from (f"  warning: {warning}" for warning in found.warnings)


def _describe(found: RawSet) -> Iterator[str]:
    """How the files are read, a line for each way; with the columns that are left alone."""
    ways: dict[str, int] = {}
    for plan, shape in zip(found.files, found.shapes, strict=True):
        used = {*shape.columns, shape.group_by, shape.order_by}
        unused = [column for column in plan.columns if column not in used]
        way = f"{shape.kind}, from {', '.join(shape.columns)}" if shape.columns else shape.kind
        way += f"; not used: {', '.join(unused)}" if unused else ""
        ways[way] = ways.get(way, 0) + 1
    yield from (f"  {count} file{'s' if count > 1 else ''} read as {way}" for way, count in ways.items())


def _copy(path: Path, target: Path) -> None:
    """Only what was read: hidden files beside it are none of the pipeline's business."""
    if path.resolve() == target.resolve():
        return
    with files.atomic_folder(target) as beside:
        if path.is_file():
            shutil.copyfile(path, beside / path.name)
        else:
            shutil.copytree(path, beside, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


def _of_another_set(p: params.Params) -> Iterator[str]:
    """What params.yaml says of the set before, and holds for this one too."""
    if p.data.raw != p.paths.sample:
        yield (
            f"  registry.model stays {p.registry.model}: its champion is whom the gate compares with; name another in "
            f"{params.PARAMS_FILE} where this is another model"
        )


def _values(
    p: params.Params,
    task: params.Task,
    target: Path,
    group_by: str | None,
    columns: Mapping[str, str],
    options: Options,
) -> dict[str, Any]:
    """What changes in params.yaml."""
    values: dict[str, Any] = {
        "task": task,
        "data.raw": target.as_posix(),
        "data.encoding": options.encoding,
        "data.layout": options.layout,
        "data.columns": dict(columns),
        "data.split.group_by": group_by,
    }
    values |= _reading(p, target)
    if target.as_posix() != p.data.raw and p.data.split.order_by is not None:
        # The column by which another set was ordered says nothing about this one.
        values |= dict.fromkeys(("data.split.order_by", "data.split.validation_from", "data.split.test_from"))
    if p.data.raw == p.paths.sample:
        # Another model than the built-in one deserves a name, and a champion, of its own.
        values["registry.model"] = re.sub(r"[^A-Za-z0-9._-]", "-", target.name).lstrip("._-") or "model"
    if task not in params.MIXABLE and p.data.mixture:
        values["data.mixture"] = {}
    if task == "preference" and p.finetune.fsdp:
        values["finetune.fsdp"] = None
    rules = [rule for rule in p.gate.rules if gate.problem_of_task(rule, task) is None]
    if len(rules) < len(p.gate.rules):
        values["gate.rules"] = [rule.model_dump(exclude_none=True) for rule in rules] or [_first_rule(task)]
    return values


def _reading(p: params.Params, target: Path) -> dict[str, Any]:
    """How the pretraining text is read, where it was the raw set until now, or becomes it."""
    others = {name: one.model_dump(exclude_defaults=True) for name, one in p.data.reading.items()}
    if p.data.pretraining == target.as_posix():
        others.pop(params.PRETRAINING, None)
    elif p.data.pretraining == p.data.raw:
        as_before = {"encoding": p.data.encoding, "layout": p.data.layout, "columns": dict(p.data.columns)}
        usual = {"encoding": Options().encoding, "layout": Options().layout, "columns": {}}
        if said := {key: value for key, value in as_before.items() if value != usual[key]}:
            others[params.PRETRAINING] = said
    known = {name: one.model_dump(exclude_defaults=True) for name, one in p.data.reading.items()}
    return {} if others == known else {"data.reading": others}


def _first_rule(task: params.Task) -> dict[str, Any]:
    """A rule for a task of which the present rules measure nothing: to be better than what costs nothing."""
    metric = gate.METRICS_OF_TASK[task][0]
    versus = "baseline" if task in ("classification", "regression") else "base"
    return {"metric": metric, "direction": gate.METRICS[metric].better, "versus": versus, "margin": 0.0}
