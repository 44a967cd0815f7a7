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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuneline.core import files
from tuneline.errors import RegistryError, TrackingError
from tuneline.processes import Identity
from tuneline.registry import chain, names
from tuneline.registry.abandoned import LONGEST
from tuneline.registry.chain import Chain, Entry, Head, Problem, Slot
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
GIVEN = (VERIFIED, OVERRIDDEN, ROLLED_BACK)
"""The actions with which a version gets an alias and keeps it."""
SETTLED = (*GIVEN, REMOVED, ERASED)
"""The actions after which the alias is where the system wants it."""

HEAD = "tuneline.history"
"""The tag of a registered model and of a version with the number and the sha256 of the last entry about it."""


@dataclass(frozen=True)
class Book:
    """A kind of entries about a model; the entries of a kind are a chain of their own."""

    suffix: str
    """The experiment with the entries is named after the model and ends with it."""
    head: str
    """The tag of a registered model and of a version with the number and the sha256 of the last entry about it."""
    actions: Mapping[str, str]
    """What an entry says that has happened, and what that means."""


HISTORY = Book("-history", HEAD, ACTIONS)
_MAKER = "tuneline.maker"
_EVIDENCE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_LONGEST_PARAM = 6000
"""Characters of MLflow's params."""
_TRIES = 60
_LATEST = "9999"
"""Later than the time of any entry."""
SOMEONE = "unknown"
"""Who has set an alias outside of tuneline: MLflow does not say."""
Evidence = Mapping[str, bytes] | Callable[[Slot], Mapping[str, bytes]]
"""The files of an entry: name -> content, or a function that makes them for the place of the entry."""


@dataclass(frozen=True)
class History:
    """The history of a model as MLflow holds it now."""

    entries: tuple[Entry, ...] = ()
    found: tuple[Problem, ...] = ()
    """The damages that are not accepted."""
    accepted: tuple[Problem, ...] = ()
    """The damages that a person has accepted."""
    unfinished: int = 0
    """Entries that were begun and are not part of the history: their process was killed, or is still writing."""
    last: tuple[int, str] = (0, "")
    """Number and sha256 of the last entry that is known, which may be gone."""
    start: str = ""
    """A random text that no other history has; empty if there is no history yet."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The damages that are not accepted, each a sentence."""
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
    evidence: Evidence | None = None,
    accepts: Iterable[str] = (),
    book: Book = HISTORY,
) -> Entry:
    """Add an entry to the history of a model. A damaged history takes entries too.

    Args:
        tracker: the registry.
        model: the registered model's name.
        action: one of the book's.
        alias: the alias that has moved.
        before: the version that had it.
        after: the version that has it now, or that the entry is about.
        reason: in words.
        who: who did it; by default the user of this process.
        evidence: name of a file -> its content; or a function of the entry's place, called once per try, for files
            that hold this place.
        accepts: the keys of damages that are known from now on.
        book: which entries.

    Returns:
        The entry, which is part of the history now.

    Raises:
        TrackingError: MLflow does not answer. The entry may have been added; `read` tells.
    """
    content = _content(model, book, action, reason, who)
    content |= {"alias": alias or "", "from": before or "", "to": after or ""}
    content |= {"accepts": json.dumps(sorted(accepts)) if accepts else ""}
    for attempt in range(_TRIES):
        if entry := _try_to_append(tracker, model, book, content, evidence or {}):
            return entry
        time.sleep(secrets.randbelow(50 * (attempt + 1)) / 1000)
    raise TrackingError(
        f"{_experiment(model, book)}: other processes added entries {_TRIES} times; run the same command again"
    )


def append_after(
    tracker: Tracker,
    model: str,
    previous: str,
    *,
    book: Book,
    action: str,
    reason: str,
    facts: Mapping[str, str],
    evidence: Mapping[str, bytes] | None = None,
) -> Entry | None:
    """Add an entry that depends on all earlier entries.

    Args:
        tracker: the registry.
        model: the registered model's name.
        previous: the sha256 of the last entry that was seen (`History.last`).
        book: which entries.
        action: one of its actions.
        reason: in words.
        facts: name -> value.
        evidence: name of a file -> its content.

    Returns:
        The entry; None if another process has added an entry meanwhile.

    Raises:
        TrackingError: MLflow does not answer.
    """
    content = _content(model, book, action, reason, None) | {"facts": json.dumps(facts)}
    return _try_to_append(tracker, model, book, content, evidence or {}, previous)


def _content(model: str, book: Book, action: str, reason: str, who: str | None) -> dict[str, str]:
    assert action in book.actions, action
    return {
        "model": model,
        "action": action,
        "who": names.storable(who or acting_user())[:200],
        "reason": names.storable(reason),
    }


def read(tracker: Tracker, model: str, *, evidence: bool = False, book: Book = HISTORY) -> History:
    """The history of a model, and what is wrong with it.

    Args:
        tracker: the registry.
        model: the registered model's name.
        evidence: whether to fetch and hash the files of all entries too.
        book: which entries.
    """
    found = _look(tracker, model, book).chain
    problems = [*found.problems, *(_evidence_problems(tracker, found.entries) if evidence else ())]
    accepted = {key for entry in found.entries for key in entry.accepts}
    return History(
        entries=tuple(found.entries),
        found=tuple(problem for problem in problems if problem.key not in accepted),
        accepted=tuple(problem for problem in problems if problem.key in accepted),
        unfinished=len(found.unfinished),
        last=(found.number, found.sha256),
        start=found.start,
    )


def last_verified(history: History, alias: str) -> str | None:
    """The version that the system last kept under the alias; None if the alias was removed, or never kept."""
    last = next((one for one in reversed(history.entries) if one.alias == alias and one.action in SETTLED), None)
    return last.after if last and last.action in GIVEN else None


def earlier_versions(history: History, alias: str) -> list[str]:
    """The versions to which a rollback leads, the nearest last."""
    return [version for version in kept_versions(history, alias) if version != last_verified(history, alias)]


def kept_versions(history: History, alias: str) -> list[str]:
    """The versions that the system has kept under the alias, the last one last, whatever became of the alias later.

    A rollback takes away the versions after the version to which it leads: two rollbacks go back by two versions.
    """
    kept: list[str] = []
    for entry in history.entries:
        if entry.alias != alias or entry.action not in GIVEN or entry.after is None:
            continue
        if entry.action == ROLLED_BACK and entry.after in kept:
            kept = kept[: kept.index(entry.after)]
        kept = [*(version for version in kept if version != entry.after), entry.after]
    return kept


def champion_at(history: History, alias: str, moment: str = _LATEST) -> Standing:
    """Which version had the alias at a time.

    Args:
        history: of the model.
        alias: the alias.
        moment: UTC, ISO 8601 as in the entries; by default after the last entry.
    """
    moved = [
        entry
        for entry in history.entries
        if entry.alias == alias and entry.time <= moment and entry.action not in (REPRODUCED, ACCEPTED)
    ]
    return Standing(moved[-1].after, moved[-1].action, moved[-1]) if moved else Standing(None, "", None)


def read_evidence(tracker: Tracker, entry: Entry, wanted: Iterable[str] | None = None) -> dict[str, bytes]:
    """The files of an entry.

    Args:
        tracker: the registry.
        entry: of a history.
        wanted: the names of the files; None: all of them.

    Raises:
        RegistryError: a file is missing or has changed.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in entry.evidence if wanted is None else wanted:
            path = tracker.fetch_artifact(entry.run_id, name, Path(folder))
            if problem := _file_problem(entry, name, path, entry.evidence[name]):
                raise RegistryError(problem.text)
            assert path
            found[name] = path.read_bytes()
    return found


def accept(tracker: Tracker, model: str, reason: str, *, book: Book = HISTORY) -> Entry | None:
    """Add entries that name the damages of the history, which are known from then on; bring back deleted entries.

    Args:
        tracker: the registry.
        model: the registered model's name.
        reason: what a person knows about the damages.
        book: which entries.

    Returns:
        The last entry; None if the history has no damage.
    """
    before = _look(tracker, model, book)
    restored = []
    if before.log and before.log.is_deleted:
        tracker.restore_log(before.log, before.log.name)
        restored = [f"experiment {before.log.name}"]
    for problem in before.chain.problems:
        if problem.deleted_run:
            tracker.restore_log_run(problem.deleted_run)
            restored.append(f"run {problem.deleted_run}")
    found = read(tracker, model, evidence=True, book=book).found
    if not found and not restored:
        return None
    entry = None
    for keys in _that_fit([problem.key for problem in found]) or [[]]:
        told = [*keys, *(f"brought back {one}" for one in restored)]
        reason_and_keys = f"{reason} ({'; '.join(told)})"
        entry = append(tracker, model, action=ACCEPTED, reason=reason_and_keys, accepts=keys, book=book)
        restored = []
    return entry


def _that_fit(keys: Iterable[str]) -> list[list[str]]:
    """The keys in lists, each of which a param can hold."""
    parts: list[list[str]] = []
    for key in keys:
        if parts and len(json.dumps([*parts[-1], key])) <= _LONGEST_PARAM:
            parts[-1].append(key)
        else:
            parts.append([key])
    return parts


def _experiment(model: str, book: Book) -> str:
    return f"{model}{book.suffix}"


@dataclass(frozen=True)
class _Place:
    """What MLflow holds of a history now."""

    log: LogExperiment | None
    chain: Chain
    is_registered: bool
    versions: frozenset[str]


def _look(tracker: Tracker, model: str, book: Book) -> _Place:
    tags = tracker.registered_tags(model)
    of_model = (tags or {}).get(book.head, "")
    parts = of_model.split()
    log = tracker.find_log(_experiment(model, book))
    log = log or (_of_old_name(tracker, parts[2], book) if len(parts) == 3 else None)
    versions = tracker.all_version_tags(model) if tags is not None else {}
    said = [(of_model, f"the registered model {model}")]
    said += [(found.get(book.head, ""), f"version {number}") for number, found in versions.items()]
    heads = [head for text, where in said if (head := _head(text, where))]
    found = chain.walk(tracker.log_runs(log.id) if log else [], heads, log)
    return _Place(log, found, tags is not None, frozenset(versions))


def _of_old_name(tracker: Tracker, number: str, book: Book) -> LogExperiment | None:
    """The experiment with this id, which a tag of the model holds, if it is the history of a model that was renamed."""
    found = tracker.find_log_by_id(number)
    if found is None or not found.name.endswith(book.suffix):
        return None
    return found if tracker.registered_tags(found.name.removesuffix(book.suffix)) is None else None


def _head(text: str, where: str) -> Head | None:
    parts = text.split()
    number = chain.number_in(parts[0]) if len(parts) > 1 else None
    return Head(number, parts[1], where) if number else None


def _evidence_problems(tracker: Tracker, entries: Iterable[Entry]) -> Iterator[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            for name, sha256 in entry.evidence.items():
                path = tracker.fetch_artifact(entry.run_id, name, Path(folder))
                if problem := _file_problem(entry, name, path, sha256):
                    yield problem


def _file_problem(entry: Entry, name: str, path: Path | None, sha256: str) -> Problem | None:
    if path is None:
        return chain.evidence_problem(entry, name, "is missing")
    return None if files.sha256_file(path) == sha256 else chain.evidence_problem(entry, name, "was changed")


def _try_to_append(
    tracker: Tracker,
    model: str,
    book: Book,
    content: Mapping[str, str],
    evidence: Evidence,
    previous: str | None = None,
) -> Entry | None:
    """One try; None if another process has added an entry meanwhile: since `previous`, where it is given."""
    place = _open(tracker, model, book)
    before, end = place.chain, place.chain.end
    assert place.log
    assert end
    if previous is not None and before.sha256 != previous:
        return None
    for run in before.unfinished:
        # In a damaged history they may be entries.
        if not before.problems and _is_abandoned(run.tags.get(_MAKER), run.began):
            tracker.delete_log_run(run.id)
    if end.is_deleted:
        tracker.restore_log_run(end.id)
    number = before.number + 1
    name = f"{number} {content['action']} {content.get('alias', '')}".strip()
    run_id = tracker.begin_log_run(place.log.id, name, {_MAKER: _maker()})
    digests = {}
    written_files = evidence(Slot(number, before.sha256, before.start)) if callable(evidence) else evidence
    assert all(_EVIDENCE_NAME.fullmatch(name) for name in written_files), list(written_files)
    with tempfile.TemporaryDirectory() as folder:
        for name, written in sorted(written_files.items()):
            (Path(folder) / name).write_bytes(written)
            digests[name] = files.sha256_file(Path(folder) / name)
        tracker.attach(run_id, {Path(folder) / name: "" for name in digests})
    values = {
        **content,
        "number": str(number),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "evidence": json.dumps(digests) if digests else "",
        "previous": before.sha256,
    }
    # MLflow's REST API has no empty params.
    values = {key: value for key, value in values.items() if value}
    assert all(len(value) <= _LONGEST_PARAM for value in values.values())
    sha256 = chain.content_digest(values)
    tracker.complete_log_run(run_id, {**values, chain.SHA256: sha256})
    # This one write makes the entry a part of the history.
    if not tracker.claim_param(end.id, chain.free_link(end), f"{run_id} {sha256}"):
        tracker.delete_log_run(run_id)
        return None
    entry = chain.as_entry(LogRun(run_id, {**values, chain.SHA256: sha256}, {}, is_deleted=False, began=0.0), sha256)
    _write_heads(tracker, model, book, place, entry)
    return entry


def _open(tracker: Tracker, model: str, book: Book) -> _Place:
    """The history; its experiment is made, restored or renamed where it must be."""
    place, name = _look(tracker, model, book), _experiment(model, book)
    if place.log and place.chain.end:
        if not place.log.is_deleted and place.log.name == name:
            return place
        tracker.restore_log(place.log, name)
        return _look(tracker, model, book)
    token = secrets.token_hex(6)
    if place.log and place.log.name == name:
        # Its runs were deleted for good, and no entry can be chained to them.
        tracker.restore_log(place.log, f"{name}.lost-{token}")
    for number, tags in tracker.unfinished_logs(f"{name}.").items():
        if _is_abandoned(tags.get(_MAKER), None):
            tracker.delete_log(number)
    tracker.make_log(name, f"{name}.{token}", {chain.START: secrets.token_hex(16)}, {_MAKER: _maker()})
    return _look(tracker, model, book)


def _maker() -> str:
    return Identity.of_process().as_json()


def _is_abandoned(maker: str | None, began: float | None) -> bool:
    process = Identity.from_json(maker or "")
    if process is None:
        # A person has made it.
        return False
    has_ended = process.has_ended()
    if has_ended is None and began is not None:
        return time.time() - began > LONGEST
    return bool(has_ended)


def _write_heads(tracker: Tracker, model: str, book: Book, place: _Place, entry: Entry) -> None:
    """Write the last entry into tags outside of the history, so that entries at its end are not taken away unseen."""
    assert place.log
    head = f"{entry.number} {entry.sha256}"
    if place.is_registered:
        tracker.tag_model(model, {book.head: f"{head} {place.log.id}"})
    concerned = entry.after or entry.before
    if concerned in place.versions and concerned:
        tracker.update_version(model, concerned, {book.head: head})
