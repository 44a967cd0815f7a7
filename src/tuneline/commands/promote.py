"""`tuneline promote` and `tuneline rollback`: a person gives an alias to a version, which is verified before that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tuneline import params
from tuneline.decisions import promotion, promotion_claim, verification
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError
from tuneline.proofs import keys
from tuneline.registry import history, names, tracking, version_status
from tuneline.registry.cards import CHAMPION
from tuneline.registry.history import History
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
    past: History

    @property
    def verified(self) -> str | None:
        """The last verified version."""
        return history.last_verified(self.past, self.alias)


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
    if override is not None and not override.strip():
        raise RegistryError("--override: say in a few words why, for example --override 'measured by hand on 2 May'")
    tracker, model = _connect(p, alias)
    tracker.version_tags(model, version)
    with promotion.hold(log):
        seen = _see(tracker, model, alias)
        if version == seen.current == seen.verified:
            return f"{model}: version {version} is {alias} already{_since(seen)}; nothing has changed"
        log(f"{model}: verifying version {version}{_compared(seen.verified)}")
        found = checks(p, tracker, version, seen.verified, complete=override is not None)
        failed = _report(found, log)
        if failed and override is None:
            raise _refused(seen, version, failed, _remedy(seen, version, failed))
        if damaged := [check for check in failed if check.is_damage]:
            remedy = f"an override does not cover damage; {_remedy(seen, version, damaged)}"
            raise _refused(seen, version, damaged, remedy)
        if failed and not any(check.name == verification.LOADS for check in found):
            remedy = "an override needs a model that loads, and that could not be checked; repair what is named above"
            raise _refused(seen, version, failed, remedy)
        if not failed:
            _move(seen, version, history.VERIFIED, found, "" if override is None else override.strip())
            return f"{model}: version {version} is verified and {alias} now{_instead(seen, version)}"
        reason = f"{override}; not passed: {', '.join(check.name for check in failed)}"
        _move(seen, version, history.OVERRIDDEN, found, reason)
        by = history.acting_user()
        return f"{model}: version {version} is {alias} now{_instead(seen, version)}, by an override of {by}"


def rollback(
    p: params.Params,
    *,
    to: str | None = None,
    reason: str = "",
    log: Callable[[str], None] = lambda _: None,
    checks: Callable[..., list[Check]] = verification.checks,
) -> str:
    """Give the alias `champion` back to an earlier version, after verifying it.

    The version is not compared with the version that it replaces: a person has decided that that one is worse.

    Args:
        p: the params.
        to: the number of the version; by default the last verified champion before the current champion.
        reason: why, in words.
        log: called with a line for each check.
        checks: checks a version, as `verification.checks` does.

    Returns:
        What was done, in a sentence.

    Raises:
        RegistryError: there is nothing to go back to, or the version does not pass; says that nothing has changed.
        TrackingError: MLflow does not answer.
    """
    tracker, model = _connect(p, CHAMPION)
    if to is not None:
        tracker.version_tags(model, to)
    with promotion.hold(log):
        seen = _see(tracker, model, CHAMPION)
        version = to or _target(seen, log)
        if version == seen.current == seen.verified:
            return f"{model}: version {version} is {CHAMPION} already{_since(seen)}; nothing has changed"
        log(f"{model}: verifying version {version}, to which {CHAMPION} goes back")
        found = checks(p, tracker, version, None, is_earlier=True)
        if failed := _report(found, log):
            others = [one for one in _earlier(seen) if one != version]
            remedy = (
                f"name another version with --to ({', '.join(others)})" if others else _remedy(seen, version, failed)
            )
            raise _refused(seen, version, failed, remedy)
        _move(seen, version, history.ROLLED_BACK, found, reason.strip())
        return f"{model}: {CHAMPION} went back from {_name(seen.current)} to version {version}, which is verified"


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
    return _Seen(tracker, model, alias, current, history.read(tracker, model))


def _report(checks: Sequence[Check], log: Callable[[str], None]) -> list[Check]:
    """Tell what was checked, and return the checks that have failed."""
    for check in checks:
        log(check.line())
    return [check for check in checks if not check.passed]


def _move(seen: _Seen, version: str, action: str, checks: Sequence[Check], reason: str) -> None:
    """Set the alias, then write tags and history; after a kill in between, `promotion.follow` verifies the version."""
    tracker, model, alias, who = seen.tracker, seen.model, seen.alias, history.acting_user()
    now = tracker.aliases(model).get(alias)
    if now != seen.current:
        raise RegistryError(
            f"{model}: {alias} moved from {_name(seen.current)} to {_name(now)} while version {version} was verified, "
            "so nothing is changed; run the same command again if you still want it"
        )
    # A person may have given it the alias before, and nothing has verified that.
    before = seen.verified if seen.current == version else seen.current
    evidence = promotion_claim.evidence(
        tracker,
        model,
        version,
        alias=alias,
        action=action,
        before=before,
        champion=None if action == history.ROLLED_BACK else seen.verified,
        checks=checks,
        reason=reason,
        who=who,
        key=keys.signing_key(),
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
    _agree(seen, entry.number)


def _agree(seen: _Seen, number: int) -> None:
    """Where another machine has set the alias at the same time, the last entry of the history decides."""
    past = history.read(seen.tracker, seen.model)
    known = max((entry.number for entry in seen.past.entries), default=0)
    others = [entry.after for entry in past.entries if known < entry.number < number and entry.alias == seen.alias]
    last, now = history.last_verified(past, seen.alias), seen.tracker.aliases(seen.model).get(seen.alias)
    if now != last and now in others and last is not None:
        seen.tracker.set_alias(seen.model, seen.alias, last)


def _earlier(seen: _Seen) -> list[str]:
    """The versions to which a rollback can lead, the nearest first."""
    there = seen.tracker.find_versions(seen.model, {})
    return [version for version in reversed(history.earlier_versions(seen.past, seen.alias)) if version in there]


def _target(seen: _Seen, log: Callable[[str], None]) -> str:
    if seen.current != seen.verified and seen.verified in seen.tracker.find_versions(seen.model, {}):
        # A person has set the alias, and nothing has verified that yet.
        return str(seen.verified)
    wanted = history.earlier_versions(seen.past, seen.alias)
    found = _earlier(seen)
    for version in reversed(wanted):
        if version in found:
            return version
        log(f"note: version {version}, which was {seen.alias} before, was deleted")
    known = ", ".join(seen.tracker.find_versions(seen.model, {})) or "none"
    now = f"no verified version was {seen.alias} before" + (f" version {seen.current}" if seen.current else "")
    raise RegistryError(
        f"{seen.model}: {now}, so there is nothing to go back to; name a version yourself: tuneline rollback --to N "
        f"(registered: {known})"
    )


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
    entry = history.champion_at(seen.past, seen.alias).entry
    return f", since {entry.time[:16].replace('T', ' ')} UTC ({entry.action}, {entry.who})" if entry else ""


def _compared(champion: str | None) -> str:
    return f", compared with version {champion}" if champion else ""


def _instead(seen: _Seen, version: str) -> str:
    return f" instead of version {seen.current}" if seen.current not in (None, version) else ""


def _name(version: str | None) -> str:
    return f"version {version}" if version else "no version"
