"""The ledger of a model: every use of test rows for a decision, and what the next comparison may spend.

The entries are a chain in MLflow's experiment `<model>-ledger`, as those of the history: MLflow changes none of them,
and one that is missing is noticed. An entry names the candidate, the champion and the test rows by their digests, so
that a gate that runs again about the same three finds its entry and spends nothing. It keeps a sketch of all groups of
test rows that have been used so far.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tuneline.core import files
from tuneline.errors import RegistryError, TrackingError
from tuneline.gate import group_sketch, spending
from tuneline.gate.decision import Verdict
from tuneline.gate.spending import Budget, Use
from tuneline.registry import history
from tuneline.registry.chain import Entry
from tuneline.registry.history import Book, History
from tuneline.registry.tracking import Tracker

COMPARED = "compared"
MEASURED = "measured"
BOOK = Book(
    suffix="-ledger",
    head="tuneline.ledger",
    actions={
        COMPARED: "test rows have decided between a candidate and the champion",
        MEASURED: "test rows have decided about a candidate without a champion",
        history.ACCEPTED: history.ACTIONS[history.ACCEPTED],
    },
)
_SKETCH = "groups.bin"
_TRIES = 20
_SAME = ("candidate", "champion", "test_rows")


@dataclass(frozen=True)
class Comparison:
    """What a decision is about."""

    candidate: str
    """The sha256 of the candidate's model."""
    champion: str
    """The sha256 of the champion's model; empty where rules ask about no champion, or there is none."""
    test_rows: str
    """The digest of the ids of the test rows on which both are compared."""
    groups: tuple[str, ...]
    """The groups of these rows."""
    where: str
    """gate or verification."""

    @classmethod
    def of(cls, candidate: str, champion: str, rows: Mapping[str, Iterable[str]], where: str) -> "Comparison":
        """A comparison on test rows.

        Args:
            candidate: the sha256 of its model.
            champion: the sha256 of its model, or empty.
            rows: `id` and `cluster` of the rows.
            where: gate or verification.
        """
        return cls(candidate, champion, files.digest(sorted(rows["id"])), tuple(sorted(set(rows["cluster"]))), where)


@dataclass(frozen=True)
class Ledger:
    """What MLflow holds of the uses of test rows."""

    entries: History
    used: np.ndarray | None
    """The sketch of all groups that were used; None where it is damaged."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The damages that nobody has accepted, each a sentence."""
        return self.entries.problems

    @property
    def is_damaged(self) -> bool:
        """Whether entries are missing or were edited, and nobody has accepted it: then no entry is believed."""
        return bool(self.entries.found) or self.used is None

    @property
    def doubted(self) -> int:
        """How many entries, from the first, are not believed: those before a damage was accepted, and the acceptance.

        Not only the damaged entry: what it said may have been moved to another.
        """
        if self.is_damaged:
            return self.entries.last[0]
        return max((entry.number for entry in self.entries.entries if entry.accepts), default=0)

    def believed(self) -> list[Entry]:
        """The entries that are not doubted."""
        return [entry for entry in self.entries.entries if entry.number > self.doubted]

    def uses(self) -> list[Use]:
        """The comparisons with a champion. Every entry that is not believed counts as one that has not passed."""
        groups = [_used_groups(entry) for entry in self.entries.entries if entry.number <= self.doubted]
        known = [entry for entry in self.believed() if entry.action == COMPARED]
        return [
            *[Use(passed=False, groups=max([1, *groups]))] * self.doubted,
            *(Use(entry.facts.get("passed") == "true", _used_groups(entry)) for entry in known),
        ]


def read(tracker: Tracker, model: str) -> Ledger:
    """The ledger of a model.

    Args:
        tracker: the registry.
        model: the registered model's name.
    """
    entries = history.read(tracker, model, book=BOOK)
    last = next((entry for entry in reversed(entries.entries) if _SKETCH in entry.evidence), None)
    if last is None:
        return Ledger(entries, group_sketch.sketch([]))
    try:
        return Ledger(entries, group_sketch.from_bytes(history.read_evidence(tracker, last)[_SKETCH]))
    except (RegistryError, ValueError):
        return Ledger(entries, None)


def spend(
    tracker: Tracker, model: str, comparison: Comparison, decide: Callable[[float], Verdict]
) -> tuple[Verdict, Budget | None]:
    """Decide at the level that the ledger leaves, and add the use to it; a use that it holds already is not added.

    Args:
        tracker: the registry.
        model: the registered model's name.
        comparison: what is decided.
        decide: the one-sided level of the rules versus the champion -> the verdict.

    Returns:
        The verdict, and where the comparison stands; None without a champion.

    Raises:
        TrackingError: MLflow does not answer, or other processes add entries all the time.
    """
    for _ in range(_TRIES):
        ledger = read(tracker, model)
        place = _place(ledger, comparison)
        past, groups = ledger.uses(), _groups(ledger, comparison)
        if place is not None:
            past, groups = past[: place[0]], place[1]
        budget = spending.budget(past, groups) if comparison.champion else None
        verdict = decide(budget.level if budget else spending.level_of(1))
        if place is not None or _append(tracker, model, ledger, comparison, budget, verdict):
            return verdict, budget
    raise TrackingError(
        f"{model}{BOOK.suffix}: other processes added entries {_TRIES} times; run the same command again"
    )


def _place(ledger: Ledger, comparison: Comparison) -> tuple[int, int] | None:
    """The number of comparisons before this one, and the groups that were used with it; None if it is a new one."""
    before = ledger.doubted
    for entry in ledger.believed():
        if all(entry.facts.get(name) == getattr(comparison, name) for name in _SAME):
            return before, _used_groups(entry)
        before += entry.action == COMPARED
    return None


def _groups(ledger: Ledger, comparison: Comparison) -> int:
    """The different groups that were used, with those of a new comparison."""
    if ledger.used is None:
        # Without the sketch no group counts as new.
        return 1
    return group_sketch.count(group_sketch.union(ledger.used, group_sketch.sketch(comparison.groups)))


def _append(
    tracker: Tracker,
    model: str,
    ledger: Ledger,
    comparison: Comparison,
    budget: Budget | None,
    verdict: Verdict,
) -> bool:
    """Whether the use was added: not if another process has added one meanwhile."""
    known = group_sketch.sketch([]) if ledger.used is None else ledger.used
    used = group_sketch.union(known, group_sketch.sketch(comparison.groups))
    facts = {name: getattr(comparison, name) for name in (*_SAME, "where")}
    facts |= {"groups": str(len(comparison.groups)), "used_groups": str(group_sketch.count(used))}
    facts |= {"verdict": verdict.verdict}
    if budget:
        facts |= {"passed": "true" if passes_champion(verdict) else "false", "level": repr(budget.level)}
    entry = history.append_after(
        tracker,
        model,
        ledger.entries.last[1],
        book=BOOK,
        action=COMPARED if budget else MEASURED,
        reason=f"{comparison.where}: {verdict.verdict}",
        facts=facts,
        evidence={_SKETCH: group_sketch.as_bytes(used)},
    )
    return entry is not None


def passes_champion(verdict: Verdict) -> bool:
    """Whether every rule versus the champion has passed."""
    found = [rule.verdict for rule in verdict.rules if rule.versus == "champion"]
    return bool(found) and set(found) == {"passed"}


def _used_groups(entry: Entry) -> int:
    """The different groups of test rows that an entry and all earlier entries have used; 0 where it does not say so."""
    text = entry.facts.get("used_groups", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
