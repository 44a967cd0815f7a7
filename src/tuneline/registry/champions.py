"""The version that is in use, by its alias, and what a person should know of it: told as it is."""

from dataclasses import dataclass

from tuneline.errors import RegistryError
from tuneline.registry import verdicts
from tuneline.registry.cards import CHAMPION
from tuneline.registry.tracking import Tracker

_LAST = "tuneline.champion"


@dataclass(frozen=True)
class Champion:
    """Today's champion, or why there is none."""

    version: str | None
    absent: str = ""
    """Why there is none, in words."""
    remarks: tuple[str, ...] = ()
    """What is unusual about it, in sentences."""


def look(tracker: Tracker, model: str) -> Champion:
    """Which version is the champion.

    Args:
        tracker: the registry.
        model: the registered model's name.

    Raises:
        RegistryError: a version has the alias in another spelling, so that nobody can tell what is meant.
    """
    refuse_misspelt(tracker, model, CHAMPION)
    version = tracker.aliases(model).get(CHAMPION)
    if version is not None:
        return Champion(version, remarks=_remarks(tracker, model, version))
    last = tracker.model_tags(model).get(_LAST)
    if last is None:
        return Champion(None, absent=f"there is no {CHAMPION} yet")
    became = "has lost the alias" if last in tracker.find_versions(model, {}) else "was deleted"
    return Champion(None, absent=f"there is no {CHAMPION} any more: version {last}, the last one, {became}")


def remember(tracker: Tracker, model: str, version: str | None) -> None:
    """Note the champion at the model itself: a deleted version takes its alias with it, and leaves no trace."""
    if version is not None and tracker.model_tags(model).get(_LAST) != version:
        tracker.tag_model(model, {_LAST: version})


def refuse_misspelt(tracker: Tracker, model: str, alias: str) -> None:
    """Refuse an alias that differs from the one that is looked for in its case alone.

    Raises:
        RegistryError: names the version that has it, and what to do.
    """
    aliases = tracker.aliases(model)
    wrong = [name for name in aliases if name != alias and name.casefold() == alias.casefold()]
    if wrong and alias not in aliases:
        raise RegistryError(
            *(
                f"{model} version {aliases[name]} has the alias {name}, and what is looked for is {alias}: in the "
                f"MLflow UI (make ui → Model registry → {model} → version {aliases[name]} → Aliases) add {alias} and "
                f"remove {name}"
                for name in wrong
            )
        )


def _remarks(tracker: Tracker, model: str, version: str) -> tuple[str, ...]:
    verdict = verdicts.last(tracker.version_tags(model, version))
    if verdict == "passed":
        return ()
    if verdict is None:
        return (f"The {CHAMPION}, version {version}, has no verdict: it was not registered by tuneline.",)
    return (f"The {CHAMPION}, version {version}, has not passed the gate itself: its verdict is {verdict}.",)
