"""Logged models that a killed `register` has left in MLflow: each is a complete copy of the model without a version.

A tag of a logged model names the process that made it, by its id and start time. While that process may still be
running, the logged model is kept.
"""

import time
from dataclasses import dataclass

from tuneline.processes import Identity
from tuneline.registry.tracking import Logged, Tracker

LONGEST = 24 * 3600.0
"""Seconds after which a process of another machine counts as ended."""
_ON_ITS_WAY = 600.0
"""Seconds in which a server may still carry out the request of a process that has ended."""


@dataclass(frozen=True)
class Unregistered:
    """A logged model without a version."""

    logged: Logged
    kept: str | None
    """Why it is kept, in words; None if nothing needs it."""


def find_abandoned(tracker: Tracker, model: str, *, now: float | None = None) -> list[Unregistered]:
    """The logged models of `model` that no version of any registered model refers to.

    Args:
        tracker: the registry.
        model: the registered model's name.
        now: seconds since 1970; the time of the call by default.
    """
    logged = tracker.logged_models(model, model)
    # Before the versions are read: a process that has ended by now cannot make a version afterwards.
    kept = {one.id: why_kept(one, time.time() if now is None else now) for one in logged}
    referred = " ".join(tracker.used_sources()) if logged else ""
    return [Unregistered(one, kept[one.id]) for one in logged if one.id not in referred]


def remove_abandoned(tracker: Tracker, model: str) -> int:
    """Remove the logged models without a version that nothing needs.

    Args:
        tracker: the registry.
        model: the registered model's name.

    Returns:
        How many logged models were removed.
    """
    found = [one.logged for one in find_abandoned(tracker, model) if one.kept is None]
    for one in found:
        tracker.discard(one)
    return len(found)


def why_kept(logged: Logged, now: float) -> str | None:
    """Why a logged model without a version is kept, in words; None if nothing needs it.

    Args:
        logged: the logged model.
        now: seconds since 1970.
    """
    if logged.was:
        return f"it was version {logged.was}, which was deleted; delete it in MLflow if you do not need it"
    age = now - logged.changed
    maker = Identity.from_json(logged.maker)
    if maker is None:
        return "its tag does not say which process made it"
    has_ended = maker.has_ended()
    if has_ended is None:
        is_over = age > LONGEST
        return None if is_over else f"a process of {maker.host} may be writing it, up to a day after its last change"
    if not has_ended:
        return f"process {maker.pid} is writing it"
    if logged.folder is None and age < _ON_ITS_WAY:
        return "the server may still be writing it, up to ten minutes after its last change"
    return None
