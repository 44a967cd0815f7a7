"""The history of a model: who moved which alias when, from and to, and with which evidence; entries are only added.

An entry is a run of MLflow's experiment `<model>-history`. Its params hold what happened, the sha256 of the previous
entry, and a sha256 over all of them. An entry belongs to the history once the previous entry's run names it in the
param `next`. MLflow changes no param, so of two processes that append at the same time one comes first and the other
appends after it, and a kill at any moment leaves either no entry or a whole entry.
"""

import getpass
import json
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tuneline.core import files
from tuneline.errors import RegistryError, TrackingError
from tuneline.processes import Identity
from tuneline.registry.abandoned import LONGEST
from tuneline.registry.runs import LogExperiment, LogRun
from tuneline.registry.tracking import Tracker

MOVED = "moved"
VERIFIED = "verified"
UNDONE = "undone"
OVERRIDDEN = "overridden"
ROLLED_BACK = "rolled back"
REMOVED = "removed"
REPRODUCED = "reproduced"
ERASED = "erased"
ACCEPTED = "accepted"
ACTIONS = {
    MOVED: "an alias was set outside of tuneline; it is not verified yet",
    VERIFIED: "the version has passed its verification and keeps the alias",
    UNDONE: "the version has not passed its verification, and the alias went back",
    OVERRIDDEN: "a person gave the alias to a version that has not passed its verification",
    ROLLED_BACK: "a person gave the alias back to an earlier version",
    REMOVED: "the alias was removed, or its version was deleted",
    REPRODUCED: "the version was built again",
    ERASED: "rows were erased, and with them the version",
    ACCEPTED: "a person accepted a damage of this history",
}
"""What an entry says that has happened."""
_SETTLED = (VERIFIED, OVERRIDDEN, ROLLED_BACK, REMOVED, ERASED)
"""The actions after which the alias is where the system wants it."""

_HEAD = "tuneline.history"
"""The tag of a registered model and of a version with the number and the sha256 of the last entry about it."""
_MAKER = "tuneline.maker"
_START = "start"
_SHA256 = "sha256"
_NEXT = re.compile(r"next(?:\.(\d+))?")
_EVIDENCE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_LONGEST_REASON = 2000
"""Characters; MLflow's params hold 6,000."""
_LONGEST_PARAM = 6000
_Kind = TypeVar("_Kind", dict[str, Any], list[Any])
_TRIES = 60


@dataclass(frozen=True)
class Entry:
    """One entry of the history."""

    number: int
    time: str
    """UTC, ISO 8601 with milliseconds, by the clock of the machine that wrote the entry."""
    action: str
    """One of `ACTIONS`."""
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


@dataclass(frozen=True)
class Problem:
    """A damage of the history."""

    key: str
    """Names the damage in a few words; an entry with the action `accepted` repeats it."""
    text: str
    """What is wrong with which entry, and what to do, in a sentence."""


@dataclass(frozen=True)
class History:
    """The history of a model as MLflow holds it now."""

    entries: tuple[Entry, ...] = ()
    found: tuple[Problem, ...] = ()
    """The damages that nobody has accepted."""
    accepted: tuple[Problem, ...] = ()
    """The damages that a person has accepted."""
    unfinished: int = 0
    """Entries that were begun and are not part of the history: their process was killed, or is still writing."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The damages that nobody has accepted, each a sentence."""
        return tuple(problem.text for problem in self.found)


@dataclass(frozen=True)
class Standing:
    """Which version had an alias at a time."""

    version: str | None
    state: str
    """How it got the alias: the action of the entry; empty if the history begins later."""
    entry: Entry | None


def acting_user() -> str:
    """Who acts, as far as this machine knows: user@host, and in front of it the name of the MLflow login if it is set.

    A name is what the machine says, and no proof; a signature on the evidence is a proof.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have a number only.
        user = f"uid {os.getuid()}"
    here = f"{user}@{socket.gethostname()}"
    login = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"{login} ({here})" if login else here


def append(
    tracker: Tracker,
    model: str,
    *,
    action: str,
    alias: str | None = None,
    before: str | None = None,
    after: str | None = None,
    reason: str = "",
    who: str | None = None,
    evidence: Mapping[str, bytes] | None = None,
    accepts: Iterable[str] = (),
) -> Entry:
    """Add an entry to the history of a model. A damaged history takes entries too.

    Args:
        tracker: the registry.
        model: the registered model's name.
        action: one of `ACTIONS`.
        alias: the alias that has moved.
        before: the version that had it.
        after: the version that has it now, or that the entry is about.
        reason: in words.
        who: who did it; by default the user of this process.
        evidence: name of a file -> its content.
        accepts: the keys of damages that are known from now on.

    Returns:
        The entry, which is part of the history now.

    Raises:
        TrackingError: MLflow does not answer. The entry may have been added; `read` tells.
    """
    assert action in ACTIONS, action
    evidence = evidence or {}
    assert all(_EVIDENCE_NAME.fullmatch(name) for name in evidence), list(evidence)
    content = {
        "model": model,
        "action": action,
        "alias": alias or "",
        "from": before or "",
        "to": after or "",
        "who": (who or acting_user())[:200],
        "reason": reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…",
        "accepts": json.dumps(sorted(accepts)) if accepts else "",
    }
    for attempt in range(_TRIES):
        if entry := _try_to_append(tracker, model, content, evidence):
            _write_heads(tracker, model, entry)
            return entry
        time.sleep(secrets.randbelow(50 * (attempt + 1)) / 1000)
    raise TrackingError(
        f"{_experiment(model)}: other processes added entries {_TRIES} times; run the same command again"
    )


def read(tracker: Tracker, model: str, *, evidence: bool = False) -> History:
    """The history of a model, and what is wrong with it.

    Args:
        tracker: the registry.
        model: the registered model's name.
        evidence: whether to fetch and hash the files of all entries too.
    """
    log = _find(tracker, model)
    chain = _walk(tracker.log_runs(log.id) if log else [], _heads(tracker, model), log)
    problems = [*chain.problems, *(_evidence_problems(tracker, chain.entries) if evidence else ())]
    accepted = {key for entry in chain.entries for key in entry.accepts}
    return History(
        entries=tuple(chain.entries),
        found=tuple(problem for problem in problems if problem.key not in accepted),
        accepted=tuple(problem for problem in problems if problem.key in accepted),
        unfinished=len(chain.unfinished),
    )


def last_verified(history: History, alias: str) -> str | None:
    """The version that the system last kept under the alias; None if the alias was removed, or never kept."""
    return next(
        (one.after for one in reversed(history.entries) if one.alias == alias and one.action in _SETTLED),
        None,
    )


def earlier_versions(history: History, alias: str) -> list[str]:
    """The versions to which a rollback leads, the nearest last.

    A rollback takes away the versions after the version to which it leads: two rollbacks go back by two versions.
    """
    kept: list[str] = []
    for entry in history.entries:
        if entry.alias != alias or entry.action not in _SETTLED or entry.after is None:
            continue
        if entry.action == ROLLED_BACK and entry.after in kept:
            kept = kept[: kept.index(entry.after)]
        kept = [*(version for version in kept if version != entry.after), entry.after]
    return [version for version in kept if version != last_verified(history, alias)]


def champion_at(history: History, alias: str, moment: str) -> Standing:
    """Which version had the alias at a time.

    Args:
        history: of the model.
        alias: the alias.
        moment: UTC, ISO 8601 as in the entries.
    """
    moved = [
        entry
        for entry in history.entries
        if entry.alias == alias and entry.time <= moment and entry.action not in (REPRODUCED, ACCEPTED)
    ]
    return Standing(moved[-1].after, moved[-1].action, moved[-1]) if moved else Standing(None, "", None)


def read_evidence(tracker: Tracker, entry: Entry) -> dict[str, bytes]:
    """The files of an entry.

    Raises:
        RegistryError: a file is missing or has changed.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sha256 in entry.evidence.items():
            path = tracker.fetch_artifact(entry.run_id, name, Path(folder))
            if path is None or files.sha256_file(path) != sha256:
                raise RegistryError(_evidence_problem(entry, name, path is None).text)
            found[name] = path.read_bytes()
    return found


def accept(tracker: Tracker, model: str, reason: str) -> Entry | None:
    """Add an entry that names the damages of the history, which are known from then on; bring back deleted entries.

    Args:
        tracker: the registry.
        model: the registered model's name.
        reason: what a person knows about the damages.

    Returns:
        The entry; None if the history has no damage.
    """
    log = _find(tracker, model)
    if log and log.is_deleted:
        tracker.restore_log(log, log.name)
    if log:
        chain = _walk(tracker.log_runs(log.id), _heads(tracker, model), log)
        deleted = {problem.run_id for problem in chain.problems if isinstance(problem, _Deleted)}
        for run_id in deleted:
            tracker.restore_log_run(run_id)
    else:
        deleted = set()
    found = read(tracker, model, evidence=True).found
    if not found and not deleted:
        return None
    told = [*(problem.key for problem in found), *(["brought back deleted entries"] if deleted else [])]
    return append(
        tracker,
        model,
        action=ACCEPTED,
        reason=f"{reason} ({'; '.join(told)})",
        accepts=[problem.key for problem in found],
    )


@dataclass(frozen=True)
class _Deleted(Problem):
    run_id: str = ""


@dataclass
class _Chain:
    """The entries in their order, and where the next entry goes."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unfinished: list[LogRun] = field(default_factory=list)
    end: LogRun | None = None
    """The run whose param names the next entry."""
    number: int = 0
    """Of the last entry that is known, which may be gone."""
    sha256: str = ""


def _experiment(model: str) -> str:
    return f"{model}-history"


def _find(tracker: Tracker, model: str) -> LogExperiment | None:
    """The experiment; by its id, if the model was renamed."""
    parts = tracker.model_tags(model).get(_HEAD, "").split()
    return tracker.find_log(_experiment(model), parts[2] if len(parts) == 3 else None)


def _heads(tracker: Tracker, model: str) -> dict[int, tuple[str, str]]:
    """Number of an entry -> its sha256 and who says so: the registered model and its versions."""
    said = {f"the registered model {model}": tracker.model_tags(model).get(_HEAD, "")}
    said |= {f"version {number}": tags.get(_HEAD, "") for number, tags in tracker.all_version_tags(model).items()}
    found = {}
    for where, text in said.items():
        parts = text.split()
        if len(parts) >= 2 and parts[0].isdecimal() and int(parts[0]) > 0:
            found.setdefault(int(parts[0]), (parts[1], where))
    return found


def _walk(runs: list[LogRun], heads: Mapping[int, tuple[str, str]], log: LogExperiment | None) -> _Chain:
    chain = _Chain()
    if log and log.is_deleted:
        chain.problems.append(
            Problem(
                "experiment deleted",
                f"the experiment {log.name}, which holds the history, was deleted in MLflow; bring it back with: "
                "tuneline history --accept REASON",
            )
        )
    by_id = {run.id: run for run in runs if _is_complete(run)}
    linked = {run_id for run in runs for run_id, _ in _links(run)}
    chain.end = next((run for run in runs if _START in run.params), None)
    seen = {chain.end.id} if chain.end else set()
    links = _links(chain.end) if chain.end else []
    while True:
        run = None
        for run_id, sha256 in links:
            run = by_id.get(run_id) if run_id not in seen else None
            if run:
                break
            # The entry is lost. What was added since then is chained to it all the same.
            chain.number, chain.sha256 = chain.number + 1, sha256
        if run is None:
            run = _survivor(by_id.values(), seen, linked, chain, heads)
            if run is None:
                break
            sha256 = run.params[_SHA256]
        seen.add(run.id)
        _add(chain, run, sha256, is_log_deleted=bool(log and log.is_deleted))
        links = _links(run)
    _check_gaps(chain)
    _check_heads(chain, heads)
    chain.unfinished = [run for run in runs if run.id not in seen and not run.is_deleted]
    return chain


def _survivor(
    runs: Iterable[LogRun], seen: set[str], linked: set[str], chain: _Chain, heads: Mapping[int, tuple[str, str]]
) -> LogRun | None:
    """The first entry after entries that are gone."""
    known = {sha256 for sha256, _ in heads.values()}
    found = [
        run
        for run in runs
        if run.id not in seen
        and run.params[_SHA256] == _digest(run)
        and _number(run) > chain.number
        and (run.id in linked or _links(run) or run.params[_SHA256] in known)
    ]
    return min(found, key=_number, default=None)


def _add(chain: _Chain, run: LogRun, sha256: str, *, is_log_deleted: bool) -> None:
    entry = _as_entry(run, sha256)
    now = _digest(run)
    name = f"entry {entry.number or chain.number + 1}"
    if now != sha256 or run.params[_SHA256] != sha256:
        chain.problems.append(
            Problem(
                f"{name} edited {now[:12]}",
                f"{name} was edited in MLflow's database after {entry.time}: its content has the sha256 {now[:12]}… "
                f"instead of {sha256[:12]}…; do not trust this entry, ask who can write to the database, put a copy of "
                "the database back, or accept it with: tuneline history --accept REASON",
            )
        )
    elif entry.number == chain.number + 1 and entry.previous != chain.sha256:
        chain.problems.append(
            Problem(
                f"{name} does not follow",
                f"{name} does not follow entry {chain.number}: it was written after another entry {chain.number}, so "
                "entries were exchanged in MLflow's database; put a copy of the database back, or accept it with: "
                "tuneline history --accept REASON",
            )
        )
    if run.is_deleted and not is_log_deleted:
        chain.problems.append(
            _Deleted(
                f"{name} deleted {run.id[:12]}",
                f"{name} was deleted in MLflow (run {run.id}); bring it back with: tuneline history --accept REASON",
                run.id,
            )
        )
    chain.entries.append(entry)
    chain.end, chain.number, chain.sha256 = run, entry.number or chain.number + 1, sha256


def _check_gaps(chain: _Chain) -> None:
    numbers = [entry.number for entry in chain.entries]
    for before, after in zip([0, *numbers], [*numbers, chain.number + 1], strict=True):
        if after > before + 1:
            chain.problems.append(_gone(before + 1, after - 1))
        elif after <= before:
            chain.problems.append(
                Problem(
                    f"entry {after} after {before}",
                    f"entry {after} stands after entry {before}: entries were exchanged in MLflow's database; put a "
                    "copy of the database back, or accept it with: tuneline history --accept REASON",
                )
            )


def _check_heads(chain: _Chain, heads: Mapping[int, tuple[str, str]]) -> None:
    by_number = {entry.number: entry for entry in chain.entries}
    for number, (sha256, where) in sorted(heads.items()):
        if number in by_number and by_number[number].sha256 != sha256:
            chain.problems.append(
                Problem(
                    f"entry {number} replaced {sha256[:12]}",
                    f"entry {number} was replaced, or the tag {_HEAD} of {where} was edited: the entry has the sha256 "
                    f"{by_number[number].sha256[:12]}…, the tag says {sha256[:12]}…; put a copy of MLflow's database "
                    "back, or accept it with: tuneline history --accept REASON",
                )
            )
    last = max(heads, default=0)
    if last > chain.number:
        chain.problems.append(_gone(chain.number + 1, last))
        chain.number, chain.sha256 = last, heads[last][0]


def _gone(first: int, last: int) -> Problem:
    what = f"entry {first} is" if first == last else f"entries {first} to {last} are"
    return Problem(
        f"gone {first} to {last}",
        f"{what} gone: deleted for good from MLflow; put a copy of the database back, or accept it with: tuneline "
        "history --accept REASON",
    )


def _evidence_problems(tracker: Tracker, entries: Iterable[Entry]) -> Iterator[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            for name, sha256 in entry.evidence.items():
                path = tracker.fetch_artifact(entry.run_id, name, Path(folder))
                if path is None or files.sha256_file(path) != sha256:
                    yield _evidence_problem(entry, name, path is None)


def _evidence_problem(entry: Entry, name: str, is_missing: bool) -> Problem:
    what = "is missing" if is_missing else "was changed"
    return Problem(
        f"entry {entry.number} {name} {what}",
        f"entry {entry.number}: its file {name} {what} in the artifacts of run {entry.run_id}; put a copy of the file "
        "back, or accept it with: tuneline history --accept REASON",
    )


def _links(run: LogRun) -> list[tuple[str, str]]:
    """The entries that follow a run, as run id and sha256; more than one only where earlier ones were lost."""
    keys = sorted((int(match[1] or 1), key) for key in run.params if (match := _NEXT.fullmatch(key)))
    parts = [run.params[key].split() for _, key in keys]
    return [(part[0], part[1]) if len(part) == 2 else ("", "") for part in parts]


def _is_complete(run: LogRun) -> bool:
    return _SHA256 in run.params and run.params.get("number", "").isdecimal()


def _number(run: LogRun) -> int:
    return int(run.params["number"])


def _digest(run: LogRun) -> str:
    return _content_digest(run.params)


def _content_digest(values: Mapping[str, str]) -> str:
    """The sha256 over all params but itself and the links to the next entry."""
    return files.digest({key: value for key, value in values.items() if key != _SHA256 and not _NEXT.fullmatch(key)})


def _as_entry(run: LogRun, sha256: str) -> Entry:
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
    )


def _json(text: str | None, kind: type[_Kind]) -> _Kind:
    """The JSON value in a param; empty where the param was edited to something else."""
    try:
        value = json.loads(text or "null")
    except ValueError:
        value = None
    return value if isinstance(value, kind) else kind()


def _try_to_append(
    tracker: Tracker, model: str, content: Mapping[str, str], evidence: Mapping[str, bytes]
) -> Entry | None:
    """One try; None if another process has added an entry meanwhile."""
    log = _open(tracker, model)
    chain = _walk(tracker.log_runs(log.id), _heads(tracker, model), log)
    if chain.end is None:
        raise RegistryError(
            f"{log.name}: all runs of the history were deleted for good, and no entry can be added to it; rename this "
            "experiment in MLflow, and the next entry begins a new one"
        )
    _clean(tracker, chain)
    if chain.end.is_deleted:
        tracker.restore_log_run(chain.end.id)
    number = chain.number + 1
    words = f"{content['action']} {content['alias']}".strip()
    run_id = tracker.begin_log_run(log.id, f"{number} {words}", {_MAKER: _maker()})
    with tempfile.TemporaryDirectory() as folder:
        for name, written in evidence.items():
            (Path(folder) / name).write_bytes(written)
        tracker.attach(run_id, {Path(folder) / name: "" for name in evidence})
        digests = {name: files.sha256_file(Path(folder) / name) for name in sorted(evidence)}
    values = {
        **content,
        "number": str(number),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "evidence": json.dumps(digests) if digests else "",
        "previous": chain.sha256,
    }
    # MLflow's REST API has no empty params.
    values = {key: value for key, value in values.items() if value}
    assert all(len(value) <= _LONGEST_PARAM for value in values.values())
    sha256 = _content_digest(values)
    tracker.complete_log_run(run_id, {**values, _SHA256: sha256})
    # This one write makes the entry a part of the history.
    taken = len(_links(chain.end))
    key = f"next.{taken + 1}" if taken else "next"
    if not tracker.claim_param(chain.end.id, key, f"{run_id} {sha256}"):
        tracker.delete_log_run(run_id)
        return None
    return _as_entry(LogRun(run_id, {**values, _SHA256: sha256}, {}, False, 0.0), sha256)


def _open(tracker: Tracker, model: str) -> LogExperiment:
    """The experiment, which is made, restored or renamed where it must be."""
    log = _find(tracker, model)
    name = _experiment(model)
    if log is None:
        for number, tags in tracker.unfinished_logs(f"{name}.").items():
            if _is_abandoned(tags.get(_MAKER), None):
                tracker.delete_log(number)
        made = {_MAKER: _maker()}
        tracker.make_log(name, f"{name}.{secrets.token_hex(6)}", {_START: secrets.token_hex(16)}, made)
    elif log.is_deleted or log.name != name:
        tracker.restore_log(log, name)
    else:
        return log
    found = _find(tracker, model)
    assert found, name
    return found


def _maker() -> str:
    return json.dumps(asdict(Identity.of_process()), sort_keys=True)


def _clean(tracker: Tracker, chain: _Chain) -> None:
    """Delete the runs that killed processes have left; in a damaged history they may be entries."""
    for run in chain.unfinished:
        if not chain.problems and _is_abandoned(run.tags.get(_MAKER), run.changed):
            tracker.delete_log_run(run.id)


def _is_abandoned(maker: str | None, changed: float | None) -> bool:
    try:
        has_ended = Identity(**json.loads(maker or "")).has_ended()
    except (ValueError, TypeError):
        # A person has made it.
        return False
    if has_ended is None and changed is not None:
        return time.time() - changed > LONGEST
    return bool(has_ended)


def _write_heads(tracker: Tracker, model: str, entry: Entry) -> None:
    """Write the head into tags: so entries at the end cannot be taken away unseen."""
    log = _find(tracker, model)
    if log is None or not tracker.has_model(model):
        return
    head = f"{entry.number} {entry.sha256}"
    if entry.number > _number_of_head(tracker.model_tags(model).get(_HEAD, "")):
        tracker.tag_model(model, {_HEAD: f"{head} {log.id}"})
    concerned = entry.after or entry.before
    if concerned and concerned in tracker.all_version_tags(model):
        tracker.update_version(model, concerned, {_HEAD: head})


def _number_of_head(head: str) -> int:
    number = head.split(" ")[0]
    return int(number) if number.isdecimal() else 0
