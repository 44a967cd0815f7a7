"""What MLflow holds about the status of a version: champion or not, the gate's verdicts, broken or not.

The champion is the version that has the alias `champion`. The first verdict of a version stays; later verdicts are
added as tags, as text in the description and as reports.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.errors import RegistryError
from tuneline.registry import cards, history, names
from tuneline.registry.cards import CHAMPION
from tuneline.registry.tracking import Tracker

BROKEN = "tuneline.broken"
"""The tag that says why the files of a version cannot be used."""
ERASED = "tuneline.erased"
"""The tag of a version whose files were deleted, because rows that it was made from were erased; says when."""
PROMOTION = "promotion.verdict"
"""The tag with what became of the last promotion of a version: kept or undone, or who else has decided."""
PROMOTION_REASON = "promotion.reason"
PROMOTION_ENTRY = "promotion.entry"
"""The tag with the sha256 of the entry of the history that the verdict is about."""
_VERDICT = "tuneline.verdict"
_DECISION = "tuneline.decision_sha256"
_NUMBERED = re.compile(re.escape(_VERDICT) + r"(?:\.([1-9][0-9]{0,5}))?")


@dataclass(frozen=True)
class Champion:
    """Today's champion, or why the model has none."""

    version: str | None
    absent: str = ""
    """Why the model has no champion, in words."""
    remarks: tuple[str, ...] = ()
    """What is unusual about the champion, in sentences."""


def read_champion(tracker: Tracker, model: str) -> Champion:
    """Which version is the champion.

    Args:
        tracker: the registry.
        model: the registered model's name.

    Raises:
        RegistryError: a version has the alias in another spelling.
    """
    refuse_misspelt_alias(tracker, model, CHAMPION)
    version = tracker.aliases(model).get(CHAMPION)
    if version is not None:
        return Champion(version, remarks=_remarks(tracker, model, version))
    standing = history.champion_at(history.read(tracker, model), CHAMPION)
    last = standing.version or (standing.entry.before if standing.entry else None)
    if last is None:
        return Champion(None, absent=f"no version is {CHAMPION} yet")
    reason = "lost the alias" if last in tracker.find_versions(model, {}) else "was deleted"
    return Champion(None, absent=f"no version is {CHAMPION} any more: version {last}, the last {CHAMPION}, {reason}")


def remember_champion(tracker: Tracker, model: str, version: str | None) -> None:
    """Note a champion in the history that it does not know yet.

    When a version is deleted, MLflow deletes its aliases with it, and nothing else would tell that it was champion.
    """
    if version is None:
        return
    known = history.champion_at(history.read(tracker, model), CHAMPION).version
    if version != known:
        history.append(
            tracker,
            model,
            action=history.MOVED,
            alias=CHAMPION,
            before=known,
            after=version,
            who=history.SOMEONE,
        )


def refuse_misspelt_alias(tracker: Tracker, model: str, alias: str) -> None:
    """Refuse an alias that differs from `alias` only in upper and lower case.

    Raises:
        RegistryError: names the version that has it, and what to do.
    """
    aliases = tracker.aliases(model)
    wrong = [name for name in aliases if name != alias and name.casefold() == alias.casefold()]
    if wrong and alias not in aliases:
        raise RegistryError(
            *(
                f"{model} version {aliases[name]} has the alias {name}, but tuneline looks for {alias}: in the MLflow "
                f"UI (make ui → Model registry → {model} → version {aliases[name]} → Aliases) add {alias} and remove "
                f"{name}"
                for name in wrong
            )
        )


def _remarks(tracker: Tracker, model: str, version: str) -> tuple[str, ...]:
    verdict = latest_verdict(tracker.version_tags(model, version))
    if verdict == "passed":
        return ()
    if verdict is None:
        return (f"The {CHAMPION}, version {version}, has no verdict: tuneline did not register it.",)
    return (f"The {CHAMPION}, version {version}, did not pass the gate itself: its verdict is {verdict}.",)


def first_verdict_tags(gate: dict[str, Any]) -> dict[str, str]:
    """The tags of the verdict with which a version is registered.

    Args:
        gate: the value of gate.json.
    """
    return {_VERDICT: gate["verdict"], _DECISION: _decision_digest(gate)}


def latest_verdict(tags: Mapping[str, str]) -> str | None:
    """The latest verdict in the tags of a version, or None."""
    return tags.get(_numbered(_VERDICT, _verdicts_in(tags)))


def verdicts(tags: Mapping[str, str]) -> tuple[str, ...]:
    """All verdicts in the tags of a version, the first one first."""
    return tuple(tags[name] for _, name in sorted(_numbers_of(tags)))


def add_verdict(tracker: Tracker, model: str, version: str, gate: dict[str, Any], run_id: str, page: Path) -> None:
    """Add the gate's decision to a version, unless it equals the last decision about this version.

    The comparison of a champion with itself says nothing and is not added.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        gate: the value of gate.json.
        run_id: of the training, which keeps the report.
        page: the report.
    """
    tags = tracker.version_tags(model, version)
    count = _verdicts_in(tags)
    champion = (gate.get("asked") or {}).get("champion")
    if tags.get(_numbered(_DECISION, count)) == _decision_digest(gate) or champion == version:
        return
    number = count + 1
    folder = f"version-{version}/verdict-{number}"
    if page.is_file():
        tracker.attach(run_id, {page: folder})
    description = tracker.version_description(model, version)
    day = datetime.now(UTC).date().isoformat()
    added = cards.later_verdict(number, gate, day, f"{folder}/{page.name} of run {run_id}")
    # A process that was killed after this write has left the text, but not the tags.
    if f"\n- Verdict {number} " not in description:
        tracker.update_version(model, version, {}, cards.append_verdict(description, added))
    tracker.update_version(
        model,
        version,
        {
            **cards.later_verdict_tag(number, gate["verdict"]),
            # `_verdicts_in` counts this tag, so it comes last: after a kill before it, the next call repeats the rest.
            _numbered(_DECISION, number): _decision_digest(gate),
            _numbered(_VERDICT, number): gate["verdict"],
        },
    )


def only_verdict_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags about verdicts, from all tags of a version."""
    return {name: value for name, value in tags.items() if name.startswith((_VERDICT, _DECISION))}


def _verdicts_in(tags: Mapping[str, str]) -> int:
    return max((number for number, _ in _numbers_of(tags)), default=1)


def _numbers_of(tags: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Number and name of the tags with verdicts."""
    for name in tags:
        if match := _NUMBERED.fullmatch(name):
            yield int(match[1] or 1), name


def _numbered(tag: str, number: int) -> str:
    return tag if number == 1 else f"{tag}.{number}"


def _decision_digest(gate: dict[str, Any]) -> str:
    """The digest of the verdict, its rules and the champion at that time."""
    asked = gate.get("asked") or {}
    return files.digest([gate["verdict"], asked.get("rules"), asked.get("champion")])


def tag_promotion(
    tracker: Tracker, model: str, version: str, verdict: str, *, reason: str, time: str, who: str, entry: str
) -> None:
    """Write what became of the promotion of a version into its tags.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        verdict: kept, undone, overridden or rolled back.
        reason: in words; empty where there is nothing to say.
        time: of the decision, UTC.
        who: who has decided.
        entry: the sha256 of the entry of the history that the decision is about.
    """
    tags = {
        PROMOTION_REASON: names.storable(reason or "every check has passed"),
        "promotion.time": time,
        "promotion.by": names.storable(who),
    }
    # The verdict comes last: a process that was killed before it has decided nothing.
    tracker.update_version(model, version, {**tags, PROMOTION_ENTRY: entry, PROMOTION: verdict})


def tag_broken(tracker: Tracker, model: str, version: str, reason: str) -> None:
    """Write into the tags and the description of a version why its files cannot be used."""
    if BROKEN in tracker.version_tags(model, version):
        return
    reason = names.storable(reason)
    description = cards.broken_description(reason, tracker.version_description(model, version))
    tracker.update_version(model, version, {**cards.broken_tag(reason), BROKEN: reason}, description)
