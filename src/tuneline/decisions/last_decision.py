"""Whether what was decided still stands: the gate's verdict on what lies in the workspace, and its version.

A run that finds nothing stale need not ask the gate again where all that it would look at is as it was. That is noted
after every decision in work/settled.json, which may be deleted at any time: then the gate is asked again.
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
from tuneline.registry import addresses
from tuneline.work import WORK

_NOTE = WORK / "settled.json"
_LOCK = Path("dvc.lock")
_OF_GATE = ("asked.champion", "asked.model_sha256", "asked.evaluation_sha256")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """What was decided about the model in the workspace."""

    model: str
    verdict: str
    """passed, undecided or failed."""
    version: str | None
    """Its number in the registry; None where the gate failed, as nothing is registered then."""
    run_id: str
    """Of the training, in MLflow."""
    reasons: tuple[str, ...] = ()
    """Of the gate, one for each rule."""

    @property
    def is_failed(self) -> bool:
        """Whether the gate failed, so that there is no version."""
        return self.version is None

    def message(self, rebuilt: Sequence[str]) -> str:
        """How a run ends, in words: a failed gate's reasons, and last a line of model, version, verdict and stages.

        Args:
            rebuilt: the stages that were.
        """
        changed = f"rebuilt: {', '.join(rebuilt) or 'nothing'}"
        if self.is_failed:
            return "\n".join([*self.reasons, f"{self.model}: {self.verdict}, no version is registered; {changed}"])
        return f"{self.model} version {self.version}, {self.verdict}; {changed}"


def decision_inputs() -> dict[str, str | None]:
    """What a decision depends on beside the registry and the report: a name for a person -> digest.

    Asked for before the gate is, as a person may edit a file while it works. What DVC's stages make is named in
    dvc.lock; DVC itself says whether the workspace still holds that.
    """
    code = {path.relative_to(_PACKAGE).as_posix(): files.sha256_file(path) for path in _sources()}
    return {
        "params": _digest(Path(params.PARAMS_FILE)),
        "outputs": _digest(_LOCK),
        "code": files.digest(code),
        "MLflow's address": terminal.masked(_address()),
    }


def save(p: params.Params, before: Mapping[str, str | None], outcome: Outcome) -> None:
    """Note what was decided, and what it was decided about.

    Args:
        p: the params.
        before: what `asked` returned before the gate was asked.
        outcome: of the gate, which has just written gate.json, and of the registration.
    """
    try:
        seen = _look_into_registry(p, outcome, None)[1]
    except TrackingError:
        # What was registered is registered; the next run asks again.
        seen = None
    _note(p, before, outcome, seen)


@dataclass(frozen=True)
class _Seen:
    """What the registry held when the decision was made, or was last seen to stand."""

    store: str | None
    """The digest of MLflow's store; None where it is a server's."""
    version: str | None = None
    """The digest of the tags by which a version tells its verdicts."""
    folder: str | None = None
    """Where the files of the version lie on this machine."""
    files: str | None = None
    """The digest of their names, sizes and times: what a cheap look can tell."""


def _note(p: params.Params, about: Mapping[str, str | None], outcome: Outcome, seen: _Seen | None) -> None:
    _write({"asked": {**about, "report": _report(p)}, "seen": seen and asdict(seen), "outcome": asdict(outcome)})


def _write(note: Mapping[str, Any]) -> None:
    """Write the note with the digest of it: what a person has edited in it was not decided."""
    value = {name: part for name, part in note.items() if name != "sha256"}
    files.write_json(_NOTE, {**value, "sha256": files.digest(value)})


def _read() -> dict[str, Any]:
    """The note.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not as it was written.
    """
    note = files.read_json(_NOTE)
    if not isinstance(note, dict) or note.pop("sha256", None) != files.digest(note):
        raise ValueError(f"{_NOTE}: is not as it was written")
    return note


def load_if_current(p: params.Params) -> Outcome | str:
    """What was decided, if it still stands: the same model, rules, code, champion and version.

    DVC must say besides that nothing is stale. MLflow is asked only where its store has changed, or is a server's.

    Args:
        p: the params.

    Returns:
        The outcome; or why the gate must be asked again, in a few words.

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
    reason, seen = _look_into_registry(p, outcome, before)
    if reason:
        return reason
    _note(p, now, outcome, seen)
    return outcome


def add_commit(p: params.Params, outcome: Outcome) -> str | None:
    """Add to the version the commit that holds all that it was made from, once git has it.

    Args:
        p: the params.
        outcome: what stands, where DVC has said that nothing is stale.

    Returns:
        A line that tells it; None where there is nothing to add.

    Raises:
        TrackingError: MLflow does not answer.
    """
    try:
        note = _read()
    except (OSError, ValueError):
        # It was whole a moment ago; the next run asks the gate again.
        return None
    if outcome.version is None or note.get("commit") or not (commit := git_steps.full_commit(p)):
        return None
    from tuneline.registry import tracking, versions

    tracker = tracking.connect()
    added = versions.add_commit(tracker, outcome.model, outcome.version, commit, files.sha256_file(_LOCK))
    seen = _look_into_registry(p, outcome, None)[1]
    _write({**note, "seen": seen and asdict(seen), "commit": commit})
    return f"{outcome.model} version {outcome.version}: its lineage names commit {commit[:12]} now" if added else None


def _address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _sources() -> list[Path]:
    """The files of the package, those of the page's style and templates included."""
    return [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _report(p: params.Params) -> str:
    return files.digest([_digest(Path(p.paths.reports) / name) for name in ("gate.json", "index.html")])


def _digest(path: Path) -> str | None:
    return files.sha256_file(path) if path.is_file() else None


def _look_into_registry(p: params.Params, outcome: Outcome, before: _Seen | None) -> tuple[str | None, _Seen | None]:
    """Why what the registry holds now wants another decision, or None; and what was seen where none is wanted.

    The store's digest is of a state before the look: what a person changes meanwhile, as the champion while a version
    is copied to the registry, is noticed by the next run.

    Args:
        p: the params.
        outcome: what was decided.
        before: what the registry held then; None: it was decided just now, or nobody could look.
    """
    # Loads MLflow, seconds that are not needed where the store is as it was.
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
    told = files.digest(version_status.only_verdict_tags(tags))
    if version_status.BROKEN in tags or (before and before.version != told):
        return "version changed", None
    try:
        folder = tracker.local_folder(outcome.model, outcome.version)
    except BrokenVersionError:
        return "version's files changed", None
    return None, _Seen(store, told, str(folder) if folder else None, _state(folder) if folder else None)


def _state(folder: Path) -> str:
    """The digest of the names, sizes and times of the files below a folder."""
    found = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return files.digest([[str(path), state.st_size, state.st_mtime_ns] for path, state in found])
