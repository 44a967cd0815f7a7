"""The evidence of an entry of the history: the checks of the version, and a claim that other tools can read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tuneline.decisions import trusted_history
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError
from tuneline.proofs import claims
from tuneline.proofs.keys import PrivateKey
from tuneline.registry import history, names, versions
from tuneline.registry.chain import Slot
from tuneline.registry.history import Entry
from tuneline.registry.tracking import Tracker

_CHECKS = "checks.json"


@dataclass(frozen=True)
class Registered:
    """A version as the registry had it before its checks began: what it says afterwards was not checked."""

    version: str
    """Its number."""
    sha256: str | None
    """The digest of its files; None if another tool has registered it."""
    source: str
    """Where MLflow says that its files are."""


def registered(tracker: Tracker, model: str, version: str) -> Registered:
    """What the registry says about a version now.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.

    Raises:
        RegistryError: the registry does not have the version.
    """
    sha256 = tracker.version_tags(model, version).get(versions.FILES)
    return Registered(version, sha256, tracker.version_sources(model).get(version, ""))


def evidence(
    model: str,
    checked: Registered,
    *,
    alias: str,
    action: str,
    before: str | None,
    champion: str | None,
    checks: Sequence[Check],
    reason: str,
    who: str,
    key: PrivateKey | None,
) -> Callable[[Slot], Mapping[str, bytes]]:
    """The files of an entry about a version that was verified.

    Args:
        model: the registered model's name.
        checked: the version that was verified, as it was before its checks.
        alias: the alias that was given to it.
        action: of the entry.
        before: the version that had the alias.
        champion: the version with which it was compared.
        checks: of the verification.
        reason: of a person, or of the checks that have failed.
        who: who has decided.
        key: signs the claim; None: the claim is not signed.

    Returns:
        A function of the place of the entry -> name -> content: the checks as JSON, and an in-toto statement.
    """
    value: dict[str, Any] = {
        "model": model,
        "version": checked.version,
        "alias": alias,
        "action": action,
        "previousVersion": before,
        "comparedWith": champion,
        "decidedBy": names.storable(who),
        "decidedOn": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": names.storable(reason),
        "checks": [asdict(check) for check in checks],
    }
    found = {_CHECKS: (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()}

    def of(slot: Slot) -> Mapping[str, bytes]:
        if checked.sha256 is None:
            # There is no digest to claim anything about.
            return found
        statement = trusted_history.promotion_statement(
            model, checked.version, checked.sha256, checked.source, slot, value
        )
        return found | {trusted_history.CLAIM: claims.as_line(statement, key)}

    return of


def failed_checks(tracker: Tracker, entry: Entry) -> frozenset[str]:
    """The names of the checks that had failed when an entry was written; none if its file of checks cannot be used.

    Args:
        tracker: the registry.
        entry: of a history.
    """
    try:
        content = history.read_evidence(tracker, entry).get(_CHECKS, b"{}")
        found = json.loads(content).get("checks", [])
        return frozenset(check["name"] for check in found if not check["passed"])
    except (RegistryError, ValueError, AttributeError, KeyError, TypeError):
        return frozenset()
