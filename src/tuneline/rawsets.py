"""Your own text: read as the pipeline would, copied to data/raw, put under DVC, and named in params.yaml."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from tuneline import basetext, files, overlong, params, pipeline, suggested
from tuneline.data.judging.tallies import Tally
from tuneline.data.mapping import choosing, labelnames, records
from tuneline.data.mapping.records import TYPES_OF_TASK, RawSet
from tuneline.data.reading import encodings, places, readers
from tuneline.data.reading import plans as file_plans
from tuneline.data.reading.rows import FilePlan, Options
from tuneline.errors import DataError, ParamsError
from tuneline.params import editing
from tuneline.suggested import BaseKind, Case

RAW = Path("data/raw")

_NAMED_ROWS = 5
_FEW_LABELS = 20
_ARCHIVES = (*file_plans.UNPACKED_SUFFIXES, ".zip", ".tar", ".tgz")
_EXPECT: dict[params.Task, dict[BaseKind, str]] = {
    "sft": {
        "builtin": "answers in the form of yours that are seldom right; a real base makes them useful",
        "model": "answers in the form of yours, with what the base knows",
    },
    "language-modeling": {
        "builtin": "text in the form of yours that means little; a real base makes it useful",
        "model": "text in the manner of yours, with what the base knows",
    },
    "classification": {
        "builtin": "a few points less than a linear model of words (TF-IDF) reaches; a real base reaches more",
        "model": "more than a linear model of words (TF-IDF) where single words do not decide",
    },
    "regression": {
        "builtin": "a few points less than a linear model of words (TF-IDF) reaches; a real base reaches more",
        "model": "more than a linear model of words (TF-IDF) where single words do not decide",
    },
    "preference": {
        "builtin": "to tell the better answer by its form; a base that was tuned on instructions makes it useful",
        "model": "to prefer what people preferred; a base that was tuned on instructions before suits it best",
    },
}
"""What a person may expect of a model of a task, by its base."""


@dataclass(frozen=True)
class _Changes:
    """What becomes of params.yaml, and what is said about it."""

    values: dict[str, Any]
    said: list[str]


def use(
    path: Path,
    *,
    name: str | None,
    group_by: str | None,
    columns: Mapping[str, str],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None = None,
    task: str | None = None,
    exclude: Sequence[str] = (),
    max_rejected: float | None = None,
) -> list[str]:
    """Make the text at `path` the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        name: of the set, a folder under data/raw; by default that of `path`.
        group_by: column whose value keeps rows together when they are split; None: as the set was split before, or
            rows with the same prompt.
        columns: field of the record -> column of the files; empty: as the set was read before, or by known names.
        encoding: of the files; None: as the set was read before, or UTF-8.
        layout: of plain text; None: as the set was read before, or rows.
        task: what is learnt from it; None: what the rows show, where they show several what params.yaml says.
        exclude: patterns of files that are left out; empty: as the set was read before, or none.
        max_rejected: share of the rows that may be set aside; None: what params.yaml says.

    Returns:
        What was found and done, line by line.

    Raises:
        DataError: the text cannot be used; nothing was changed.
        ParamsError: what suits the set does not fit what params.yaml says besides; nothing was changed.
    """
    p = params.load()
    name = name or _name_of(path)
    if not records.SET_NAME.fullmatch(name):
        raise DataError(f"{name!r}: is no name for a folder under {RAW}; give one with --name, of letters and digits")
    target = RAW / name
    if target.as_posix() in (p.paths.sample, p.paths.sample_text):
        raise DataError(f"{target}: belongs to the built-in corpus, which is made anew; choose another with --name")
    is_new = target.as_posix() != p.data.raw
    order_by = None
    changed = _rejected(p, max_rejected)
    p = _with_rejected(p, max_rejected)
    options = Options(encoding or Options().encoding, layout or Options().layout, exclude=tuple(exclude))
    if not is_new:
        # The next month's files are split and read as the last month's were, unless this call says otherwise.
        group_by, columns = group_by or p.data.split.group_by, columns or p.data.columns
        order_by = p.data.split.order_by
        kept = tuple(exclude) or tuple(p.data.exclude)
        options = Options(encoding or p.data.encoding, layout or p.data.layout, exclude=kept)
    plans = readers.plan(path, options)
    learnt, found = _open(path, plans, columns, group_by, order_by, _task(task), p.task, is_new=is_new)
    tally = _read(found, p.data.max_rejected_fraction)
    said = _describe(path, found, tally)
    values = _of_the_set(p, learnt, target, group_by, columns, options) | changed
    usable = tally.rows - tally.reasons.total()
    shares = _shares(p, usable, is_new=is_new)
    values |= shares.values
    split = {key.removeprefix("data.split."): value for key, value in values.items() if key.startswith("data.split.")}
    text = target.with_name(target.name + basetext.SUFFIX)
    with _undoing(text):
        base, train, test = _base(p, found, text, learnt, p.data.split.model_copy(update=split), usable)
        suited = _suited(p, learnt, train, test, is_new=is_new)
        values |= base.values | suited.values
        values |= _reading(p, target, values)
        _refuse_unfit(values)
        _copy(path, target, options.exclude)
        pipeline.add(target, *([text] if text.exists() else []))
    said.append(f"{target}: copied, and under DVC ({target}.dvc)")
    if is_new:
        said += _of_another_set(p)
    said += [*base.said, *shares.said, *suited.said]
    editing.set_values(Path(params.PARAMS_FILE), values)
    said += _lines(values)
    said += overlong.describe(found, params.load())
    return [*said, "next: make run"]


def mix(
    path: Path,
    *,
    name: str | None,
    weight: float,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    layout: params.Layout | None = None,
    exclude: Sequence[str] = (),
    max_rejected: float | None = None,
) -> list[str]:
    """Train the text at `path` beside the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        name: of the set, a folder under paths.mixture; by default that of `path`.
        weight: how often each of its examples comes in an epoch.
        columns: field of the record -> column of the files; empty: as data.reading says, or by known names.
        encoding: of the files; None: as data.reading says, or UTF-8.
        layout: of plain text; None: as data.reading says, or rows.
        exclude: patterns of files that are left out; empty: as data.reading says, or none.
        max_rejected: share of the rows that may be set aside; None: what params.yaml says.

    Returns:
        What was found and done, line by line.

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
    changed = _rejected(p, max_rejected)
    p = _with_rejected(p, max_rejected)
    if encoding:
        encodings.check(encoding)
    asked = {
        "encoding": encoding,
        "layout": layout,
        "columns": dict(columns or {}),
        "exclude": list(exclude),
    }
    before = p.data.reading.get(name, params.SetReading()).model_dump(exclude_defaults=True)
    reading = before | {key: value for key, value in asked.items() if value}
    way = records.reading_of(name, params.SetReading(**reading))
    found = _open_mixed(path, readers.plan(path, way.options), way.columns)
    tally = _read(found, p.data.max_rejected_fraction)
    said = _describe(path, found, tally)
    _copy(path, target, way.options.exclude)
    pipeline.add(target)
    kept = {other: one.model_dump(exclude_unset=True) for other, one in p.data.mixture.items()}
    values: dict[str, Any] = {"data.mixture": kept | {name: kept.get(name, {}) | {"weight": weight}}}
    values |= changed
    if reading != before:
        others = {other: one.model_dump(exclude_defaults=True) for other, one in p.data.reading.items()}
        values["data.reading"] = others | {name: reading}
    editing.set_values(Path(params.PARAMS_FILE), values)
    params.load()
    return [*said, f"{target}: copied, and under DVC ({target}.dvc)", *_lines(values), "next: make run"]


def _name_of(path: Path) -> str:
    """The name of a file without what says how it is written, as in pairs.jsonl.gz; or that of a folder."""
    if not path.is_file():
        return path.resolve().name
    name = path
    while name.suffix.lower() in _ARCHIVES:
        name = name.with_suffix("")
    is_format = name == path or name.suffix[1:].isalpha()
    return name.stem if is_format else name.name


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
    *,
    is_new: bool,
) -> tuple[params.Task, RawSet]:
    """The task that the rows are for, and the set as it is read for it."""

    def opened(types: Sequence[records.RecordType] | None) -> RawSet:
        return records.set_of(path, plans, columns=columns, record_types=types, group_by=group_by, order_by=order_by)

    if task is not None:
        return task, opened(TYPES_OF_TASK[task])
    try:
        as_present = opened(TYPES_OF_TASK[present])
    except DataError:
        # What is wrong with the set is said by its own reading, not by that for a task which nobody named.
        found = opened(None)
        return _task(choosing.task_of(found.record_type)) or present, found
    if not is_new:
        return present, as_present
    try:
        found = opened(None)
    except DataError:
        # Its files are of several kinds, and only the present task reads them alike.
        return present, as_present
    shown = _task(choosing.task_of(found.record_type)) or present
    # Rows fit both tasks where the present one leaves no column unread: a poem, or stars as classes and as numbers.
    pairs = zip(as_present.shapes, found.shapes, strict=True)
    fits_both = all({*mine.columns} >= {*other.columns} for mine, other in pairs)
    return (present, as_present) if fits_both else (shown, found)


def _open_mixed(path: Path, plans: Sequence[FilePlan], columns: Mapping[str, str]) -> RawSet:
    def opened(types: Sequence[records.RecordType] | None) -> RawSet:
        return records.set_of(path, plans, columns=columns, record_types=types, group_by=None, is_mixed=True)

    try:
        return opened(records.MIXED)
    except DataError as error:
        try:
            found = opened(None)
        except DataError:
            raise error from None
        if found.record_type in records.MIXED:
            raise
        raise DataError(
            f"{path}: holds {found.record_type} rows, and only pairs, conversations and plain text may be mixed in; "
            f"make it the raw set instead (`tuneline use {path}`), or bring what is to be learnt as a column `text`, "
            "or as `prompt` and `completion`"
        ) from None


def _read(found: RawSet, max_fraction: float) -> Tally:
    """Read every row once."""
    tally = Tally(found, _NAMED_ROWS)
    for portion, shape in found.portions:
        for row in records.read(portion, shape):
            tally.add(row)
    tally.check(max_fraction)
    return tally


def _describe(path: Path, found: RawSet, tally: Tally) -> list[str]:
    """What was read."""
    aside = tally.reasons.total()
    said = [f"{path}: {tally.rows - aside:,} rows of {found.record_type}, {aside:,} set aside", *_ways(found)]
    labels = sorted(set(labelnames.label_names(found.files).values()))
    if found.record_type == "text" and len(labels) <= _FEW_LABELS and not all(label.isdecimal() for label in labels):
        said.append(
            f"  the names of its files could be labels ({', '.join(labels)}): if they are, give --task classification"
        )
    said += [f"  {row.describe()}" for row in tally.first]
    return said + [f"  warning: {warning}" for warning in found.warnings]


def _ways(found: RawSet) -> Iterator[str]:
    """How the files are read, a line for each way; with the columns that are left alone."""
    ways: dict[str, int] = {}
    for plan, shape in zip(found.files, found.shapes, strict=True):
        if not plan.first_rows:
            continue  # an empty file: a warning names it
        used = {*shape.columns, shape.group_by, shape.order_by}
        unused = [column for column in plan.columns if column not in used]
        way = f"{shape.kind}, from {', '.join(shape.columns)}" if shape.columns else shape.kind
        way += f"; not used: {', '.join(unused)}" if unused else ""
        ways[way] = ways.get(way, 0) + 1
    yield from (f"  {count} file{'s' if count > 1 else ''} read as {way}" for way, count in ways.items())


def _rejected(p: params.Params, fraction: float | None) -> dict[str, Any]:
    """What becomes of the share of rows that may be set aside; None: nothing."""
    return {} if fraction in (None, p.data.max_rejected_fraction) else {"data.max_rejected_fraction": fraction}


def _with_rejected(p: params.Params, fraction: float | None) -> params.Params:
    """The params with this share of rows that may be set aside; None: as they are."""
    if fraction is None:
        return p
    return p.model_copy(update={"data": p.data.model_copy(update={"max_rejected_fraction": fraction})})


def _copy(path: Path, target: Path, exclude: Sequence[str]) -> None:
    """Only what was read: hidden files beside it, and those that are left out, are none of the pipeline's business."""
    if path.resolve() == target.resolve():
        return
    with files.atomic_folder(target) as beside:
        if path.is_file():
            shutil.copyfile(path, beside / path.name)
        else:
            shutil.copytree(path, beside, ignore=partial(_left_out, path, exclude), dirs_exist_ok=True)


def _left_out(path: Path, exclude: Sequence[str], folder: str, names: list[str]) -> list[str]:
    """Of the names in a folder below `path`, those that are not copied."""
    inside = Path(folder).relative_to(path)
    return [name for name in names if name.startswith(".") or places.excluding((inside / name).as_posix(), exclude)]


def _of_another_set(p: params.Params) -> Iterator[str]:
    """What params.yaml says of the set before, and holds for this one too."""
    if p.data.raw != p.paths.sample:
        yield (
            f"  registry.model stays {p.registry.model}: its champion is whom the gate compares with; name another in "
            f"{params.PARAMS_FILE} where this is another model"
        )


def _refuse_unfit(values: Mapping[str, Any]) -> None:
    """Stop where new values do not fit those that stay, before anything is changed."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / params.PARAMS_FILE
        shutil.copyfile(params.PARAMS_FILE, trial)
        editing.set_values(trial, values)
        try:
            params.load(trial)
        except ParamsError as error:
            # A line of the trial is none of the file that a person looks into.
            place = re.compile(rf"^{re.escape(str(trial))}(:\d+)?")
            problems = (place.sub(params.PARAMS_FILE, problem) for problem in error.problems)
            raise ParamsError(
                *problems,
                f"these would not fit the set; change them in {params.PARAMS_FILE}, then run `tuneline use` again "
                "(nothing was changed)",
            ) from None


def _lines(values: Mapping[str, Any]) -> list[str]:
    """The values that were written, as params.yaml spells them."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, list) and value:
            lines += [f"{params.PARAMS_FILE}: {key}:", *(f"  - {editing.written(item)}" for item in value)]
        else:
            lines.append(f"{params.PARAMS_FILE}: {key}: {editing.written(value)}")
    return lines


def _of_the_set(
    p: params.Params,
    task: params.Task,
    target: Path,
    group_by: str | None,
    columns: Mapping[str, str],
    options: Options,
) -> dict[str, Any]:
    """What changes in params.yaml because it is this set."""
    values: dict[str, Any] = {
        "task": task,
        "data.raw": target.as_posix(),
        "data.encoding": options.encoding,
        "data.layout": options.layout,
        "data.exclude": list(options.exclude),
        "data.columns": dict(columns),
        "data.split.group_by": group_by,
    }
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
    return values


def _reading(p: params.Params, target: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """How the pretraining text is read, where it was the raw set until now, becomes it, or is another from now on."""
    known = {name: one.model_dump(exclude_defaults=True) for name, one in p.data.reading.items()}
    others = dict(known)
    if "data.pretraining" in values or p.data.pretraining == target.as_posix():
        others.pop(params.PRETRAINING, None)
    elif p.data.pretraining == p.data.raw:
        as_before = {
            "encoding": p.data.encoding,
            "layout": p.data.layout,
            "columns": dict(p.data.columns),
            "exclude": list(p.data.exclude),
        }
        usual = {"encoding": Options().encoding, "layout": Options().layout, "columns": {}, "exclude": []}
        if said := {key: value for key, value in as_before.items() if value != usual[key]}:
            others[params.PRETRAINING] = said
    return {} if others == known else {"data.reading": others}


def _shares(p: params.Params, rows: int, *, is_new: bool) -> _Changes:
    """The shares that are held out. Those of a set that was used before stay, or rows would change sides."""
    if not is_new:
        return _Changes({}, [])
    chosen = suggested.choose_shares(
        {key: getattr(p.data.split, key.rpartition(".")[2]) for key in suggested.SHARES}, rows
    )
    return _Changes(chosen.values, _kept(chosen))


def _base(
    p: params.Params, found: RawSet, text: Path, task: params.Task, split: params.Split, usable: int
) -> tuple[_Changes, int, int]:
    """The base that the model starts from, and how many rows will be trained and tested.

    A builtin base reads the set's own training text, which is written at the first use of the set and never again.
    """
    kind = _kind(p)
    own = {"data.pretraining": text.as_posix(), "data.frozen_pretraining": True}
    left: list[str] = []
    is_ours = p.data.pretraining in (p.paths.sample_text, text.as_posix()) or p.data.frozen_pretraining
    train = usable - round(usable * split.test) - round(usable * split.validation)
    test = round(usable * _tested(p, text.with_name(text.name.removesuffix(basetext.SUFFIX)), split))
    if kind != "builtin":
        own = {}
        where = f"in {p.base.input}" if p.base.source == "path" else f"that {p.base.input} names"
        what = f"the model {where} (base.source: {p.base.source})"
    elif not is_ours:
        own = {}
        what = f"builtin, pretrained here on {p.data.pretraining}, which data.pretraining names and which stays"
    elif _pointer(text).exists():
        what = f"builtin, pretrained here on {text}, the training text of the first use of this set"
    else:
        written = basetext.write(found, p.data.model_copy(update={"split": split}), text)
        left = [*_left(written, train), *_unread(written)]
        train, test = written.rows["train"], written.rows["test"]
        what = (
            f"builtin, pretrained here on the set's own training text ({written.texts:,} texts, {written.bytes:,} "
            f"bytes, now {text}), which stays as it is when more rows come, and so does the base"
        )
    if p.base.source == "builtin" and (p.data.pretraining, p.data.frozen_pretraining) == tuple(own.values()):
        own = {}
    said = [
        *left,
        f"base: {what}",
        f"  expect {_EXPECT[task]['builtin' if kind == 'builtin' else 'model']}; docs/bases.md lists bases by task and "
        "language",
    ]
    return _Changes(own, said), train, test


def _pointer(folder: Path) -> Path:
    """The .dvc file of a folder; a text without one was left by a `use` that did not come to its end."""
    return folder.with_name(f"{folder.name}.dvc")


@contextmanager
def _undoing(text: Path) -> Iterator[None]:
    """Remove a base's text that was written in vain, so that the next `use` is the first one."""
    try:
        yield
    except BaseException:
        if not _pointer(text).exists():
            shutil.rmtree(text, ignore_errors=True)
        raise


def _left(written: basetext.Written, wanted: int) -> list[str]:
    """What cleaning leaves of a set.

    Args:
        written: the training text of the set, with its accounts.
        wanted: training rows, if nothing were dropped.
    """
    if not written.dropped:
        return []
    splits = ", ".join(f"{split} {count:,}" for split, count in written.rows.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.dropped.items())
    said = [f"rows: {sum(written.rows.values()):,} will be left ({splits}); dropped: {reasons}"]
    if 2 * written.rows["train"] < wanted:
        said.append(
            f"  warning: only {written.rows['train']:,} rows are left to train on, of about {wanted:,}: rows that are "
            "variants of one another teach little and measure nothing; data.near_duplicates and data.max_overlap say "
            "what counts as a variant, and `make run` writes every dropped row with its reason to "
            "reports/quarantine.jsonl"
        )
    return said


def _unread(written: basetext.Written) -> list[str]:
    """What the base does not read, as it would teach it little more."""
    if not written.left_out:
        return []
    return [
        f"base: {written.left_out:,} of {written.texts + written.left_out:,} training texts are not in its text, which "
        f"holds {basetext.MOST_BYTES / 1e6:,.0f} MB at most; fine-tuning reads them all"
    ]


def _tested(p: params.Params, target: Path, split: params.Split) -> float:
    """The share of the rows that is tested: what it came to when the set was last prepared, else what is held out."""
    report = Path(p.paths.reports, "prepare.json")
    last = json.loads(report.read_bytes())["raw"] if report.exists() else {}
    if last.get("set") != target.as_posix() or not last["rows_in"]:
        return split.test
    return last["rows"].get("test", 0) / last["rows_in"]


def _kind(p: params.Params) -> BaseKind:
    if p.base.source == "builtin":
        return "builtin"
    return "adapters" if p.finetune.lora else "model"


def _suited(p: params.Params, task: params.Task, train: int, test: int, *, is_new: bool) -> _Changes:
    """How it is trained and judged: what suits the task, the base and the number of rows."""
    case = Case(task, _kind(p), train)
    sections = {"finetune": p.finetune, "base.builtin": p.base.builtin}
    present: dict[str, Any] = {}
    for key in suggested.values_for(case):
        section, _, name = key.rpartition(".")
        if name in sections[section].model_fields_set:
            present[key] = getattr(sections[section], name)
    is_another = is_new or task != p.task
    chosen = suggested.choose(present, case, is_new=is_another)
    rules = [rule.model_dump(exclude_none=True) for rule in p.gate.rules]
    wanted, waiting = suggested.rules_for(rules, case, p.task)
    values = chosen.values | ({"gate.rules": wanted} if wanted != rules else {})
    said = [f"gate: {suggested.resolution(task, test)}"]
    if is_another:
        said += _kept(chosen)
    if waiting:
        tasks = ", ".join(dict.fromkeys(rule["task"] for rule in waiting))
        said.append(
            f"  gate.rules: {len(waiting)} of another task ({tasks}) are kept, and wait until it is chosen again"
        )
    return _Changes(values, said)


def _kept(chosen: suggested.Choice) -> list[str]:
    return [
        f"  {key} stays {editing.written(now)}, which was set by hand; {editing.written(value)} would suit this set"
        for key, (now, value) in chosen.kept.items()
    ]
