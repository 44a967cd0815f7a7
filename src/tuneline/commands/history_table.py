"""`tuneline history`: who moved which alias when, what was champion at a time, and whether the history is damaged."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tuneline import params
from tuneline.decisions import trusted_history
from tuneline.errors import RegistryError
from tuneline.proofs import keys
from tuneline.registry import history, ledger, tracking
from tuneline.registry.history import Entry, History, Standing

_COLUMNS = ("time (UTC)", "who", "action", "alias", "from → to", "reason")


@dataclass(frozen=True)
class Told:
    """The history of a model, and what else is known about it."""

    model: str
    found: History
    aliases: Mapping[str, str]
    """Alias -> version, as they are now."""
    signers: Mapping[int, str | None] | None = None
    """Number of an entry that gave an alias to a version -> name of the trusted key that has signed its claim, or has
    accepted it; None if the project has no key."""
    own: frozenset[int] = frozenset()
    """The numbers of the unsigned entries that count in this clone only, because it has written them."""

    @property
    def uncounted(self) -> list[int]:
        """The numbers of the unsigned entries that do not count."""
        signers = self.signers or {}
        return [number for number in sorted(signers) if signers[number] is None and number not in self.own]

    @property
    def believed(self) -> History:
        """The history without the entries that do not count."""
        counted = [entry for entry in self.found.entries if entry.number not in self.uncounted]
        return replace(self.found, entries=tuple(counted))


def read(p: params.Params) -> Told:
    """The history of the model with all its files checked, and the aliases as they are now."""
    tracker, model = tracking.connect(), p.registry.model
    found = history.read(tracker, model, evidence=True)
    past = trusted_history.read(tracker, model, found)
    given = [entry for entry in found.entries if entry.action in history.GIVEN]
    return Told(
        model,
        found,
        tracker.aliases(model),
        {entry.number: past.voucher(entry) for entry in given} if past.trusted else None,
        frozenset(entry.number for entry in past.unsigned() if past.is_believed(entry)),
    )


def accept(p: params.Params, reason: str) -> list[str]:
    """Accept the damages of history and ledger and the unsigned entries, and return what was done, in lines.

    Raises:
        RegistryError: the reason is empty, or this machine has no key to accept unsigned entries with.
    """
    if not reason.strip():
        raise RegistryError("--accept: say in a few words what happened, for example --accept 'restored from a backup'")
    tracker, model, lines = tracking.connect(), p.registry.model, []
    past, key = trusted_history.read(tracker, model), keys.signing_key()
    unsigned = past.unsigned()
    if unsigned and key is None:
        raise RegistryError(
            f"--accept: no key in {keys.TRUSTED} has signed {_listed(entry.number for entry in unsigned)} of the "
            "history, and this machine does not have the private part of such a key; accept where it is"
        )
    for what, book in (("history", history.HISTORY), ("ledger", ledger.BOOK)):
        before = history.read(tracker, model, evidence=True, book=book)
        if entry := history.accept(tracker, model, reason.strip(), book=book):
            lines += [f"accepted: {problem}" for problem in before.problems]
            lines += [f"{model}: entry {entry.number} of the {what} names this damage, and who accepted it"]
    # `past`: an entry that somebody adds meanwhile is not accepted.
    if key and (made := trusted_history.accept(past, reason.strip(), key)):
        lines += [f"accepted: entry {one.number} ({one.action}, version {one.after})" for one in unsigned]
        lines += [f"{model}: entry {made.number} of the history names what was accepted, and who accepted it"]
    return lines or [f"{model}: the history is not damaged; nothing to accept"]


def moment(text: str) -> str:
    """A time as the entries write it.

    Args:
        text: ISO 8601; without an offset it is UTC.

    Raises:
        RegistryError: it is not a time.
    """
    try:
        given = datetime.fromisoformat(text)
        given = given.replace(tzinfo=given.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RegistryError(f"--at {text}: is not a time; write it like 2026-10-03T12:00 (UTC)") from None
    return given.isoformat(timespec="milliseconds")


def past_moment(text: str) -> str:
    """As `moment`, for a time that is not in the future.

    Raises:
        RegistryError: it is not a time, or is in the future.
    """
    found = moment(text)
    if found > datetime.now(UTC).isoformat(timespec="milliseconds"):
        raise RegistryError(f"--at {text}: is in the future; for what is champion now, leave out --at")
    return found


def lines(told: Told, *, alias: str, limit: int) -> Iterator[str]:
    """The history as a table, the newest entry first.

    Args:
        told: from `read`.
        alias: whose holder is named first.
        limit: how many entries to show.
    """
    found = told.found
    yield from _damage(found)
    yield from _unsigned(told, alias)
    yield f"{told.model}: {_now(told.believed, told.aliases, alias)}"
    if not found.entries:
        yield "the history is empty: no alias has moved since it is kept"
        return
    shown = reversed(found.entries[-limit:])
    rows = [_COLUMNS, *(_row(entry, is_uncounted=entry.number in told.uncounted) for entry in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if older := max(0, len(found.entries) - limit):
        yield f"{older} older {'entry' if older == 1 else 'entries'}: --limit {len(found.entries)} shows all"


def at_lines(told: Told, *, alias: str, at: str) -> Iterator[str]:
    """Which version had the alias at a time.

    Args:
        told: from `read`.
        alias: the alias.
        at: the time, from `moment`.
    """
    found = told.believed
    yield from _damage(found)
    standing = history.champion_at(found, alias, at)
    yield f"{told.model}: at {_clock(at)} UTC {_stood(standing, found, alias)}"


def value(told: Told, *, alias: str, limit: int | None, at: str | None) -> dict[str, Any]:
    """The same for programs, as JSON.

    Args:
        told: from `read`.
        alias: the alias that `at` asks about.
        limit: how many entries to show; None: all.
        at: a time from `moment`; None: now.
    """
    found = told.found
    shown = found.entries if limit is None else found.entries[-limit:]
    answer: dict[str, Any] = {
        "model": told.model,
        "aliases": dict(told.aliases),
        "problems": list(found.problems),
        "accepted": [problem.text for problem in found.accepted],
        "unfinished": found.unfinished,
        "uncounted": told.uncounted,
        "signers": {str(number): name for number, name in (told.signers or {}).items()},
    }
    if at is None:
        return answer | {"entries": [asdict(entry) for entry in shown]}
    standing = history.champion_at(told.believed, alias, at)
    entry = asdict(standing.entry) if standing.entry else None
    return answer | {"at": at, "alias": alias, "version": standing.version, "state": standing.state, "entry": entry}


def _unsigned(told: Told, alias: str) -> Iterator[str]:
    if told.own:
        yield (
            f"note: this clone has written {_listed(sorted(told.own))} without a key, so only this clone believes "
            "that; other clones verify the version again"
        )
    if uncounted := told.uncounted:
        version = told.aliases.get(alias)
        given = {entry.after for entry in told.found.entries if entry.number in uncounted}
        verb, them = ("does", "it") if len(uncounted) == 1 else ("do", "them")
        yield (
            f"unsigned: {_listed(uncounted)} {verb} not count, because no key in {keys.TRUSTED} has signed a claim "
            f"about {them}, and everyone who can write to MLflow can add such an entry; "
            f"verify the version again with: tuneline promote {version if version in given else 'N'}; or, if you know "
            "that it is right, accept it with: tuneline history --accept REASON"
        )


def _listed(numbers: Iterable[int]) -> str:
    found = [str(number) for number in numbers]
    return f"entry {found[0]}" if len(found) == 1 else f"entries {', '.join(found)}"


def _damage(found: History) -> Iterator[str]:
    for problem in found.problems:
        yield f"damaged: {problem}"
    for problem in found.accepted:
        yield f"accepted damage: {problem.text.partition(';')[0]}"
    if found.unfinished:
        what = "entry was" if found.unfinished == 1 else "entries were"
        yield f"note: {found.unfinished} {what} begun and not finished; no version was moved by that"


def _now(found: History, aliases: Mapping[str, str], alias: str) -> str:
    # A program may have given the alias to a version without a number.
    version = aliases.get(alias) or None
    standing = history.champion_at(found, alias)
    if version != standing.version and (version or standing.version):
        now = f"version {version} is {alias} now" if version else f"no version is {alias} now"
        return f"{now}, and the history does not say so yet; verify it with: tuneline verify"
    if version is None:
        return f"no version is {alias}"
    return f"version {version} is {alias}, {_state(standing)}"


def _stood(standing: Standing, found: History, alias: str) -> str:
    if standing.entry is None:
        begin = f"; the history begins at {_clock(found.entries[0].time)} UTC" if found.entries else ""
        return f"no version is known to have been {alias}{begin}"
    if standing.version is None:
        return f"no version was {alias}, {_state(standing)}"
    return f"version {standing.version} was {alias}, {_state(standing)}"


_STATES = {
    history.MOVED: "not verified (set at {time} UTC by {who})",
    history.VERIFIED: "verified (at {time} UTC by {who})",
    history.UNDONE: "verified (it got the alias back at {time} UTC: {reason})",
    history.OVERRIDDEN: "not verified, but set by {who} at {time} UTC: {reason}",
    history.ROLLED_BACK: "verified (rolled back at {time} UTC by {who})",
    history.REMOVED: "since {time} UTC: {reason}",
    history.ERASED: "since {time} UTC: {reason}",
}


def _state(standing: Standing) -> str:
    entry = standing.entry
    assert entry
    words = _STATES.get(entry.action, "{reason}")
    return words.format(time=_clock(entry.time), who=entry.who, reason=entry.reason or "no reason given")


def _row(entry: Entry, *, is_uncounted: bool) -> tuple[str, ...]:
    moved = f"{entry.before or '-'} → {entry.after or '-'}"
    action = f"{entry.action} (does not count)" if is_uncounted else entry.action
    return (_clock(entry.time), entry.who, action, entry.alias or "-", moved, entry.reason)


def _clock(time: str) -> str:
    return time.replace("T", " ").partition("+")[0].partition(".")[0]
