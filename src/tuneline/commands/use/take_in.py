"""Your own text: read as the pipeline would, copied to data/raw, put under DVC, and named in params.yaml."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneline import params
from tuneline.commands.use import base_text, new_params, open_set
from tuneline.commands.use.open_set import ReadingArguments
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.reading import discover, readers
from tuneline.data.reading import plans as file_plans
from tuneline.data.reading.guards import encodings
from tuneline.data.reading.raw_rows import Options
from tuneline.errors import DataError
from tuneline.params import editing
from tuneline.pipeline import repro

RAW = Path("data/raw")

_ARCHIVES = (*file_plans.UNPACKED_SUFFIXES, ".zip", ".tar", ".tgz")


def use(
    path: Path,
    asked: ReadingArguments,
    *,
    name: str | None = None,
    group_by: str | None = None,
    task: str | None = None,
    max_rejected: float | None = None,
) -> list[str]:
    """Make the text at `path` the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        asked: how it is read; what it does not say is as the set was read before, or usual.
        name: of the set, a folder under data/raw; by default that of `path`.
        group_by: column whose value keeps rows together when they are split; None: as the set was split before, or
            rows with the same prompt.
        task: what is learnt from it; None: what the rows show, where they show several what params.yaml says.
        max_rejected: share of the rows that may be set aside; None: what params.yaml says.

    Returns:
        What was found and done, line by line.

    Raises:
        DataError: the text cannot be used; nothing was changed.
        ParamsError: what suits the set does not fit what params.yaml says besides; nothing was changed.
    """
    p = params.load()
    name = name or _name_of(path)
    if not raw_set.SET_NAME.fullmatch(name):
        raise DataError(f"{name!r}: is no name for a folder under {RAW}; give one with --name, of letters and digits")
    target = RAW / name
    if target.as_posix() in (p.paths.sample, p.paths.sample_text):
        raise DataError(f"{target}: belongs to the built-in corpus, which is made anew; choose another with --name")
    is_new = target.as_posix() != p.data.raw
    order_by = None
    changed = new_params.rejected(p, max_rejected)
    p = new_params.with_rejected(p, max_rejected)
    options, columns = asked.over(Options()), asked.columns
    if not is_new:
        # The next month's files are split and read as the last month's were, unless this call says otherwise.
        group_by, columns = group_by or p.data.split.group_by, columns or p.data.columns
        order_by = p.data.split.order_by
        options = asked.over(Options(p.data.encoding, p.data.layout, exclude=tuple(p.data.exclude)))
    plans = readers.plan(path, options)
    learnt, found = open_set.open_for_task(
        path, plans, columns, group_by, order_by, open_set.task_named(task), p.task, is_new=is_new
    )
    tally = open_set.read(found, p.data.max_rejected_fraction)
    said = open_set.describe(path, found, tally)
    if learnt == "classification" and not (is_new or order_by or any(plan.split for plan in plans)):
        said += _in_front(target, [plan.name for plan in plans if not plan.excluded])
    values = new_params.of_the_set(p, learnt, target, group_by, columns, options) | changed
    usable = tally.rows - tally.reasons.total()
    shares = new_params.shares(p, usable, is_new=is_new)
    values |= shares.values
    split = {key.removeprefix("data.split."): value for key, value in values.items() if key.startswith("data.split.")}
    text = target.with_name(target.name + base_text.SUFFIX)
    with new_params.undoing(text):
        base, train, test = new_params.base(p, found, text, learnt, p.data.split.model_copy(update=split), usable)
        suited = new_params.suited(p, learnt, train, test, is_new=is_new)
        values |= base.values | suited.values
        values |= new_params.reading(p, target, values)
        new_params.refuse_unfit(values)
        _copy(path, target, options.exclude)
        repro.add(target, *([text] if text.exists() else []))
    said.append(f"{target}: copied, and under DVC ({target}.dvc)")
    if is_new:
        said += new_params.of_another_set(p)
    said += [*base.said, *shares.said, *suited.said]
    editing.set_values(Path(params.PARAMS_FILE), values)
    said += new_params.lines(values)
    said += open_set.describe_overlong(found, params.load())
    return [*said, "next: make run"]


def mix(
    path: Path,
    asked: ReadingArguments,
    *,
    name: str | None = None,
    weight: float,
    max_rejected: float | None = None,
) -> list[str]:
    """Train the text at `path` beside the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        asked: how it is read; what it does not say is as data.reading says, or usual.
        name: of the set, a folder under paths.mixture; by default that of `path`.
        weight: how often each of its examples comes in an epoch.
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
    if not raw_set.is_mixture_name(name):
        raise DataError(f"{target}: {raw_set.BAD_NAME}; give another with --name")
    changed = new_params.rejected(p, max_rejected)
    p = new_params.with_rejected(p, max_rejected)
    if asked.encoding:
        encodings.check_codec(asked.encoding)
    said_now = {
        "encoding": asked.encoding,
        "layout": asked.layout,
        "columns": dict(asked.columns),
        "exclude": list(asked.exclude),
    }
    before = p.data.reading.get(name, params.SetReading()).model_dump(exclude_defaults=True)
    reading = before | {key: value for key, value in said_now.items() if value}
    way = raw_set.reading_of(name, params.SetReading(**reading))
    found = open_set.open_mixed(path, readers.plan(path, way.options), way.columns)
    tally = open_set.read(found, p.data.max_rejected_fraction)
    said = open_set.describe(path, found, tally)
    _copy(path, target, way.options.exclude)
    repro.add(target)
    kept = {other: one.model_dump(exclude_unset=True) for other, one in p.data.mixture.items()}
    values: dict[str, Any] = {"data.mixture": kept | {name: kept.get(name, {}) | {"weight": weight}}}
    values |= changed
    if reading != before:
        others = {other: one.model_dump(exclude_defaults=True) for other, one in p.data.reading.items()}
        values["data.reading"] = others | {name: reading}
    editing.set_values(Path(params.PARAMS_FILE), values)
    params.load()
    return [*said, f"{target}: copied, and under DVC ({target}.dvc)", *new_params.lines(values), "next: make run"]


def _name_of(path: Path) -> str:
    """The name of a file without what says how it is written, as in pairs.jsonl.gz; or that of a folder."""
    if not path.is_file():
        return path.resolve().name
    name = path
    while name.suffix.lower() in _ARCHIVES:
        name = name.with_suffix("")
    is_format = name == path or name.suffix[1:].isalpha()
    return name.stem if is_format else name.name


def _in_front(target: Path, names: Sequence[str]) -> list[str]:
    """A warning of new files that are read before the old ones: the first rows of a label decide what is held out."""
    kept = [place for place, name in enumerate(names) if (target / name).is_file()]
    early = [name for name in names[: kept[-1]] if not (target / name).is_file()] if kept else []
    if not early:
        return []
    return [
        f"  warning: {', '.join(early[:3])}{f' and {len(early) - 3} more' if early[3:] else ''}: read before "
        f"{names[kept[-1]]}, so rows of a label that were in the test split may be trained now; name new files so that "
        "they sort behind the old ones, as 2026-10.csv does behind 2026-09.csv"
    ]


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
    return [
        name for name in names if name.startswith(".") or discover.matching_pattern((inside / name).as_posix(), exclude)
    ]
