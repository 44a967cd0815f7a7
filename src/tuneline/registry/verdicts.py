"""What the gate has decided about a version: the first verdict stays; later ones are added as tags, text and report."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.registry import cards
from tuneline.registry.tracking import Tracker

_VERDICT = "tuneline.verdict"
_DECISION = "tuneline.decision_sha256"
_NUMBERED = re.compile(re.escape(_VERDICT) + r"(?:\.(\d+))?")


def first(gate: dict[str, Any]) -> dict[str, str]:
    """The tags of the verdict with which a version is registered.

    Args:
        gate: the value of gate.json.
    """
    return {_VERDICT: gate["verdict"], _DECISION: _decision(gate)}


def last(tags: Mapping[str, str]) -> str | None:
    """The latest verdict that a version's tags tell, or None."""
    return tags.get(_name(_VERDICT, _count(tags)))


def add(tracker: Tracker, model: str, version: str, gate: dict[str, Any], run_id: str, page: Path) -> None:
    """Add what the gate has decided to a version, if it is not what was decided about it last.

    A comparison of the version with itself, once it is the champion, says nothing and is not added.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        gate: the value of gate.json.
        run_id: of the training, which keeps the report.
        page: the report.
    """
    tags = tracker.version_tags(model, version)
    count = _count(tags)
    champion = (gate.get("asked") or {}).get("champion")
    if tags.get(_name(_DECISION, count)) == _decision(gate) or champion == version:
        return
    number = count + 1
    folder = f"version-{version}/verdict-{number}"
    if page.is_file():
        tracker.attach(run_id, {page: folder})
    description = tracker.version_description(model, version)
    day = datetime.now(UTC).date().isoformat()
    added = cards.later_verdict(number, gate, day, f"{folder}/{page.name} of run {run_id}")
    # A process that was killed after this line has left no tags.
    if f"\n- Verdict {number} " not in description:
        tracker.update_version(model, version, {}, cards.with_later(description, added))
    tracker.update_version(
        model,
        version,
        {
            **cards.later_tag(number, gate["verdict"]),
            # Last the one that is counted: a process that was killed between the two is made up for.
            _name(_DECISION, number): _decision(gate),
            _name(_VERDICT, number): gate["verdict"],
        },
    )


def told(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that tell verdicts, of all tags of a version."""
    return {name: value for name, value in tags.items() if name.startswith((_VERDICT, _DECISION))}


def _count(tags: Mapping[str, str]) -> int:
    numbers = [int(match[1] or 1) for name in tags if (match := _NUMBERED.fullmatch(name))]
    return max(numbers, default=1)


def _name(tag: str, number: int) -> str:
    return tag if number == 1 else f"{tag}.{number}"


def _decision(gate: dict[str, Any]) -> str:
    """What was decided, by which rules and beside which champion."""
    asked = gate.get("asked") or {}
    return files.digest([gate["verdict"], asked.get("rules"), asked.get("champion")])
