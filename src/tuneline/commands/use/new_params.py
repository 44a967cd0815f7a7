"""What becomes of params.yaml when a raw set is taken in, and what is said about it."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.commands.use import base_text, suggested
from tuneline.commands.use.suggested import BaseKind, Case
from tuneline.core import files
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.reading.raw_rows import Options
from tuneline.errors import ParamsError, UnreadableFileError
from tuneline.params import editing

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
class Changes:
    """What becomes of params.yaml, and what is said about it."""

    values: dict[str, Any]
    said: list[str]


def rejected(p: params.Params, fraction: float | None) -> dict[str, Any]:
    """What becomes of the share of rows that may be set aside; None: nothing."""
    return {} if fraction in (None, p.data.max_rejected_fraction) else {"data.max_rejected_fraction": fraction}


def with_rejected(p: params.Params, fraction: float | None) -> params.Params:
    """The params with this share of rows that may be set aside; None: as they are."""
    if fraction is None:
        return p
    return p.model_copy(update={"data": p.data.model_copy(update={"max_rejected_fraction": fraction})})


def of_another_set(p: params.Params) -> Iterator[str]:
    """What params.yaml says of the set before, and holds for this one too."""
    if p.data.raw != p.paths.sample:
        yield (
            f"  registry.model stays {p.registry.model}: its champion is whom the gate compares with; name another in "
            f"{params.PARAMS_FILE} where this is another model"
        )


def refuse_unfit(values: Mapping[str, Any]) -> None:
    """Stop where new values do not fit those that stay, before anything is changed."""
    with files.temporary_folder() as folder:
        trial = folder / params.PARAMS_FILE
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


def lines(values: Mapping[str, Any]) -> list[str]:
    """The values that were written, as params.yaml spells them."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, list) and value:
            lines += [f"{params.PARAMS_FILE}: {key}:", *(f"  - {editing.written(item)}" for item in value)]
        else:
            lines.append(f"{params.PARAMS_FILE}: {key}: {editing.written(value)}")
    return lines


def of_the_set(
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


def reading(p: params.Params, target: Path, values: Mapping[str, Any]) -> dict[str, Any]:
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


def shares(p: params.Params, rows: int, *, is_new: bool) -> Changes:
    """The shares that are held out. Those of a set that was used before stay, or rows would change sides."""
    if not is_new:
        return Changes({}, [])
    chosen = suggested.choose_shares(
        {key: getattr(p.data.split, key.rpartition(".")[2]) for key in suggested.SHARES}, rows
    )
    return Changes(chosen.values, _kept(chosen))


def base(
    p: params.Params, found: RawSet, text: Path, task: params.Task, split: params.Split, usable: int
) -> tuple[Changes, int, int]:
    """The base that the model starts from, and how many rows will be trained and tested.

    A builtin base reads the set's own training text, which is written at the first use of the set and never again.
    """
    kind = _kind(p)
    own = {"data.pretraining": text.as_posix(), "data.frozen_pretraining": True}
    left: list[str] = []
    is_ours = p.data.pretraining in (p.paths.sample_text, text.as_posix()) or p.data.frozen_pretraining
    train = usable - round(usable * split.test) - round(usable * split.validation)
    test = round(usable * _tested(p, text.with_name(text.name.removesuffix(base_text.SUFFIX)), split))
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
        written = base_text.write(found, p.data.model_copy(update={"split": split}), text)
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
    return Changes(own, said), train, test


def _pointer(folder: Path) -> Path:
    """The .dvc file of a folder; a text without one was left by a `use` that did not come to its end."""
    return folder.with_name(f"{folder.name}.dvc")


@contextmanager
def undoing(text: Path) -> Iterator[None]:
    """Remove a base's text that was written in vain, so that the next `use` is the first one."""
    try:
        yield
    except BaseException:
        if not _pointer(text).exists():
            shutil.rmtree(text, ignore_errors=True)
        raise


def _left(written: base_text.Written, wanted: int) -> list[str]:
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


def _unread(written: base_text.Written) -> list[str]:
    """What the base does not read, as it would teach it little more."""
    if not written.left_out:
        return []
    return [
        f"base: {written.left_out:,} of {written.texts + written.left_out:,} training texts are not in its text, which "
        f"holds {base_text.MOST_BYTES / 1e6:,.0f} MB at most; fine-tuning reads them all"
    ]


def _tested(p: params.Params, target: Path, split: params.Split) -> float:
    """The share of the rows that is tested: what it came to when the set was last prepared, else what is held out."""
    report = Path(p.paths.reports, "prepare.json")
    try:
        last = files.read_object(report, "raw.set", "raw.rows_in", "raw.rows")["raw"]
        if last["set"] == target.as_posix() and last["rows_in"]:
            return float(last["rows"].get("test", 0) / last["rows_in"])
    except (UnreadableFileError, AttributeError, TypeError):
        # Not there yet, or not as it was written: what it foretells is less exact then.
        pass
    return split.test


def _kind(p: params.Params) -> BaseKind:
    if p.base.source == "builtin":
        return "builtin"
    return "adapters" if p.finetune.lora else "model"


def suited(p: params.Params, task: params.Task, train: int, test: int, *, is_new: bool) -> Changes:
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
    return Changes(values, said)


def _kept(chosen: suggested.Choice) -> list[str]:
    return [
        f"  {key} stays {editing.written(now)}, which was set by hand; {editing.written(value)} would suit this set"
        for key, (now, value) in chosen.kept.items()
    ]
