"""The chain of a history: the entries in their order, and what is wrong with them, from runs as MLflow holds them.

An entry's sha256 is over all its params, one of which is the sha256 of the previous entry. The param `next` of a run
holds the run and the sha256 of the entry that follows it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tuneline.core import files
from tuneline.registry.runs import LogExperiment, LogRun

START = "start"
"""The param of the run that stands before the first entry."""
SHA256 = "sha256"
REMEDY = (
    "ask who can write to MLflow's store and put a copy of it back, or accept the damage with: tuneline history "
    "--accept REASON"
)
_NEXT = re.compile(r"next(?:\.([1-9][0-9]{0,5}))?")
_NUMBER = re.compile(r"[0-9]{1,15}")
_MOST_LOST = 1_000_000
"""The most entries that can be missing between two others: a larger number was written by hand."""
_Kind = TypeVar("_Kind", dict[str, Any], list[Any])


@dataclass(frozen=True)
class Entry:
    """One entry of a history."""

    number: int
    time: str
    """UTC, ISO 8601 with milliseconds, by the clock of the machine that wrote the entry."""
    action: str
    """One of `history.ACTIONS`."""
    alias: str | None
    before: str | None
    """The version that had the alias."""
    after: str | None
    """The version that has the alias now, or that the entry is about; None if no version has the alias."""
    who: str
    reason: str
    evidence: Mapping[str, str]
    """Name of a file -> its sha256; the files are artifacts of the run."""
    previous: str
    """The sha256 of the previous entry; empty for the first entry."""
    sha256: str
    accepts: tuple[str, ...] = ()
    """The keys of the damages that the entry accepts."""
    run_id: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> value: what a program reads."""
    content: str = ""
    """The sha256 of what the entry holds now: not `sha256` if it was edited."""


@dataclass(frozen=True)
class Problem:
    """A damage of a history."""

    key: str
    """Names the damage in a few words; an entry with the action `accepted` repeats it."""
    text: str
    """What is wrong with which entry, and what to do, in a sentence."""
    deleted_run: str = ""
    """The run that was deleted and can be brought back, if this is the damage."""


@dataclass(frozen=True)
class Head:
    """What a tag outside of the history says about its last entry."""

    number: int
    sha256: str
    where: str
    """Who has the tag, in words."""


@dataclass(frozen=True)
class Slot:
    """Where an entry stands: no two entries of any history have the same."""

    number: int
    previous: str
    """The sha256 of the previous entry; empty for the first entry."""
    start: str
    """The random param of the run that stands before the first entry."""


@dataclass
class Chain:
    """The entries in their order, and where the next entry goes."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unfinished: list[LogRun] = field(default_factory=list)
    """Runs that no entry leads to: their process was killed, or is still writing."""
    end: LogRun | None = None
    """The run whose param is to name the next entry; None if MLflow has no run of the history."""
    number: int = 0
    """Of the last entry that is known, which may be gone."""
    sha256: str = ""
    """Of the last entry that is known."""
    start: str = ""
    """The random param of the run that stands before the first entry."""


def walk(runs: Sequence[LogRun], heads: Sequence[Head] = (), log: LogExperiment | None = None) -> Chain:
    """Follow the entries from the start to the end.

    Args:
        runs: all runs of the experiment, deleted or not.
        heads: what the tags outside of the history say.
        log: the experiment.
    """
    chain = Chain()
    is_log_deleted = bool(log and log.is_deleted)
    if log and is_log_deleted:
        text = f"the experiment {log.name}, which holds the history, was deleted in MLflow; bring it back with: "
        chain.problems.append(Problem("experiment deleted", f"{text}tuneline history --accept REASON"))
    complete = {run.id: run for run in runs if _is_complete(run)}
    linked = {run_id for run in runs for run_id, _ in links(run)} | {head.sha256 for head in heads}
    starts = [run for run in runs if START in run.params]
    chain.end = starts[0] if starts else None
    chain.start = starts[0].params[START] if starts else ""
    seen = {chain.end.id} if chain.end else set()
    following = links(chain.end) if chain.end else []
    while True:
        run, sha256 = None, ""
        for run_id, sha256 in following:
            run = complete.get(run_id) if run_id not in seen else None
            if run:
                break
            # This entry is lost. What was added since then is chained to it all the same.
            chain.number, chain.sha256 = chain.number + 1, sha256
        if run is None:
            run = _survivor([one for one in complete.values() if one.id not in seen], linked, chain.number)
            if run is None:
                break
            sha256 = run.params[SHA256]
        seen.add(run.id)
        _add(chain, run, sha256, is_log_deleted)
        following = links(run)
    _check_heads(chain, heads)
    _check_numbers(chain)
    _check_strangers(chain, starts[1:], [run for run in complete.values() if run.id not in seen])
    chain.unfinished = [run for run in runs if run.id not in seen and not run.is_deleted]
    return chain


def links(run: LogRun) -> list[tuple[str, str]]:
    """The entries that follow a run, as run id and sha256; more than one only where the earlier ones were lost."""
    parts = [run.params[key].split() for _, key in sorted(_links(run).items())]
    return [(part[0], part[1]) if len(part) == 2 else ("", "") for part in parts]


def free_link(run: LogRun) -> str:
    """The param of a run that is to name the next entry."""
    taken = _links(run)
    number = next(number for number in range(1, len(taken) + 2) if number not in taken)
    return "next" if number == 1 else f"next.{number}"


def _links(run: LogRun) -> dict[int, str]:
    """Number -> param of the links of a run."""
    return {int(match[1] or 1): key for key in run.params if (match := _NEXT.fullmatch(key))}


def content_digest(params: Mapping[str, str]) -> str:
    """The sha256 of an entry, over all params of its run but the sha256 itself and the link to the next entry."""
    return files.digest({key: value for key, value in params.items() if key != SHA256 and not _NEXT.fullmatch(key)})


def as_entry(run: LogRun, sha256: str) -> Entry:
    """The entry in the params of a run.

    Args:
        run: the run.
        sha256: by which the previous entry names it.
    """
    values = run.params
    return Entry(
        number=_number(run),
        time=values.get("time", ""),
        action=values.get("action", ""),
        alias=values.get("alias"),
        before=values.get("from"),
        after=values.get("to"),
        who=values.get("who", ""),
        reason=values.get("reason", ""),
        evidence=_json(values.get("evidence"), dict),
        previous=values.get("previous", ""),
        sha256=sha256,
        accepts=tuple(map(str, _json(values.get("accepts"), list))),
        run_id=run.id,
        facts={name: value for name, value in _json(values.get("facts"), dict).items() if isinstance(value, str)},
        content=content_digest(values),
    )


def evidence_problem(entry: Entry, name: str, what: str) -> Problem:
    """The damage of a file of an entry.

    Args:
        entry: the entry.
        name: of the file.
        what: happened to it, in words.
    """
    return Problem(
        f"entry {entry.number} {name} {what}",
        f"entry {entry.number}: its file {name} {what} in the artifacts of run {entry.run_id}; {REMEDY}",
    )


def number_in(text: str) -> int | None:
    """The number of an entry in a param or a tag; None if it is not a number that MLflow's store could reach."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _is_complete(run: LogRun) -> bool:
    return SHA256 in run.params and number_in(run.params.get("number", "")) is not None


def _number(run: LogRun) -> int:
    return int(run.params["number"])


def _survivor(runs: Iterable[LogRun], linked: set[str], number: int) -> LogRun | None:
    """The first entry after entries that are gone: another entry, or a tag outside, leads to it or came after it."""
    found = [
        run
        for run in runs
        if run.params[SHA256] == content_digest(run.params)
        and _number(run) > number
        and (links(run) or linked & {run.id, run.params[SHA256]})
    ]
    return min(found, key=_number, default=None)


def _add(chain: Chain, run: LogRun, sha256: str, is_log_deleted: bool) -> None:
    entry = as_entry(run, sha256)
    now = entry.content
    name = f"entry {entry.number}"
    if now != sha256 or run.params[SHA256] != sha256:
        chain.problems.append(
            Problem(
                f"{name} edited {now[:12]}",
                f"{name} was edited in MLflow's store after it was written at {entry.time}: its content has the sha256 "
                f"{now[:12]}… instead of {sha256[:12]}…, so do not trust what it says; {REMEDY}",
            )
        )
    elif entry.number == chain.number + 1 and entry.previous != chain.sha256:
        chain.problems.append(
            Problem(
                f"{name} does not follow",
                f"{name} does not follow this entry {chain.number} but another one, so entry {chain.number} was "
                f"exchanged in MLflow's store; {REMEDY}",
            )
        )
    if run.is_deleted and not is_log_deleted:
        text = f"{name} was deleted in MLflow (run {run.id}); bring it back with: tuneline history --accept REASON"
        chain.problems.append(Problem(f"{name} deleted {run.id[:12]}", text, run.id))
    chain.entries.append(entry)
    # What follows a number that was written by hand is numbered as if it were not there.
    number = entry.number if entry.number <= chain.number + _MOST_LOST else chain.number + 1
    chain.end, chain.number, chain.sha256 = run, number, sha256


def _check_numbers(chain: Chain) -> None:
    numbers = [entry.number for entry in chain.entries]
    for before, after in zip([0, *numbers], [*numbers, chain.number + 1], strict=True):
        if after > before + 1:
            what = f"entry {before + 1} is" if after == before + 2 else f"entries {before + 1} to {after - 1} are"
            text = f"{what} gone: deleted for good from MLflow's store; {REMEDY}"
            chain.problems.append(Problem(f"gone {before + 1} to {after - 1}", text))
        elif after <= before:
            text = f"entry {after} stands after entry {before}, so entries were exchanged in MLflow's store; {REMEDY}"
            chain.problems.append(Problem(f"entry {after} after {before}", text))


def _check_strangers(chain: Chain, starts: Sequence[LogRun], others: Sequence[LogRun]) -> None:
    """Name the runs that tuneline cannot have left outside of the history: only an entry has a run after it."""
    for run in starts:
        text = f"run {run.id} claims to be the start of this history, which has another start; {REMEDY}"
        chain.problems.append(Problem(f"second start {run.id[:12]}", text))
    for run in others:
        if links(run) and run.params[SHA256] == content_digest(run.params):
            text = f"run {run.id} is an entry {_number(run)}, and this history has another entry in its place; {REMEDY}"
            chain.problems.append(Problem(f"other entry {run.id[:12]}", text))


def _check_heads(chain: Chain, heads: Sequence[Head]) -> None:
    by_number = {entry.number: entry for entry in chain.entries}
    for head in sorted(heads, key=lambda one: one.number):
        entry = by_number.get(head.number)
        if entry and entry.sha256 != head.sha256:
            chain.problems.append(
                Problem(
                    f"entry {head.number} replaced {head.sha256[:12]}",
                    f"entry {head.number} was replaced, or the tag of {head.where} was edited: the entry has the "
                    f"sha256 {entry.sha256[:12]}…, the tag says {head.sha256[:12]}…; {REMEDY}",
                )
            )
    for head in sorted(heads, key=lambda one: one.number):
        if head.number > chain.number + _MOST_LOST:
            text = (
                f"the tag of {head.where} names an entry {head.number}, which this history cannot have: it was edited"
            )
            chain.problems.append(Problem(f"head {head.number} {head.where[:100]}", f"{text} in MLflow; {REMEDY}"))
        elif head.number > chain.number:
            chain.number, chain.sha256 = head.number, head.sha256


def _json(text: str | None, kind: type[_Kind]) -> _Kind:
    """The JSON value in a param; empty where the param was edited to something else."""
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, kind) else kind()
