"""The last decision: the gate's verdict on the model in the workspace and its version, and whether both still hold.

A run that finds nothing stale does not run the gate again while nothing has changed that the gate reads. Every decision
is saved in work/settled.json; that file may be deleted at any time, then the gate runs again.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneline import params, terminal
from tuneline.core import files
from tuneline.decisions import git_steps
from tuneline.errors import BrokenVersionError, TrackingError
from tuneline.registry import addresses, version_files
from tuneline.work import WORK

_FILE = WORK / "settled.json"
_LOCK = Path("dvc.lock")
_OF_GATE = ("asked.champion", "asked.model_sha256", "asked.evaluation_sha256")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """The decision about the model in the workspace."""

    model: str
    verdict: str
    """passed, undecided or failed."""
    version: str | None
    """Its number in the registry; None after a failed gate, because then nothing is registered."""
    run_id: str
    """The id of the training run in MLflow."""
    reasons: tuple[str, ...] = ()
    """The gate's reasons, one for each rule."""

    @property
    def is_failed(self) -> bool:
        """Whether the gate failed."""
        return self.version is None

    def message(self, rebuilt: Sequence[str], restored: Sequence[str] = ()) -> str:
        """The last message of a run: the reasons of a failed gate, then a line with model, version, verdict, stages.

        Args:
            rebuilt: the stages that ran.
            restored: the stages whose outputs came from DVC's cache.
        """
        changed = f"rebuilt: {', '.join(rebuilt) or 'nothing'}"
        if restored:
            changed = f"restored from DVC's cache: {', '.join(restored)}; {changed}"
        if self.is_failed:
            return "\n".join([*self.reasons, f"{self.model}: {self.verdict}, no version is registered; {changed}"])
        return f"{self.model} version {self.version}, {self.verdict}; {changed}"


def decision_inputs() -> dict[str, str | None]:
    """What a decision depends on besides the registry and the report: a name for a person -> digest.

    Read this before the gate runs, because a person may edit a file meanwhile. The digest of dvc.lock stands for the
    outputs of all stages: DVC itself tells whether the workspace still holds them.
    """
    code = {path.relative_to(_PACKAGE).as_posix(): files.sha256_file(path) for path in _sources()}
    return {
        "params": _digest(Path(params.PARAMS_FILE)),
        "outputs": _digest(_LOCK),
        "code": files.digest(code),
        "MLflow's address": terminal.masked(_address()),
    }


def save(p: params.Params, before: Mapping[str, str | None], outcome: Outcome) -> None:
    """Save a decision with all that it depends on.

    Args:
        p: the params.
        before: what `decision_inputs` returned before the gate ran.
        outcome: the result of the gate, which has just written gate.json, and of the registration.
    """
    try:
        seen = _compare_with_registry(p, outcome, None)[1]
    except TrackingError:
        # The version is registered in any case; the next run looks again.
        seen = None
    _note(p, before, outcome, seen)


@dataclass(frozen=True)
class _Seen:
    """What the registry held when the decision was made or last confirmed."""

    store: str | None
    """The digest of MLflow's store; None where a server keeps it."""
    version: str | None = None
    """The digest of the verdict tags of the version."""
    folder: str | None = None
    """The folder of the version's files on this machine."""
    files: str | None = None
    """The digest of their names, sizes and times of change."""


def _note(p: params.Params, about: Mapping[str, str | None], outcome: Outcome, seen: _Seen | None) -> None:
    _write({"asked": {**about, "report": _report(p)}, "seen": seen and asdict(seen), "outcome": asdict(outcome)})


def _write(note: Mapping[str, Any]) -> None:
    """Write the file with a digest of its content, so that an edit by a person is noticed."""
    value = {name: part for name, part in note.items() if name != "sha256"}
    files.write_json(_FILE, {**value, "sha256": files.digest(value)})


def _read() -> dict[str, Any]:
    """The saved decision.

    Raises:
        FileNotFoundError: no decision is saved.
        ValueError: the file has changed since it was written.
    """
    note = files.read_json(_FILE)
    if not isinstance(note, dict) or note.pop("sha256", None) != files.digest(note):
        raise ValueError(f"{_FILE}: has changed since it was written")
    return note


def load_if_current(p: params.Params) -> Outcome | str:
    """The last decision, if model, rules, code, champion and version are still the same.

    The caller checks that DVC finds nothing stale. MLflow is loaded only if its store has changed or is on a server.

    Args:
        p: the params.

    Returns:
        The outcome; or why the gate must run again, in a few words.

    Raises:
        TrackingError: MLflow does not answer.
    """
    try:
        note = _read()
        outcome = Outcome(**(note["outcome"] | {"reasons": tuple(note["outcome"]["reasons"])}))
        then, before = dict(note["asked"]), _Seen(**note["seen"]) if note["seen"] else None
    except FileNotFoundError:
        return "no decision yet"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "no decision that can be read"
    now = {**decision_inputs(), "report": _report(p)}
    changed = [name for name in now if then.get(name) != now[name]]
    if changed:
        return f"{' and '.join(changed)} changed"
    if before and before.folder and _state(Path(before.folder)) != before.files:
        return "version's files changed"
    store = addresses.store_digest(_address())
    if before and store is not None and store == before.store:
        return outcome
    reason, seen = _compare_with_registry(p, outcome, before)
    if reason:
        return reason
    _note(p, now, outcome, seen)
    return outcome


def add_commit(p: params.Params, outcome: Outcome) -> str | None:
    """Add to the version the commit that holds all that it was made from, as soon as git has such a commit.

    Args:
        p: the params.
        outcome: the current decision; nothing is stale.

    Returns:
        A line about the added commit; None where nothing is added.

    Raises:
        TrackingError: MLflow does not answer.
    """
    try:
        note = _read()
    except (OSError, ValueError):
        # Another process has changed the file just now; the next run runs the gate again.
        return None
    if outcome.version is None or note.get("commit") or not (commit := git_steps.full_commit(p)):
        return None
    from tuneline.registry import tracking, versions

    tracker = tracking.connect()
    added = versions.add_commit(tracker, outcome.model, outcome.version, commit, files.sha256_file(_LOCK))
    seen = _compare_with_registry(p, outcome, None)[1]
    _write({**note, "seen": seen and asdict(seen), "commit": commit})
    return f"{outcome.model} version {outcome.version}: its lineage now names commit {commit[:12]}" if added else None


def _address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _sources() -> list[Path]:
    """All files of the package, templates and styles included."""
    return [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _report(p: params.Params) -> str:
    return files.digest([_digest(Path(p.paths.reports) / name) for name in ("gate.json", "index.html")])


def _digest(path: Path) -> str | None:
    return files.sha256_file(path) if path.is_file() else None


def _compare_with_registry(p: params.Params, outcome: Outcome, before: _Seen | None) -> tuple[str | None, _Seen | None]:
    """Why the registry requires a new decision, or None; and, for None, what the registry holds.

    The store's digest is computed before the registry is read, so the next run notices a change that a person makes
    meanwhile, such as another champion.

    Args:
        p: the params.
        outcome: the decision.
        before: what the registry held then; None after a new decision, or where the registry could not be read.
    """
    # Loads MLflow: seconds that a run without a change does not need.
    from tuneline.registry import tracking, version_status

    tracker = tracking.connect()
    store = addresses.store_digest(_address())
    of_gate = files.read_object(Path(p.paths.reports) / "gate.json", *_OF_GATE)["asked"]
    if version_status.read_champion(tracker, outcome.model).version != of_gate["champion"]:
        return "champion changed", None
    if not tracker.has_run(outcome.run_id):
        return "run deleted", None
    if outcome.version is None:
        return None, _Seen(store)
    wanted = {f"tuneline.{name}": of_gate[name] for name in ("model_sha256", "evaluation_sha256")}
    if outcome.version not in tracker.find_versions(outcome.model, wanted):
        return "version changed", None
    tags = tracker.version_tags(outcome.model, outcome.version)
    verdict_digest = files.digest(version_status.only_verdict_tags(tags))
    if version_status.BROKEN in tags or (before and before.version != verdict_digest):
        return "version changed", None
    try:
        folder = tracker.local_folder(outcome.model, outcome.version)
    except BrokenVersionError:
        return "version's files changed", None
    return None, _Seen(store, verdict_digest, str(folder) if folder else None, _state(folder) if folder else None)


def _state(folder: Path) -> str:
    """The digest of the names, sizes and times of the files below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.name not in version_files.ADDED_BY_MLFLOW]
    found = [(path, path.stat()) for path in paths if path.is_file()]
    return files.digest([[str(path), state.st_size, state.st_mtime_ns] for path, state in found])
