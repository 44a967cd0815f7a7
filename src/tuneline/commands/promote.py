"""`tuneline promote` and `tuneline rollback`: a person gives an alias to a version, which is verified before that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from tuneline import params
from tuneline.decisions import promotion, promotion_claim, trusted_history, verification
from tuneline.decisions.promotion_claim import Registered
from tuneline.decisions.trusted_history import TrustedHistory
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError
from tuneline.proofs import keys
from tuneline.registry import history, names, tracking, version_status
from tuneline.registry.cards import CHAMPION
from tuneline.registry.chain import Entry
from tuneline.registry.tracking import Tracker

_VERDICTS = {history.VERIFIED: "kept", history.OVERRIDDEN: "overridden", history.ROLLED_BACK: "rolled back"}


@dataclass(frozen=True)
class _Seen:
    """What the registry and the history held before the verification."""

    tracker: Tracker
    model: str
    alias: str
    current: str | None
    """The version that has the alias."""
    past: TrustedHistory

    @cached_property
    def verified(self) -> str | None:
        """The last verified version."""
        return self.past.verified(self.alias)

    @property
    def entry(self) -> Entry | None:
        """With which the version got the alias, as the history says."""
        return history.champion_at(self.past.believed(), self.alias).entry

    @property
    def action(self) -> str:
        """How the version got the alias, as the history says."""
        return self.entry.action if self.entry else ""


def promote(
    p: params.Params,
    version: str,
    *,
    alias: str = CHAMPION,
    override: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    checks: Callable[..., list[Check]] = verification.checks,
) -> str:
    """Verify a version, and give it an alias if it passes.

    Args:
        p: the params.
        version: its number.
        alias: the alias.
        override: why it gets the alias although checks about its quality, signature or sources have failed; None: it
            does not get it then.
        log: called with a line for each check.
        checks: checks a version, as `verification.checks` does.

    Returns:
        What was done, in a sentence.

    Raises:
        RegistryError: the version does not get the alias; says why, and that nothing has changed.
        TrackingError: MLflow does not answer.
    """
    _check_override(override)
    tracker, model = _connect(p, alias)
    tracker.version_tags(model, version)
    with promotion.hold(log):
        seen = _see(tracker, model, alias)
        already = f"{model}: version {version} is {alias} already{_since(seen)}; nothing has changed"
        is_settled = version == seen.current == seen.verified
        # A champion that was verified before the project's first key may need an override now.
        if is_settled and (override is None or seen.action == history.OVERRIDDEN):
            return already
        compared = seen.past.compared_with(alias, version, log)
        log(f"{model}: verifying version {version}{_compared(compared)}")
        registered = promotion_claim.registered(tracker, model, version)
        found = checks(p, tracker, version, compared, complete=override is not None)
        failed = _report(found, log)
        if failed and override is None:
            raise _refused(seen, version, failed, _remedy(seen, version, failed))
        _refuse_uncovered(seen, version, found)
        if is_settled and not failed:
            return already
        if not failed:
            _move(seen, registered, history.VERIFIED, found, (override or "").strip(), log, compared=compared)
            return f"{model}: version {version} is verified and {alias} now{_instead(seen, version)}"
        _move(seen, registered, history.OVERRIDDEN, found, _overriding(override, failed), log, compared=compared)
        by = history.acting_user()
        return f"{model}: version {version} is {alias} now{_instead(seen, version)}, by an override of {by}"


def rollback(
    p: params.Params,
    *,
    to: str | None = None,
    reason: str = "",
    override: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    checks: Callable[..., list[Check]] = verification.checks,
) -> str:
    """Give the alias `champion` back to an earlier version, after verifying it.

    The version is not compared with the version that it replaces: a person has decided that that one is worse.

    Args:
        p: the params.
        to: the number of the version; by default the last verified champion before the current champion.
        reason: why, in words.
        override: why the version gets the alias although checks have failed, as for `promote`.
        log: called with a line for each check.
        checks: checks a version, as `verification.checks` does.

    Returns:
        What was done, in a sentence.

    Raises:
        RegistryError: there is nothing to go back to, or the version does not pass; says that nothing has changed.
        TrackingError: MLflow does not answer.
    """
    _check_override(override)
    tracker, model = _connect(p, CHAMPION)
    if to is not None:
        tracker.version_tags(model, to)
    with promotion.hold(log):
        seen = _see(tracker, model, CHAMPION)
        version = to or _target(seen, log)
        if version == seen.current == seen.verified:
            return f"{model}: version {version} is {CHAMPION} already{_since(seen)}; nothing has changed"
        log(f"{model}: verifying version {version}, to which {CHAMPION} goes back")
        registered = promotion_claim.registered(tracker, model, version)
        replaces = seen.current if seen.current != version else None
        complete = override is not None
        found = checks(p, tracker, version, None, is_earlier=True, replaces=replaces, complete=complete)
        failed = _report(found, log)
        if failed and override is None:
            raise _refused(seen, version, failed, _rollback_remedy(seen, version, failed))
        _refuse_uncovered(seen, version, found)
        went = f"{model}: {CHAMPION} went back from {_name(seen.current)} to version {version}"
        if failed:
            words = "; ".join(text for text in (reason.strip(), override) if text)
            _move(seen, registered, history.OVERRIDDEN, found, _overriding(words, failed), log, compared=None)
            return f"{went}, by an override of {history.acting_user()}"
        words = reason.strip() or (override or "").strip()
        _move(seen, registered, history.ROLLED_BACK, found, words, log, compared=None)
        return f"{went}, which is verified"


def _check_override(override: str | None) -> None:
    if override is not None and not override.strip():
        raise RegistryError("--override: say in a few words why, for example --override 'measured by hand on 2 May'")


def _overriding(override: str | None, failed: Sequence[Check]) -> str:
    """The reason of an entry with which a person overrides checks."""
    return f"{override}; not passed: {', '.join(check.name for check in failed)}"


def _refuse_uncovered(seen: _Seen, version: str, found: Sequence[Check]) -> None:
    """Raise for what no override covers: damage, and a model of which nothing says that it loads."""
    failed = [check for check in found if not check.passed]
    if damaged := [check for check in failed if check.is_damage]:
        remedy = f"an override does not cover damage; {_remedy(seen, version, damaged)}"
        raise _refused(seen, version, damaged, remedy)
    if failed and not any(check.name == verification.LOADS for check in found):
        remedy = "an override needs a model that loads, and that could not be checked; repair what is named above"
        raise _refused(seen, version, failed, remedy)


def _connect(p: params.Params, alias: str) -> tuple[Tracker, str]:
    problem = names.alias_problem(alias)
    if problem is None and alias.casefold() == "latest":
        problem = f"{alias} cannot be given to a version, because MLflow keeps this name for the newest; use another"
    if problem:
        raise RegistryError(f"--alias: {problem}")
    tracker, model = tracking.connect(), p.registry.model
    if tracker.registered_tags(model) is None:
        raise RegistryError(
            f"{model}: no such model is registered at {tracker.address}; make a version with: make run (if the model "
            "was renamed in MLflow, set registry.model in params.yaml to its new name)"
        )
    return tracker, model


def _see(tracker: Tracker, model: str, alias: str) -> _Seen:
    others = {
        name: version
        for name, version in tracker.aliases(model).items()
        if name != alias and name.casefold() == alias.casefold()
    }
    if others:
        raise RegistryError(
            *(
                f"{model} version {version} has the alias {name}, which differs from {alias} only by upper and lower "
                f"case: remove {name} in the MLflow UI (make ui → Model registry → {model} → version {version} → "
                "Aliases), or with: tuneline verify"
                for name, version in others.items()
            )
        )
    current = tracker.aliases(model).get(alias)
    return _Seen(tracker, model, alias, current, trusted_history.read(tracker, model))


def _report(checks: Sequence[Check], log: Callable[[str], None]) -> list[Check]:
    """Tell what was checked, and return the checks that have failed."""
    for check in checks:
        log(check.line())
    return [check for check in checks if not check.passed]


def _move(
    seen: _Seen,
    registered: Registered,
    action: str,
    checks: Sequence[Check],
    reason: str,
    log: Callable[[str], None],
    *,
    compared: str | None,
) -> None:
    """Set the alias, then write tags and history; after a kill in between, `promotion.follow` verifies the version."""
    tracker, model, alias, who = seen.tracker, seen.model, seen.alias, history.acting_user()
    version = registered.version
    now = tracker.aliases(model).get(alias)
    if now != seen.current:
        raise RegistryError(
            f"{model}: {alias} moved from {_name(seen.current)} to {_name(now)} while version {version} was verified, "
            "so nothing is changed; run the same command again if you still want it"
        )
    # A person may have given it the alias before, and nothing has verified that.
    before = seen.verified if seen.current == version else seen.current
    key = keys.signing_key()
    evidence = promotion_claim.evidence(
        model,
        registered,
        alias=alias,
        action=action,
        before=before,
        champion=compared,
        checks=checks,
        reason=reason,
        who=who,
        key=key,
    )
    tracker.set_alias(model, alias, version)
    if alias == CHAMPION:
        time = datetime.now(UTC).isoformat(timespec="seconds")
        version_status.tag_promotion(
            tracker, model, version, _VERDICTS[action], reason=reason, time=time, who=who, entry=""
        )
    entry = history.append(
        tracker,
        model,
        action=action,
        alias=alias,
        before=before,
        after=version,
        reason=reason,
        who=who,
        evidence=evidence,
    )
    if key is None and keys.trusted_keys():
        trusted_history.remember(entry)
        log(f"note: {trusted_history.UNSIGNED}")
    _agree(seen, entry.number)


def _agree(seen: _Seen, number: int) -> None:
    """Where another machine has set the alias at the same time, the last entry of the history decides."""
    past = trusted_history.read(seen.tracker, seen.model)
    known = max((entry.number for entry in seen.past.found.entries), default=0)
    entries = past.found.entries
    others = [entry.after for entry in entries if known < entry.number < number and entry.alias == seen.alias]
    last, now = past.verified(seen.alias), seen.tracker.aliases(seen.model).get(seen.alias)
    if now != last and now in others and last is not None:
        seen.tracker.set_alias(seen.model, seen.alias, last)


def _earlier(seen: _Seen) -> list[str]:
    """The versions to which a rollback can lead, the nearest first."""
    there = _usable(seen)
    return [version for version in reversed(seen.past.earlier_versions(seen.alias)) if version in there]


def _usable(seen: _Seen) -> list[str]:
    """The versions that were not erased, in their order; an erased version has no files any more."""
    tags = seen.tracker.all_version_tags(seen.model)
    return sorted((one for one in tags if version_status.ERASED not in tags[one]), key=int)


def _newest_passed(seen: _Seen) -> str | None:
    """The newest version that has passed the gate and is not champion."""
    tags = seen.tracker.all_version_tags(seen.model)
    passed = [
        one for one in _usable(seen) if one != seen.current and version_status.verdicts(tags[one])[:1] == ("passed",)
    ]
    return passed[-1] if passed else None


def _rollback_remedy(seen: _Seen, version: str, failed: Sequence[Check]) -> str:
    ways = []
    if others := [one for one in _earlier(seen) if one != version]:
        ways.append(f"name another version with --to ({', '.join(others)})")
    if not any(check.is_damage for check in failed):
        ways.append(f"to go back to it all the same, say why: tuneline rollback --to {version} --override REASON")
    return "; or, ".join(ways) or _remedy(seen, version, failed)


def _target(seen: _Seen, log: Callable[[str], None]) -> str:
    if seen.current != seen.verified and seen.verified in _usable(seen):
        # A person has set the alias, and nothing has verified that yet.
        return str(seen.verified)
    there, usable = seen.tracker.find_versions(seen.model, {}), _usable(seen)
    for version in reversed(seen.past.earlier_versions(seen.alias)):
        if version in usable:
            return version
        what = "erased" if version in there else "deleted"
        log(f"note: version {version}, which was {seen.alias} before, was {what}")
    now = f"no verified version was {seen.alias} before" + (f" version {seen.current}" if seen.current else "")
    known = ", ".join(usable) or "none"
    if newest := _newest_passed(seen):
        remedy = f"the newest version that has passed the gate is {newest}: tuneline promote {newest}"
    else:
        remedy = "name a version yourself: tuneline rollback --to N"
    raise RegistryError(f"{seen.model}: {now}, so there is nothing to go back to; {remedy} (registered: {known})")


def _refused(seen: _Seen, version: str, failed: Sequence[Check], remedy: str) -> RegistryError:
    if version == seen.current:
        stays = f"but a person has given it the alias {seen.alias} already: undo that with `tuneline verify`"
    elif seen.current:
        stays = f"so {_name(seen.current)} stays {seen.alias}"
    else:
        stays = f"so no version is {seen.alias}, as before"
    return RegistryError(
        *(f"{check.name}: {check.detail}" for check in failed),
        f"{seen.model}: version {version} has not passed its verification, {stays}; {remedy}",
    )


def _remedy(seen: _Seen, version: str, failed: Sequence[Check]) -> str:
    if any(check.is_damage for check in failed):
        return "use another version, or make one with: make run"
    alias = "" if seen.alias == CHAMPION else f" --alias {seen.alias}"
    return f"to promote it all the same, say why: tuneline promote {version}{alias} --override REASON"


def _since(seen: _Seen) -> str:
    entry = seen.entry
    return f", since {entry.time[:16].replace('T', ' ')} UTC ({entry.action}, {entry.who})" if entry else ""


def _compared(champion: str | None) -> str:
    return f", compared with version {champion}" if champion else ""


def _instead(seen: _Seen, version: str) -> str:
    return f" instead of version {seen.current}" if seen.current not in (None, version) else ""


def _name(version: str | None) -> str:
    return f"version {version}" if version else "no version"
