"""The changes of `tuneline use` to params.yaml, and the messages about them."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.commands.use import base_text, suggested_values
from tuneline.commands.use.suggested_values import BaseKind, Case
from tuneline.core import files
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.reading.raw_rows import Options
from tuneline.errors import ParamsError, UnreadableFileError
from tuneline.params import editing
from tuneline.params.report import MIXTURE

_EXPECT: dict[params.Task, dict[BaseKind, str]] = {
    "sft": {
        "builtin": "answers that look like yours and are rarely right; a real base makes them useful",
        "model": "answers that look like yours and use what the base knows",
    },
    "language-modeling": {
        "builtin": "text that looks like yours and means little; a real base makes it useful",
        "model": "text in your style that uses what the base knows",
    },
    "classification": {
        "builtin": "a few points less than a linear model of words (TF-IDF); a real base reaches more",
        "model": "more than a linear model of words (TF-IDF), unless single words decide the label",
    },
    "regression": {
        "builtin": "a few points less than a linear model of words (TF-IDF); a real base reaches more",
        "model": "more than a linear model of words (TF-IDF), unless single words decide the number",
    },
    "preference": {
        "builtin": "a model that knows the better answer by its form; a base tuned on instructions makes it useful",
        "model": "a model that prefers what people preferred; a base tuned on instructions suits it best",
    },
}
"""What a user may expect of a model, by task and base."""


@dataclass(frozen=True)
class Changes:
    """Changes of params.yaml, and messages about them."""

    values: dict[str, Any]
    """Dotted key -> new value."""
    messages: list[str]


def max_rejected_change(p: params.Params, fraction: float | None) -> dict[str, Any]:
    """The change of the share of unusable rows that is allowed. None: no change."""
    return {} if fraction in (None, p.data.max_rejected_fraction) else {"data.max_rejected_fraction": fraction}


def with_max_rejected(p: params.Params, fraction: float | None) -> params.Params:
    """The params with this share of unusable rows allowed. None: unchanged."""
    if fraction is None:
        return p
    return p.model_copy(update={"data": p.data.model_copy(update={"max_rejected_fraction": fraction})})


def settings_of_previous_set(p: params.Params) -> Iterator[str]:
    """A message for each setting of the previous raw set that also applies to this one."""
    if p.data.raw != p.paths.sample:
        yield (
            f"  registry.model stays {p.registry.model}: the gate compares with its champion; if this set is for "
            f"another model, give it a name in {params.PARAMS_FILE}"
        )


def refuse_contradictions(values: Mapping[str, Any]) -> None:
    """Raise ParamsError if the new values contradict values that stay. Changes nothing."""
    with files.temporary_folder() as folder:
        trial = folder / params.PARAMS_FILE
        shutil.copyfile(params.PARAMS_FILE, trial)
        editing.set_values(trial, values)
        try:
            params.load(trial)
        except ParamsError as error:
            # The line numbers are those of the trial file, which the user does not see.
            trial_line = re.compile(rf"^{re.escape(str(trial))}(:\d+)?")
            problems = (trial_line.sub(params.PARAMS_FILE, problem) for problem in error.problems)
            raise ParamsError(
                *problems,
                f"these values do not go with this set; change them in {params.PARAMS_FILE}, then run `tuneline use` "
                "again (nothing was changed)",
            ) from None


def lines(values: Mapping[str, Any]) -> list[str]:
    """The written values, one line per key, as params.yaml holds them."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, list) and value:
            lines += [f"{params.PARAMS_FILE}: {key}:", *(f"  - {editing.written(item)}" for item in value)]
        else:
            lines.append(f"{params.PARAMS_FILE}: {key}: {editing.written(value)}")
    return lines


def set_values(
    p: params.Params,
    task: params.Task,
    target: Path,
    group_by: str | None,
    columns: Mapping[str, str],
    options: Options,
) -> dict[str, Any]:
    """The values of params.yaml that name this set and say how it is read and split."""
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
        # This set need not have the column by which the previous set was ordered.
        values |= dict.fromkeys(("data.split.order_by", "data.split.validation_from", "data.split.test_from"))
    if p.data.raw == p.paths.sample:
        # The model of the built-in corpus keeps its own name and champion.
        values["registry.model"] = re.sub(r"[^A-Za-z0-9._-]", "-", target.name).lstrip("._-") or "model"
    if params.TASK_KEYS[task].mixes != params.TASK_KEYS[p.task].mixes and p.data.mixture:
        values |= mixture_change(p, {})
    if task not in params.READS_GENERAL and p.data.general is not None:
        values["data.general"] = None
    if not params.TASK_KEYS[task].can_shard and p.finetune.fsdp:
        values["finetune.fsdp"] = None
    return values


def mixture_change(p: params.Params, mixture: Mapping[str, Any]) -> dict[str, Any]:
    """The values of params.yaml with another mixture: report.without loses what is no longer trained.

    Args:
        p: the present params.
        mixture: the value of data.mixture.
    """
    gone = {*(p.data.mixture.keys() - mixture.keys()), *(() if mixture else (MIXTURE,))}
    every = ((name, [one for one in named if one not in gone]) for name, named in p.report.without.items())
    left = {name: named for name, named in every if named}
    changed = {"report.without": left} if left != p.report.without else {}
    return {"data.mixture": dict(mixture), **changed}


def pretraining_reading(p: params.Params, target: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The change of data.reading that keeps the pretraining text readable when the raw set changes."""
    known = {name: settings.model_dump(exclude_defaults=True) for name, settings in p.data.reading.items()}
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
        defaults = {"encoding": Options().encoding, "layout": Options().layout, "columns": {}, "exclude": []}
        if changed := {key: value for key, value in as_before.items() if value != defaults[key]}:
            others[params.PRETRAINING] = changed
    return {} if others == known else {"data.reading": others}


def share_changes(p: params.Params, rows: int, *, is_new: bool) -> Changes:
    """The shares that are held out of a new set. A known set keeps its shares, so that no row changes its split."""
    if not is_new:
        return Changes({}, [])
    chosen = suggested_values.choose_shares(
        {key: getattr(p.data.split, key.rpartition(".")[2]) for key in suggested_values.SHARES}, rows
    )
    return Changes(chosen.values, _kept(chosen))


def base_changes(
    p: params.Params, found: RawSet, text: Path, task: params.Task, split: params.Split, usable: int
) -> tuple[Changes, int, int]:
    """The changes for the base, and the numbers of training rows and test rows that are left after cleaning.

    A builtin base is pretrained on the set's own training text, which only the first use of the set writes.
    """
    kind = _kind(p)
    own = {"data.pretraining": text.as_posix(), "data.frozen_pretraining": True}
    messages: list[str] = []
    is_ours = p.data.pretraining in (p.paths.sample_text, text.as_posix()) or p.data.frozen_pretraining
    train = usable - round(usable * split.test) - round(usable * split.validation)
    test = round(usable * _test_share(p, text.with_name(text.name.removesuffix(params.OWN_TEXT)), split))
    if kind == "builtin" and p.base.source == "merge":
        own = {}
        left = base_text.count(found, p.data.model_copy(update={"split": split}), Path(p.data.pretraining))
        messages = _dropped(left, train)
        train, test = left.rows["train"], left.rows["test"]
        base = (
            f"the versions that are merged in {p.base.input} (base.source: merge); their own base is builtin, "
            f"pretrained here on {p.data.pretraining}"
        )
    elif kind != "builtin":
        own = {}
        where = f"in {p.base.input}" if p.base.source != "hub" else f"that {p.base.input} names"
        base = f"the model {where} (base.source: {p.base.source})"
    elif not is_ours:
        own = {}
        base = f"builtin, pretrained here on {p.data.pretraining}, which data.pretraining already names"
    elif _pointer(text).exists():
        left = base_text.count(found, p.data.model_copy(update={"split": split}), text)
        messages = _dropped(left, train)
        train, test = left.rows["train"], left.rows["test"]
        base = f"builtin, pretrained here on {text}, the training text of the first use of this set"
    else:
        written = base_text.write(found, p.data.model_copy(update={"split": split}), text)
        messages = [*_dropped(written.left, train), *_left_out(written)]
        train, test = written.left.rows["train"], written.left.rows["test"]
        base = (
            f"builtin, pretrained here on the set's own training text ({written.texts:,} texts, {written.bytes:,} "
            f"bytes, now in {text}); text and base stay the same when more rows come"
        )
    if p.base.source == "builtin" and (p.data.pretraining, p.data.frozen_pretraining) == tuple(own.values()):
        own = {}
    messages += [
        f"base: {base}",
        f"  expect {_EXPECT[task]['builtin' if kind == 'builtin' else 'model']}; docs/bases.md lists bases by task and "
        "language",
    ]
    if not p.finetune.num_train_epochs:
        messages.append(
            "  warning: finetune.num_train_epochs is 0, so the merged model is taken as it is and no row is trained "
            "on; to train it on this set, set it above 0"
        )
    return Changes(own, messages), train, test


def _pointer(folder: Path) -> Path:
    """The .dvc file of a folder. A text without it comes from a `use` that did not finish."""
    return folder.with_name(f"{folder.name}.dvc")


@contextmanager
def removed_on_failure(text: Path) -> Iterator[None]:
    """Remove the pretraining text if the block fails, so that the next `use` counts as the first."""
    try:
        yield
    except BaseException:
        if not _pointer(text).exists():
            shutil.rmtree(text, ignore_errors=True)
        raise


def _dropped(left: base_text.Left, wanted: int) -> list[str]:
    """Messages about rows that cleaning drops.

    Args:
        left: what cleaning leaves.
        wanted: number of training rows if no row were dropped.
    """
    if not left.dropped:
        return []
    splits = ", ".join(f"{split} {count:,}" for split, count in left.rows.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in left.dropped.items())
    messages = [f"rows: {sum(left.rows.values()):,} will be left ({splits}); dropped: {reasons}"]
    if 2 * left.rows["train"] < wanted:
        messages.append(
            f"  warning: only {left.rows['train']:,} of about {wanted:,} rows are left to train on. Variants of one "
            "row teach little and measure nothing. data.near_duplicates and data.max_overlap define a variant; "
            "`make run` writes each dropped row with its reason to reports/quarantine.jsonl"
        )
    return messages


def _left_out(written: base_text.Written) -> list[str]:
    """A message about texts on which the base is not pretrained."""
    if not written.left_out:
        return []
    return [
        f"base: {written.left_out:,} of {written.texts + written.left_out:,} training texts are not in its pretraining "
        f"text, which holds at most {base_text.MOST_BYTES / 1e6:,.0f} MB; fine-tuning trains on all of them"
    ]


def _test_share(p: params.Params, target: Path, split: params.Split) -> float:
    """The share of test rows: the share when this set was last prepared, else the share that is held out."""
    report = Path(p.paths.reports, "prepare.json")
    try:
        last = files.read_object(report, "raw.set", "raw.rows_in", "raw.rows")["raw"]
        if last["set"] == target.as_posix() and last["rows_in"]:
            return float(last["rows"].get("test", 0) / last["rows_in"])
    except (UnreadableFileError, AttributeError, TypeError):
        # The report does not exist yet or is damaged: the estimate is less exact.
        pass
    return split.test


def _kind(p: params.Params) -> BaseKind:
    # What suits merged versions suits the base that they were fine-tuned from; only a builtin base has a frozen text.
    if p.base.source == "builtin" or (p.base.source == "merge" and p.data.frozen_pretraining):
        return "builtin"
    return "adapters" if p.finetune.lora else "model"


def training_changes(
    p: params.Params, task: params.Task, train: int, test: int, share: float, *, is_new: bool
) -> Changes:
    """The values of `finetune`, `base.builtin` and `gate` that suit the task, the base and the number of rows.

    Args:
        p: the params.
        task: the task.
        train: number of training rows.
        test: number of test rows.
        share: of the rows that is tested.
        is_new: whether the raw set has changed.
    """
    case = Case(task, _kind(p), train)
    sections = {"finetune": p.finetune, "base.builtin": p.base.builtin}
    present: dict[str, Any] = {}
    for key in suggested_values.values_for(case):
        section, _, name = key.rpartition(".")
        if name in sections[section].model_fields_set:
            present[key] = getattr(sections[section], name)
    is_another = is_new or task != p.task
    chosen = suggested_values.choose(present, case, is_new=is_another)
    rules = [rule.model_dump(exclude_defaults=True) for rule in p.gate.rules]
    wanted, waiting = suggested_values.rules_for(rules, case, p.task)
    values = chosen.values | ({"gate.rules": wanted} if wanted != rules else {})
    messages = [f"gate: {suggested_values.resolution(task, test, share)}"]
    if is_another:
        messages += _kept(chosen)
    if waiting:
        tasks = ", ".join(dict.fromkeys(rule["task"] for rule in waiting))
        messages.append(f"  gate.rules: kept for task {tasks}, if it is chosen again: {len(waiting)}")
    return Changes(values, messages)


def _kept(chosen: suggested_values.Choice) -> list[str]:
    return [
        f"  {key} stays {editing.written(now)}, as you set it; {editing.written(value)} would suit this set"
        for key, (now, value) in chosen.kept.items()
    ]
