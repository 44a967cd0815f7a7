"""The evidence of an entry of the history: the checks of the version, and a claim that other tools can read."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError, SignatureError
from tuneline.proofs import claims
from tuneline.proofs.keys import PrivateKey
from tuneline.registry import history, names, versions
from tuneline.registry.history import Entry
from tuneline.registry.tracking import Tracker

CLAIM = "claim.jsonl"
"""The name of a claim among the files of an entry."""
PREDICATE = "urn:tuneline:promotion:v1"
_CHECKS = "checks.json"
_LATEST = timedelta(hours=1)
"""How long after its claim an entry is written at most: an older claim is that of another entry."""


def evidence(
    tracker: Tracker,
    model: str,
    version: str,
    *,
    alias: str,
    action: str,
    before: str | None,
    champion: str | None,
    checks: Sequence[Check],
    reason: str,
    who: str,
    key: PrivateKey | None,
) -> dict[str, bytes]:
    """The files of an entry about a version that was verified.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: the number of the version that was verified.
        alias: the alias that was given to it.
        action: of the entry.
        before: the version that had the alias.
        champion: the version with which it was compared.
        checks: of the verification.
        reason: of a person, or of the checks that have failed.
        who: who has decided.
        key: signs the claim; None: the claim is not signed.

    Returns:
        Name -> content: the checks as JSON, and an in-toto statement.
    """
    value: dict[str, Any] = {
        "model": model,
        "version": version,
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
    sha256 = tracker.version_tags(model, version).get(versions.FILES)
    if sha256 is None:
        # Another tool has registered it: there is no digest to claim anything about.
        return found
    statement = claims.statement(PREDICATE, {f"{model}/{version}/": sha256}, value)
    return found | {CLAIM: claims.as_line(statement, key)}


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


def signer(tracker: Tracker, model: str, entry: Entry, public_keys: Sequence[Path]) -> str | None:
    """The name of the trusted key that has signed the claim of an entry about a promotion.

    Args:
        tracker: the registry.
        model: the registered model's name.
        entry: of its history.
        public_keys: the files of the trusted keys.

    Returns:
        None if the entry has no claim, if no trusted key has signed it, or if it says something else than the entry.
    """
    if CLAIM not in entry.evidence:
        return None
    try:
        content = history.read_evidence(tracker, entry)[CLAIM]
        found = list(claims.parse(content, public_keys, CLAIM))
    except (RegistryError, SignatureError):
        return None
    wanted = {
        "model": model,
        "version": entry.before if entry.action == history.UNDONE else entry.after,
        "alias": entry.alias,
        "action": entry.action,
        "decidedBy": entry.who,
    }
    if len(found) != 1 or found[0].predicate_type != PREDICATE:
        return None
    said = found[0].predicate
    if {name: said.get(name) for name in wanted} != wanted or not _is_of_time(said.get("decidedOn"), entry.time):
        return None
    return found[0].signer


def _is_of_time(decided: object, written: str) -> bool:
    try:
        return abs(datetime.fromisoformat(written) - datetime.fromisoformat(str(decided))) <= _LATEST
    except (ValueError, TypeError):
        return False
