"""The ledger of a model: every use of test rows for a decision, and what the next comparison may spend.

The entries are a chain in MLflow's experiment `<model>-ledger`, as those of the history: MLflow changes none of them,
and one that is missing is noticed. An entry names the candidate, the champion, the test rows and the rules by their
digests, so that a gate that runs again about the same four finds its entry and spends nothing. Other rules about the
same candidate are another look at the test rows: a lenient rule that passes costs nothing, and must not make a strict
rule free. It keeps a sketch of all groups of test rows that have been used so far.
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
_SAME = ("candidate", "champion", "test_rows", "rules")


@dataclass(frozen=True)
class Comparison:
    """What a decision is about."""

    candidate: str
    """The sha256 of the candidate's model."""
    champion: str
    """The sha256 of the champion's model; empty where rules ask about no champion, or there is none."""
    test_rows: str
    """The digest of the ids of the test rows on which both are compared."""
    rules: str
    """The digest of the rules versus the champion, and of what they depend on."""
    groups: tuple[str, ...]
    """The groups of these rows."""
    where: str
    """gate or verification."""

    @classmethod
    def of(
        cls, candidate: str, champion: str, rows: Mapping[str, Iterable[str]], where: str, rules: object = ()
    ) -> "Comparison":
        """A comparison on test rows.

        Args:
            candidate: the sha256 of its model.
            champion: the sha256 of its model, or empty.
            rows: `id` and `cluster` of the rows.
            where: gate or verification.
            rules: the rules versus the champion and what they depend on, as JSON values.
        """
        test_rows, groups = files.digest(sorted(rows["id"])), tuple(sorted(set(rows["cluster"])))
        return cls(candidate, champion, test_rows, files.digest(rules), groups, where)


@dataclass(frozen=True)
class Ledger:
    """What MLflow holds of the uses of test rows."""

    entries: History
    used: np.ndarray
    """The sketch of all groups that were used: the newest that is whole."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The damages that nobody has accepted, each a sentence."""
        return self.entries.problems

    @property
    def is_damaged(self) -> bool:
        """Whether entries are missing or were edited, and nobody has accepted it: then no entry is believed."""
        return bool(self.entries.found)

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


@dataclass(frozen=True)
class Spent:
    """A decision, and where it stands in the ledger."""

    verdict: Verdict
    budget: Budget | None
    """None without a champion."""
    is_new: bool
    """Whether the ledger did not hold it yet."""
    problems: tuple[str, ...]
    """The damages of the ledger when it was decided, each a sentence."""


def read(tracker: Tracker, model: str) -> Ledger:
    """The ledger of a model.

    Args:
        tracker: the registry.
        model: the registered model's name.
    """
    # Every sketch is hashed: one that is damaged is told until somebody accepts it, not only while it is the newest.
    entries = history.read(tracker, model, evidence=True, book=BOOK)
    for entry in reversed(entries.entries):
        if _SKETCH in entry.evidence:
            try:
                return Ledger(entries, group_sketch.from_bytes(history.read_evidence(tracker, entry)[_SKETCH]))
            except (RegistryError, ValueError):
                # An older sketch knows fewer groups, so at most too few rows count as used; `_count` mends that.
                continue
    return Ledger(entries, group_sketch.sketch([]))


def spend(
    tracker: Tracker,
    model: str,
    comparison: Comparison,
    decide: Callable[[float], Verdict],
    *,
    dry_run: bool = False,
) -> Spent:
    """Decide at the level that the ledger leaves, and add the use to it; a use that it holds already is not added.

    Args:
        tracker: the registry.
        model: the registered model's name.
        comparison: what is decided.
        decide: the one-sided level of the rules versus the champion -> the verdict.
        dry_run: whether the use is not added.

    Raises:
        TrackingError: MLflow does not answer, or other processes add entries all the time.
    """
    for _ in range(_TRIES):
        ledger = read(tracker, model)
        if known := _decide_again(ledger, comparison, decide):
            return known
        used = group_sketch.union(ledger.used, group_sketch.sketch(comparison.groups))
        budget = spending.budget(ledger.uses(), _count(ledger, used)) if comparison.champion else None
        verdict = decide(budget.level if budget else spending.level_of(1))
        if dry_run or _append(tracker, model, ledger, comparison, used, budget, verdict):
            return Spent(verdict, budget, is_new=True, problems=ledger.problems)
    raise TrackingError(
        f"{model}{BOOK.suffix}: other processes added entries {_TRIES} times; run the same command again"
    )


def _decide_again(ledger: Ledger, comparison: Comparison, decide: Callable[[float], Verdict]) -> Spent | None:
    """The decision of an entry about the same comparison; None if it is a new one.

    An entry whose decision comes out differently now was about something else, whatever its digests say: to replay a
    pass as a failure would spend nothing, and to replay a failure as a pass would use a level twice.
    """
    before, uses = ledger.doubted, ledger.uses()
    for entry in ledger.believed():
        if all(entry.facts.get(name) == getattr(comparison, name) for name in _SAME):
            budget = None
            if comparison.champion:
                budget = spending.budget(uses[:before], _used_groups(entry))
            verdict = decide(budget.level if budget else spending.level_of(1))
            if budget is None or (entry.facts.get("passed") == "true") == passes_champion(verdict):
                return Spent(verdict, budget, is_new=False, problems=ledger.problems)
        before += entry.action == COMPARED
    return None


def _count(ledger: Ledger, used: np.ndarray) -> int:
    """The different groups that were used; where a sketch was lost, at least as many as an entry says."""
    return max([group_sketch.count(used), *(_used_groups(entry) for entry in ledger.entries.entries)])


def _append(
    tracker: Tracker,
    model: str,
    ledger: Ledger,
    comparison: Comparison,
    used: np.ndarray,
    budget: Budget | None,
    verdict: Verdict,
) -> bool:
    """Whether the use was added: not if another process has added one meanwhile."""
    facts = {name: getattr(comparison, name) for name in (*_SAME, "where")}
    facts |= {"groups": str(len(comparison.groups)), "used_groups": str(_count(ledger, used))}
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
