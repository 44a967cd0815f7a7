"""What follows when a person moves the alias `champion`: the version is verified, and keeps the alias or loses it.

The alias in MLflow says what people want; the history says what was verified. `follow` brings both together. It may be
killed at any moment and called at any time: each call begins with what the registry and the history hold.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tuneline import params, processes
from tuneline.decisions import promotion_claim, signature_policy, trusted_history, verification
from tuneline.decisions.trusted_history import TrustedHistory
from tuneline.decisions.verification import Check
from tuneline.errors import BusyError, RegistryError, SignatureError
from tuneline.proofs import keys
from tuneline.proofs.keys import PrivateKey
from tuneline.registry import history, tracking, version_status
from tuneline.registry.cards import CHAMPION
from tuneline.registry.chain import Entry
from tuneline.registry.tracking import Tracker
from tuneline.work import WORK

KEPT, UNDONE, REMOVED = "kept", "undone", "removed"
"""What a step has done: the version keeps the alias; the alias went back; no version has the alias any more."""
_LOCK = WORK / "promotion.lock"
# People may promote faster than versions are verified; after so many, the next call goes on.
_MOST_STEPS = 20


@dataclass(frozen=True)
class Step:
    """One change of an alias, and what became of it."""

    action: str
    """`KEPT`, `UNDONE` or `REMOVED`."""
    alias: str
    version: str
    """The version that had the alias."""
    champion: str | None
    """The version that is champion afterwards."""
    reason: str = ""
    """Why the version lost the alias, as a sentence without a full stop."""
    checks: tuple[Check, ...] = ()

    def line(self, *, dry_run: bool = False) -> str:
        """What has happened, or would happen, in a sentence."""
        if self.action == KEPT:
            return f"version {self.version} {'would stay' if dry_run else 'is verified and stays'} {CHAMPION}"
        if self.alias != CHAMPION:
            verb = "would lose" if dry_run else "has lost"
            return f"version {self.version} {verb} the alias {self.alias}: {self.reason}"
        now = f"version {self.champion}" if self.champion else "no version"
        verb = "would be" if dry_run else "is"
        if self.action == REMOVED:
            return f"{now} {verb} {CHAMPION}: {self.reason}"
        again = " again" if self.champion else ""
        return f"version {self.version} {verb} undone as {CHAMPION}, which {verb} {now}{again}: {self.reason}"

    def told(self, *, dry_run: bool = False) -> str:
        """As `line`, where the checks with their reasons are printed above: their names, and what a person can do."""
        failed = [check for check in self.checks if not check.passed]
        if self.action != UNDONE or not failed:
            return self.line(dry_run=dry_run)
        reason = f"not passed: {', '.join(check.name for check in failed)}"
        if not any(check.is_damage for check in failed):
            reason += f"; to promote it all the same, say why: tuneline promote {self.version} --override REASON"
        return replace(self, reason=reason).line(dry_run=dry_run)


@dataclass(frozen=True)
class Outcome:
    """What a call of `follow` found, and did."""

    model: str
    champion: str | None
    """The version that is champion now, or would be."""
    steps: tuple[Step, ...] = ()
    """What was done, the earliest first; empty if nothing had changed."""
    damage: str = ""
    """What is wrong with the files of a champion that was verified earlier; empty if nothing is, or if its files were
    not looked at."""
    failed: str = ""
    """Which other checks of its files have failed, those that an override covers excepted."""
    override: Entry | None = None
    """The entry of the history with which a person made it champion although checks had failed."""

    @property
    def undone(self) -> tuple[Step, ...]:
        """The promotions that were undone."""
        return tuple(step for step in self.steps if step.action == UNDONE)

    def standing(self) -> str:
        """Which version is champion, why, and what its files are like, where nothing has changed."""
        if self.champion is None:
            return "no version is champion; nothing has changed"
        if self.override:
            now = f"is {CHAMPION} by an override of {self.override.who} ({self.override.reason})"
        else:
            now = f"is the verified {CHAMPION}"
        unsound = "its files are damaged" if self.damage else "a check fails" if self.failed else ""
        return f"version {self.champion} {now}; {unsound or 'nothing has changed'}"


@contextmanager
def hold(log: Callable[[str], None]) -> Iterator[None]:
    """Be the only process of this project that moves the champion or verifies a version.

    Args:
        log: called with a line if another process must be waited for.
    """
    what = "the verification of promotions"
    with ExitStack() as stack:
        try:
            stack.enter_context(processes.exclusive(_LOCK, what))
        except BusyError as error:
            log(f"{error}; waiting")
            stack.enter_context(processes.exclusive(_LOCK, what, wait=True))
        # Outside of `try`: a BusyError of the block is about another lock.
        yield


def follow(
    p: params.Params,
    *,
    dry_run: bool = False,
    recheck: bool = False,
    log: Callable[[str], None] = lambda _: None,
    checks: Callable[..., list[Check]] = verification.checks,
) -> Outcome:
    """Verify the version that a person has made champion, and let it keep the alias or undo that.

    Nothing happens if the champion is the last verified version. Takes no lock of the pipeline.

    Args:
        p: the params.
        dry_run: whether only to report what would be done.
        recheck: whether to check the files of the champion again if nothing has changed.
        log: called with a line before a verification, and with a line for each check.
        checks: checks a version, as `verification.checks` does.

    Returns:
        What was done, or would be done.

    Raises:
        TrackingError: MLflow does not answer; the next call goes on from there.
    """
    tracker, model = tracking.connect(), p.registry.model

    def verify(version: str, state: _State) -> _Verified:
        compared = state.past.compared_with(CHAMPION, version, log)
        words = f", compared with version {compared}" if compared else ""
        log(f"{model} version {version}: verifying its promotion{words}")
        found = checks(p, tracker, version, compared, is_earlier=state.is_first, dry_run=dry_run)
        for check in found:
            log(check.line())
        return _Verified(version, compared, tuple(found))

    if dry_run:
        outcome = _foresee(tracker, model, verify)
        return _rechecked(p, tracker, outcome, log) if recheck else outcome
    with hold(log):
        for problem in history.read(tracker, model).problems:
            log(f"history: {problem}")
        steps: list[Step] = []
        for _ in range(_MOST_STEPS):
            step = _next_step(tracker, model, verify, log)
            if step is None:
                break
            steps += [step] if step is not _AGAIN else []
        outcome = Outcome(model, tracker.aliases(model).get(CHAMPION), tuple(steps))
    return _rechecked(p, tracker, outcome, log) if recheck else outcome


def _rechecked(p: params.Params, tracker: Tracker, outcome: Outcome, log: Callable[[str], None]) -> Outcome:
    """The outcome with the damage of a champion that was verified earlier; a damaged champion keeps the alias.

    A person decides what takes its place: `generate` and `predict` refuse it until then.
    """
    if outcome.steps or outcome.champion is None:
        return outcome
    last = _read_state(tracker, outcome.model).last
    override = last if last and last.action == history.OVERRIDDEN and last.after == outcome.champion else None
    covered = promotion_claim.failed_checks(tracker, override) if override else frozenset()
    found = verification.check_bytes(p, tracker, outcome.champion)
    others = [check for check in found if not check.is_damage]
    for check in found:
        is_covered = check in others and not check.passed and check.name in covered
        log(f"overridden  {check.name}: {check.detail}" if is_covered else check.line())
    return replace(
        outcome,
        damage=_reason([check for check in found if check.is_damage]),
        failed=_reason([check for check in others if check.name not in covered]),
        override=override,
    )


def is_settled(tracker: Tracker, model: str) -> bool:
    """Whether the champion is the last verified version, and no alias looks like `champion`."""
    state = _read_state(tracker, model)
    return state.is_settled and not state.misspelt


@dataclass(frozen=True)
class _State:
    """What the registry and the history hold."""

    champion: str | None
    misspelt: Mapping[str, str]
    """Aliases that differ from `champion` by case -> version."""
    verified: str | None
    """The last verified version whose files are still those that were verified; None if there is none, or its alias was
    removed."""
    last: Entry | None
    """The last entry about `champion` that counts."""
    exchanged: str
    """That the files of the champion are not those that were verified; empty if they are, or were never verified."""
    doubted: Entry | None
    """The last entry that says that a version was kept, if it is about the champion and does not count."""
    is_first: bool
    """Whether no promotion was ever decided: the champion may be from before promotions were verified."""
    past: TrustedHistory

    @property
    def pending(self) -> str | None:
        """The version whose promotion was seen and is not decided yet."""
        return self.last.after if self.last and self.last.action == history.MOVED else None

    @property
    def is_settled(self) -> bool:
        return self.champion == self.verified and self.pending in (None, self.champion)


@dataclass(frozen=True)
class _Verified:
    """The checks of a version."""

    version: str
    compared: str | None
    """The version with which it was compared."""
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """Why it has not passed; empty if it has."""
        return _reason(self.checks)


_Verify = Callable[[str, _State], _Verified]
"""Checks a version, compared with the version that was verified last before it."""


def _read_state(tracker: Tracker, model: str) -> _State:
    # The alias first: what moves it afterwards is seen by the next call.
    aliases = tracker.aliases(model)
    past = trusted_history.read(tracker, model)
    champion = aliases.get(CHAMPION)
    return _State(
        champion=champion,
        misspelt={name: one for name, one in aliases.items() if name != CHAMPION and name.casefold() == CHAMPION},
        verified=past.verified(CHAMPION),
        last=past.last(CHAMPION, _OF_ALIAS),
        exchanged=(champion and past.exchanged(champion)) or "",
        doubted=_doubted(past, champion),
        is_first=past.last(CHAMPION, [action for action in _OF_ALIAS if action != history.MOVED]) is None,
        past=past,
    )


def _doubted(past: TrustedHistory, champion: str | None) -> Entry | None:
    about = [entry for entry in past.found.entries if entry.alias == CHAMPION and entry.action in _OF_ALIAS]
    last = about[-1] if about else None
    return last if last and last.after == champion and not past.is_believed(last) else None


_OF_ALIAS = (
    *(history.MOVED, history.VERIFIED, history.UNDONE, history.OVERRIDDEN, history.ROLLED_BACK),
    *(history.REMOVED, history.ERASED),
)


def _foresee(tracker: Tracker, model: str, verify: _Verify) -> Outcome:
    state = _read_state(tracker, model)
    steps = [Step(UNDONE, name, one, state.champion, _misspelt(name)) for name, one in state.misspelt.items()]
    if state.champion is None:
        if state.verified or state.pending:
            steps.append(
                Step(REMOVED, CHAMPION, state.pending or str(state.verified), None, _gone(tracker, model, state))
            )
        return Outcome(model, None, tuple(steps))
    if state.champion == state.verified:
        return Outcome(model, state.champion, tuple(steps))
    found = verify(state.champion, state)
    if found.reason:
        target = _target(tracker, model, state, state.champion, verify).version
        steps.append(Step(UNDONE, CHAMPION, state.champion, target, found.reason, found.checks))
        return Outcome(model, target, tuple(steps))
    steps.append(Step(KEPT, CHAMPION, state.champion, state.champion, "", found.checks))
    return Outcome(model, state.champion, tuple(steps))


_AGAIN = Step("", CHAMPION, "", None)
"""The registry has changed meanwhile: look again."""


def _next_step(tracker: Tracker, model: str, verify: _Verify, log: Callable[[str], None]) -> Step | None:
    """Do the next step; None if the alias and the history agree."""
    state = _read_state(tracker, model)
    for alias, version in state.misspelt.items():
        return _remove_misspelt(tracker, model, alias, version, state.champion)
    if state.is_settled:
        return None
    if state.champion is None:
        return _follow_removal(tracker, model, state, verify, log)
    if state.champion == state.verified:
        return _follow_return(tracker, model, state)
    return _follow_promotion(tracker, model, state, verify, log)


def _remove_misspelt(tracker: Tracker, model: str, alias: str, version: str, champion: str | None) -> Step:
    reason = _misspelt(alias)
    # The entry comes first: without the alias, nothing would lead to it after a kill.
    if tracker.aliases(model).get(alias) == version:
        history.append(tracker, model, action=history.UNDONE, alias=alias, before=version, after=None, reason=reason)
        _tag(tracker, model, version, UNDONE, reason)
        tracker.remove_alias(model, alias)
    return Step(UNDONE, alias, version, champion, reason)


def _misspelt(alias: str) -> str:
    return f"aliases differ by upper and lower case, and the version in use has the alias {CHAMPION}, not {alias}"


def _follow_removal(tracker: Tracker, model: str, state: _State, verify: _Verify, log: Callable[[str], None]) -> Step:
    """No version has the alias: a person has removed it, or its version was deleted."""
    pending = state.pending
    if pending and pending not in tracker.find_versions(model, {}):
        # Its promotion has taken the alias from the last verified version.
        target = _target(tracker, model, state, pending, verify)
        reason = f"version {pending} was deleted before it was verified"
        if target.version and tracker.aliases(model).get(CHAMPION) is None:
            tracker.set_alias(model, CHAMPION, target.version)
        _append(tracker, model, history.UNDONE, pending, target.version, reason)
        _confirm(tracker, model, state, target, log)
        return Step(UNDONE, CHAMPION, pending, target.version, reason)
    if pending and _interrupted(tracker, model, state):
        # The undo has removed the alias, as the last verified version was not there or not sound.
        reason = tracker.version_tags(model, pending)[version_status.PROMOTION_REASON]
        _append(tracker, model, history.UNDONE, pending, None, reason)
        return Step(UNDONE, CHAMPION, pending, None, reason)
    reason = _gone(tracker, model, state)
    before = pending or str(state.verified)
    history.append(
        tracker,
        model,
        action=history.REMOVED,
        alias=CHAMPION,
        before=before,
        after=None,
        reason=reason,
        who=history.SOMEONE,
    )
    return Step(REMOVED, CHAMPION, before, None, reason)


def _gone(tracker: Tracker, model: str, state: _State) -> str:
    """Why no version has the alias, in words."""
    before = state.pending or state.verified
    if before not in tracker.find_versions(model, {}):
        return f"version {before}, which was {CHAMPION}, was deleted"
    if state.last and state.last.action == history.UNDONE and state.last.after is None:
        damage = signature_policy.find_damage(tracker, model, str(before)) or "it could not be used"
        return f"version {before}, the last verified {CHAMPION}, could not get the alias back: {damage}"
    return f"version {before} has lost the alias"


def _follow_return(tracker: Tracker, model: str, state: _State) -> Step:
    """The last verified version has the alias again, and the promotion that was seen is not decided yet."""
    pending = str(state.pending)
    known = pending in tracker.find_versions(model, {})
    if known and _interrupted(tracker, model, state):
        reason, who = tracker.version_tags(model, pending)[version_status.PROMOTION_REASON], None
    else:
        reason, who = (
            f"version {state.verified} got the alias back before version {pending} was verified",
            history.SOMEONE,
        )
    _append(tracker, model, history.UNDONE, pending, state.verified, reason, who=who)
    return Step(UNDONE, CHAMPION, pending, state.verified, reason)


def _interrupted(tracker: Tracker, model: str, state: _State) -> bool:
    """Whether a killed process has undone the pending promotion without noting it in the history."""
    assert state.last and state.last.after
    tags = tracker.version_tags(model, state.last.after)
    return (
        tags.get(version_status.PROMOTION) == UNDONE and tags.get(version_status.PROMOTION_ENTRY) == state.last.sha256
    )


def _follow_promotion(tracker: Tracker, model: str, state: _State, verify: _Verify, log: Callable[[str], None]) -> Step:
    version = str(state.champion)
    is_seen = state.pending == version
    if not is_seen and not state.doubted:
        state, is_seen = replace(state, last=_note_promotion(tracker, model, state)), True
    try:
        registered = promotion_claim.registered(tracker, model, version)
        found = verify(version, state)
        reason, target = found.reason, _Target(version)
        if reason:
            target = _target(tracker, model, state, version, verify)
            if not is_seen:
                # A kill after the alias has moved would leave nothing that leads to the promotion.
                state = replace(state, last=_note_promotion(tracker, model, state))
        # MLflow cannot set an alias on a condition, so look as late as possible.
        key, action = _signing_key(version, log), history.UNDONE if reason else history.VERIFIED
        evidence = _evidence(model, registered, state, found, action, key)
        if _is_decided(tracker, model, version):
            return _AGAIN
        seen = state.last if reason or state.doubted is None else state.doubted
        _tag(tracker, model, version, UNDONE if reason else KEPT, reason, seen.sha256 if seen else "")
    except RegistryError:
        if version in tracker.find_versions(model, {}):
            raise
        return _follow_deletion(tracker, model, state, version, verify, log)
    if _is_decided(tracker, model, version):
        return _AGAIN
    if not reason:
        _keep(state, state.doubted, evidence, version, is_signed=key is not None)
        return Step(KEPT, CHAMPION, version, version, "", found.checks)
    if target.version:
        tracker.set_alias(model, CHAMPION, target.version)
    else:
        tracker.remove_alias(model, CHAMPION)
    _append(tracker, model, action, version, target.version, reason, evidence)
    if broken := next((check for check in found.checks if check.name == verification.FILES and not check.passed), None):
        version_status.tag_broken(tracker, model, version, broken.detail)
    _confirm(tracker, model, state, target, log)
    return Step(UNDONE, CHAMPION, version, target.version, reason, found.checks)


def _note_promotion(tracker: Tracker, model: str, state: _State) -> Entry:
    """Note that a person has given the alias to the champion."""
    return history.append(
        tracker,
        model,
        action=history.MOVED,
        alias=CHAMPION,
        before=state.champion if state.exchanged else state.pending or state.verified,
        after=state.champion,
        reason=state.exchanged,
        who=history.SOMEONE,
    )


@dataclass(frozen=True)
class _Target:
    """The version to which the alias goes back."""

    version: str | None
    """None: no version."""
    entry: Entry | None = None
    """The entry that says that it was verified, if it is unsigned: then the version was verified again."""
    registered: promotion_claim.Registered | None = None
    found: _Verified | None = None


def _target(tracker: Tracker, model: str, state: _State, undone: str, verify: _Verify) -> _Target:
    """Where the alias goes back to when the promotion of a version is undone.

    That is the last verified version, if it is sound. If only an unsigned entry of another clone says that a later
    version was verified, that version is verified again: the clones of a team may have no key.
    """
    entry = state.past.unsigned_kept(CHAMPION, undone)
    if entry and entry.after and entry.after in tracker.find_versions(model, {}):
        registered = promotion_claim.registered(tracker, model, entry.after)
        found = verify(entry.after, state)
        if not found.reason:
            return _Target(entry.after, entry, registered, found)
    return _Target(_sound(tracker, model, state.verified))


def _confirm(tracker: Tracker, model: str, state: _State, target: _Target, log: Callable[[str], None]) -> None:
    """Note that the version to which the alias went back was verified again, if it was."""
    if target.version is None or target.found is None or target.registered is None:
        return
    key = _signing_key(target.version, log)
    evidence = _evidence(model, target.registered, state, target.found, history.VERIFIED, key)
    _keep(state, target.entry, evidence, target.version, is_signed=key is not None)


def _evidence(
    model: str,
    registered: promotion_claim.Registered,
    state: _State,
    found: _Verified,
    action: str,
    key: PrivateKey | None,
) -> history.Evidence:
    return promotion_claim.evidence(
        model,
        registered,
        alias=CHAMPION,
        action=action,
        before=state.verified,
        champion=found.compared,
        checks=found.checks,
        reason=found.reason,
        who=history.acting_user(),
        key=key,
    )


def _keep(state: _State, said: Entry | None, evidence: history.Evidence, version: str, *, is_signed: bool) -> None:
    """Note that a version was verified.

    Args:
        state: what registry and history hold.
        said: an unsigned entry that says the same already; None if there is none.
        evidence: of the new entry.
        version: its number.
        is_signed: whether the evidence is signed.
    """
    if not is_signed and said and said.action == history.VERIFIED:
        # Another entry of a clone without a key would tell other clones nothing new.
        trusted_history.remember(said)
        return
    past = state.past
    _append(past.tracker, past.model, history.VERIFIED, state.verified, version, "", evidence, is_signed=is_signed)


def _follow_deletion(
    tracker: Tracker, model: str, state: _State, version: str, verify: _Verify, log: Callable[[str], None]
) -> Step:
    """The version was deleted during its verification, and its alias with it."""
    if tracker.aliases(model).get(CHAMPION) != version:
        return _AGAIN
    # MLflow keeps the alias where it was set at the moment of the deletion.
    target, reason = _target(tracker, model, state, version, verify), f"version {version} does not exist"
    if target.version:
        tracker.set_alias(model, CHAMPION, target.version)
    else:
        tracker.remove_alias(model, CHAMPION)
    _append(tracker, model, history.UNDONE, version, target.version, reason)
    _confirm(tracker, model, state, target, log)
    return Step(UNDONE, CHAMPION, version, target.version, reason)


def _is_decided(tracker: Tracker, model: str, version: str) -> bool:
    """Whether the alias has moved on meanwhile, or a person's `tuneline promote` has decided about the version."""
    moved = tracker.aliases(model).get(CHAMPION) != version
    return moved or trusted_history.read(tracker, model).verified(CHAMPION) == version


def _reason(checks: Iterable[Check]) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.passed)


def _sound(tracker: Tracker, model: str, version: str | None) -> str | None:
    """The version, if the registry has it and every byte of its files is as registered."""
    if version is None or version not in tracker.find_versions(model, {}):
        return None
    return version if signature_policy.find_damage(tracker, model, version) is None else None


def _signing_key(version: str, log: Callable[[str], None]) -> PrivateKey | None:
    try:
        key = keys.signing_key()
    except SignatureError as error:
        # A bad promotion is undone all the same.
        log(f"the claim about version {version} is not signed: {'; '.join(error.problems)}")
        return None
    if key is None and keys.trusted_keys():
        log(f"note: {trusted_history.UNSIGNED}")
    return key


def _append(
    tracker: Tracker,
    model: str,
    action: str,
    before: str | None,
    after: str | None,
    reason: str,
    evidence: history.Evidence | None = None,
    *,
    who: str | None = None,
    is_signed: bool = True,
) -> None:
    entry = history.append(
        tracker,
        model,
        action=action,
        alias=CHAMPION,
        before=before,
        after=after,
        reason=reason,
        who=who,
        evidence=evidence or {},
    )
    if not is_signed and keys.trusted_keys():
        trusted_history.remember(entry)


def _tag(tracker: Tracker, model: str, version: str, verdict: str, reason: str, entry: str = "") -> None:
    """Write what became of a promotion into the tags of the version."""
    version_status.tag_promotion(
        tracker,
        model,
        version,
        verdict,
        reason=reason,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        who=history.acting_user(),
        entry=entry,
    )
