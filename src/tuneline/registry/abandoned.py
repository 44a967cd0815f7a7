"""What killed registers have left in MLflow: logged models with a whole copy of the model, and no version of them.

A logged model names the process that made it, by its id and its start. As long as that process may still be at work,
the logged model is left alone.
"""

import json
import time
from dataclasses import dataclass

from tuneline.processes import Identity
from tuneline.registry.tracking import Logged, Tracker

LONGEST = 24 * 3600.0
"""Seconds after which a process of another machine does not work on a logged model any more."""
_ON_ITS_WAY = 600.0
"""Seconds for which a server may be doing what a process has asked of it that has ended since."""


@dataclass(frozen=True)
class Unregistered:
    """A logged model of which there is no version."""

    logged: Logged
    kept: str | None
    """Why it is not removed, in words; None where nothing needs it."""


def find_abandoned(tracker: Tracker, model: str, *, now: float | None = None) -> list[Unregistered]:
    """The logged models that no version refers to, of any registered model.

    Args:
        tracker: the registry.
        model: the registered model's name.
        now: seconds since 1970; the time of the call by default.
    """
    logged = tracker.logged_models(model, model)
    # Before the versions are asked for: a process that has ended by now makes none after it.
    kept = {one.id: why_kept(one, time.time() if now is None else now) for one in logged}
    referred = " ".join(tracker.referred_to()) if logged else ""
    return [Unregistered(one, kept[one.id]) for one in logged if one.id not in referred]


def remove_abandoned(tracker: Tracker, model: str) -> int:
    """Remove what nothing needs of what killed registers have left.

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
    """Why a logged model of which there is no version is left alone, in words; None where nothing needs it.

    Args:
        logged: the logged model.
        now: seconds since 1970.
    """
    if logged.was:
        return f"version {logged.was} was made of it and deleted since; who does not need it deletes it in MLflow"
    age = now - logged.changed
    try:
        maker = Identity(**json.loads(logged.maker))
    except (ValueError, TypeError):
        return "its tag does not say which process made it"
    has_ended = maker.has_ended()
    if has_ended is None:
        is_over = age > LONGEST
        return None if is_over else f"a process of {maker.host} may be at work on it, for a day after its last change"
    if not has_ended:
        return f"process {maker.pid} is at work on it"
    if logged.folder is None and age < _ON_ITS_WAY:
        return "what was asked of the server may be on its way for ten minutes after its last change"
    return None
