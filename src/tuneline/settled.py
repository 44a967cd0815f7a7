"""Whether what was decided still stands: the gate's verdict on what lies in the workspace, and its version.

A run that finds nothing stale need not ask the gate again where all that it would look at is as it was. That is noted
after every decision in work/settled.json, which may be deleted at any time: then the gate is asked again.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneline import files, params, terminal
from tuneline.errors import TrackingError
from tuneline.registry import stores

if TYPE_CHECKING:
    from tuneline.registry.tracking import Tracker

_NOTE = Path("work/settled.json")
_LOCK = Path("dvc.lock")
_PACKAGE = Path(__file__).parent


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


def asked() -> dict[str, str | None]:
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


def keep(p: params.Params, before: Mapping[str, str | None], outcome: Outcome) -> None:
    """Note what was decided, and what it was decided about.

    Args:
        p: the params.
        before: what `asked` returned before the gate was asked.
        outcome: of the gate, which has just written gate.json, and of the registration.
    """
    try:
        store = _look_into_registry(p, outcome)[1]
    except TrackingError:
        # What was registered is registered; the next run asks again.
        store = None
    _note(p, before, outcome, store)


def _note(p: params.Params, about: Mapping[str, str | None], outcome: Outcome, store: str | None) -> None:
    value = {"asked": {**about, "report": _report(p)}, "store": store, "outcome": asdict(outcome)}
    files.write_json(_NOTE, value)


def look(p: params.Params) -> Outcome | str:
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
        note = files.read_json(_NOTE)
        outcome = Outcome(**(note["outcome"] | {"reasons": tuple(note["outcome"]["reasons"])}))
        then, store = dict(note["asked"]), note["store"]
    except FileNotFoundError:
        return "no decision yet"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "no decision that can be read"
    now = {**asked(), "report": _report(p)}
    changed = [name for name in now if then.get(name) != now[name]]
    if changed:
        return f"{' and '.join(changed)} changed"
    store_now = stores.digest(_address())
    if store_now is not None and store == store_now:
        return outcome
    reason, seen = _look_into_registry(p, outcome)
    if reason:
        return reason
    _note(p, now, outcome, seen)
    return outcome


def _address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _sources() -> list[Path]:
    """The files of the package, those of the page's style and templates included."""
    return [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _report(p: params.Params) -> str:
    return files.digest([_digest(Path(p.paths.reports) / name) for name in ("gate.json", "index.html")])


def _digest(path: Path) -> str | None:
    return files.sha256_file(path) if path.is_file() else None


def _look_into_registry(p: params.Params, outcome: Outcome) -> tuple[str | None, str | None]:
    """Why what the registry holds now wants another decision, or None; and the digest of the store that says so.

    The digest is None where the outcome does not stand, and it is of a state before the look: what a person changes
    meanwhile, as the champion while a version is copied to the registry, is noticed by the next run.
    """
    # Loads MLflow, seconds that are not needed where the store is as it was.
    from tuneline.registry import cards, tracking

    tracker = tracking.connect()
    store = stores.digest(_address())
    reason = _missed(p, outcome, tracker, cards.CHAMPION)
    return reason, None if reason else store


def _missed(p: params.Params, outcome: Outcome, tracker: "Tracker", alias: str) -> str | None:
    of_gate: dict[str, Any] = files.read_json(Path(p.paths.reports) / "gate.json")["asked"]
    if tracker.version_by_alias(outcome.model, alias) != of_gate["champion"]:
        return "champion changed"
    if not tracker.has_run(outcome.run_id):
        return "run deleted"
    if outcome.version is None:
        return None
    wanted = {f"tuneline.{name}": of_gate[name] for name in ("model_sha256", "evaluation_sha256")}
    wanted |= {"tuneline.verdict": outcome.verdict}
    return None if outcome.version in tracker.find_versions(outcome.model, wanted) else "version changed"
