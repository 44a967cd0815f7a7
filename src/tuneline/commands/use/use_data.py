"""`tuneline use`: read a user's text as the pipeline does, copy it, add it to DVC and name it in params.yaml."""

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneline import params
from tuneline.commands.use import erased_source, new_params, open_set, present_set
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
    arguments: ReadingArguments,
    *,
    name: str | None = None,
    group_by: str | None = None,
    task: str | None = None,
    max_rejected: float | None = None,
) -> list[str]:
    """Make the text at `path` the raw set. A raw set of the same name is replaced.

    Args:
        path: a file or a folder.
        arguments: how the command line wants it read. Other settings stay as they were for this set, or are the
            default.
        name: the set's folder under data/raw. Default: the name of `path`.
        group_by: rows with the same value in this column stay in the same split. None: the set's earlier column, or
            rows with the same prompt stay together.
        task: the task. None: the task that the rows fit; if they fit several, the one in params.yaml.
        max_rejected: share of the rows that may be unusable. None: the value in params.yaml.

    Returns:
        Lines that say what was found and done.

    Raises:
        DataError: the text cannot be used; nothing was changed.
        ParamsError: the values for this set contradict other values in params.yaml; nothing was changed.
    """
    p = params.load()
    is_named, typed_group = name is not None, group_by
    name = name or _set_name(path)
    if not raw_set.SET_NAME.fullmatch(name):
        raise DataError(f"{name!r}: cannot be a folder under {RAW}; give a name of letters and digits with --name")
    target = RAW / name
    if target.as_posix() in (p.paths.sample, p.paths.sample_text):
        raise DataError(
            f"{target}: belongs to the built-in corpus, which `sample` writes again; give another name with --name"
        )
    is_new = target.as_posix() != p.data.raw
    if is_new and not is_named and p.data.raw != p.paths.sample and not target.with_name(f"{name}.dvc").exists():
        present_set.refuse_copy_of_present(path, Path(p.data.raw))
    order_by = None
    changed = new_params.max_rejected_change(p, max_rejected)
    p = new_params.with_max_rejected(p, max_rejected)
    likely = raw_set.encodings_of(p)
    options, columns = arguments.over(Options(likely=likely)), arguments.columns
    if not is_new:
        # Next month's files are read and split like last month's, unless this call says otherwise.
        group_by, columns = group_by or p.data.split.group_by, columns or p.data.columns
        order_by = p.data.split.order_by
        exclude = tuple(p.data.exclude)
        options = arguments.over(Options(p.data.encoding, p.data.layout, exclude=exclude, likely=likely))
    source = path
    with erased_source.left_out(path, options) as (path, returned):
        plans = readers.plan(path, options)
        present_set.check_column(path, plans, typed_group)
        # Another set need not have the columns that were kept of the previous set.
        filled = [plan for plan in plans if plan.first_rows and not plan.excluded]
        keep = [column for column in p.data.keep_columns if not is_new or all(column in one.columns for one in filled)]
        chosen_task, found = open_set.open_for_task(
            path, plans, columns, group_by, order_by, open_set.task_named(task), p.task, keep=keep, is_new=is_new
        )
        tally = open_set.read(found, p.data.max_rejected_fraction)
        messages = [*open_set.describe(path, found, tally), *open_set.describe_unused(found)]
        if not is_new:
            messages += present_set.changes(path, target, options.exclude)
        if params.TASK_KEYS[chosen_task].has_labels and not (is_new or order_by or any(plan.split for plan in plans)):
            messages += _files_before_old_ones(target, [plan.name for plan in plans if not plan.excluded])
        values = new_params.set_values(p, chosen_task, target, group_by, columns, options) | changed
        values |= {"data.keep_columns": keep} if keep != p.data.keep_columns else {}
        usable = tally.rows - tally.reasons.total()
        shares = new_params.share_changes(p, usable, is_new=is_new)
        values |= shares.values
        split = {
            key.removeprefix("data.split."): value for key, value in values.items() if key.startswith("data.split.")
        }
        text = target.with_name(target.name + params.OWN_TEXT)
        with new_params.removed_on_failure(text):
            base, train, test = new_params.base_changes(
                p, found, text, chosen_task, p.data.split.model_copy(update=split), usable
            )
            share = split.get("test", p.data.split.test)
            training = new_params.training_changes(p, chosen_task, train, test, share, is_new=is_new)
            values |= base.values | training.values
            values |= new_params.pretraining_reading(p, target, values)
            new_params.refuse_contradictions(values)
            _copy(path, target, options.exclude)
            repro.add_to_dvc(target, *([text] if text.exists() else []))
        messages.append(f"{target}: copied and added to DVC ({target}.dvc)")
        if is_new:
            messages += new_params.settings_of_previous_set(p)
        messages += [*base.messages, *shares.messages, *training.messages]
        editing.set_values(Path(params.PARAMS_FILE), values)
        messages += new_params.lines(values)
        messages += open_set.describe_overlong(found, params.load())
        return [*returned, *(one.replace(str(path), str(source)) for one in messages), "next: make run"]


def mix(
    path: Path,
    arguments: ReadingArguments,
    *,
    name: str | None = None,
    weight: float | None,
    max_rejected: float | None = None,
) -> list[str]:
    """Train the text at `path` in addition to the raw set, or measure on it what is forgotten.

    A set of the same name is replaced.

    Args:
        path: a file or a folder.
        arguments: how the command line wants it read. Other settings are those of data.reading, or the default.
        name: the set's folder under paths.mixture. Default: the name of `path`.
        weight: how often each of its examples comes in an epoch. None: it is not trained; `data.general` names it.
        max_rejected: share of the rows that may be unusable. None: the value in params.yaml.

    Returns:
        Lines that say what was found and done.

    Raises:
        DataError: the text cannot be used; nothing was changed.
    """
    p = params.load()
    _check_use(p, weight)
    name = name or _set_name(path)
    target = Path(p.paths.mixture) / name
    if not raw_set.is_mixture_name(name):
        raise DataError(f"{target}: {raw_set.BAD_NAME}; give another with --name")
    changed = new_params.max_rejected_change(p, max_rejected)
    p = new_params.with_max_rejected(p, max_rejected)
    if arguments.encoding:
        encodings.check_codec(arguments.encoding)
    given = {
        "encoding": arguments.encoding,
        "layout": arguments.layout,
        "columns": dict(arguments.columns),
        "exclude": list(arguments.exclude),
    }
    before = p.data.reading.get(name, params.SetReading()).model_dump(exclude_defaults=True)
    reading = before | {key: value for key, value in given.items() if value}
    way = raw_set.set_reading(name, params.SetReading(**reading), raw_set.encodings_of(p))
    source = path
    with erased_source.left_out(path, way.options) as (path, returned):
        found = open_set.open_mixed(path, readers.plan(path, way.options), way.columns, p.task)
        tally = open_set.read(found, p.data.max_rejected_fraction)
        messages = open_set.describe(path, found, tally)
        _copy(path, target, way.options.exclude)
        repro.add_to_dvc(target)
        values = _named(p, name, weight) | changed
        if reading != before:
            others = {other: settings.model_dump(exclude_defaults=True) for other, settings in p.data.reading.items()}
            values["data.reading"] = others | {name: reading}
        editing.set_values(Path(params.PARAMS_FILE), values)
        params.load()
        messages = [one.replace(str(path), str(source)) for one in messages]
        copied = f"{target}: copied and added to DVC ({target}.dvc)"
        return [*returned, *messages, copied, *new_params.lines(values), "next: make run"]


def _check_use(p: params.Params, weight: float | None) -> None:
    """Refuse what the task or a weight does not allow."""
    option, does, tasks = "--mix", "train further sets", params.MIXABLE
    if weight is None:
        option, does, tasks = "--general", "write general text", params.READS_GENERAL
    if weight is not None:
        try:
            params.MixtureSet(weight=weight)
        except ValidationError as error:
            raise DataError(f"--mix: {weight:g}: {error.errors()[0]['msg'].lower()}") from None
    if p.task not in tasks:
        raise DataError(f"{option}: does not go with task {p.task}; only {' and '.join(tasks)} can {does}")


def _named(p: params.Params, name: str, weight: float | None) -> dict[str, Any]:
    """The values of params.yaml that name the set."""
    mixture = {other: settings.model_dump(exclude_unset=True) for other, settings in p.data.mixture.items()}
    if weight is not None:
        return new_params.mixture_change(p, mixture | {name: mixture.get(name, {}) | {"weight": weight}})
    # What the model is trained on does not show what it forgets.
    trained = new_params.mixture_change(p, {other: own for other, own in mixture.items() if other != name})
    return {"data.general": name} | (trained if name in mixture else {})


def _set_name(path: Path) -> str:
    """The name of a folder, or of a file without the suffixes of its format and compression (pairs.jsonl.gz: pairs)."""
    if not path.is_file():
        # Unlike Path.resolve, it takes a link that leads to itself.
        return Path(os.path.realpath(path)).name
    name = path
    while name.suffix.lower() in _ARCHIVES:
        name = name.with_suffix("")
    is_format = name == path or name.suffix[1:].isalpha()
    return name.stem if is_format else name.name


def _files_before_old_ones(target: Path, names: Sequence[str]) -> list[str]:
    """A warning if new files are read before old ones: the first rows of each label decide what is held out."""
    kept = [place for place, name in enumerate(names) if (target / name).is_file()]
    early = [name for name in names[: kept[-1]] if not (target / name).is_file()] if kept else []
    if not early:
        return []
    return [
        f"  warning: {', '.join(early[:3])}{f' and {len(early) - 3} more' if early[3:] else ''}: read before "
        f"{names[kept[-1]]}, so rows that were in the test split may now be trained on; name new files so that they "
        "sort after the old ones, for example 2026-10.csv after 2026-09.csv"
    ]


def _copy(path: Path, target: Path, exclude: Sequence[str]) -> None:
    """Copy what was read: neither hidden files nor those that are left out."""
    if path.resolve() == target.resolve():
        return
    with files.atomic_folder(target) as temporary:
        if path.is_file():
            shutil.copyfile(path, temporary / path.name)
        else:
            shutil.copytree(path, temporary, ignore=partial(_left_out, path, exclude), dirs_exist_ok=True)


def _left_out(path: Path, exclude: Sequence[str], folder: str, names: list[str]) -> list[str]:
    """Of the names in `folder`, which is below `path`, those that are not copied."""
    inside = Path(folder).relative_to(path)
    return [
        name for name in names if name.startswith(".") or discover.matching_pattern((inside / name).as_posix(), exclude)
    ]
