"""Decides with the level that the ledger of the model leaves, and writes the use of the test rows into the ledger."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.decisions.champion_scores import ChampionResult
from tuneline.gate import budget_words
from tuneline.gate.decision import Verdict
from tuneline.gate.spending import ALPHA, level_of
from tuneline.registry import history, ledger
from tuneline.registry.ledger import Comparison
from tuneline.registry.tracking import Tracker

_UNNAMED = "unknown"
"""Stands for a champion whose tags do not name its model any more: a comparison with it is a use of the rows too."""


@dataclass(frozen=True)
class Decided:
    """A verdict, and what the ledger says about it."""

    verdict: Verdict
    remarks: tuple[str, ...] = ()
    """For a person, in sentences."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For gate.json; empty where nothing was compared with a champion."""


def decide(
    tracker: Tracker,
    p: params.Params,
    candidate: str,
    champion: ChampionResult,
    rows: pa.Table,
    decide_at: Callable[[float], Verdict],
    *,
    where: str,
) -> Decided:
    """Decide a candidate on test rows.

    Only rules versus the champion spend. A promotion needs all rules, so it is false at most as often as the strictest
    rule passes by chance: where a champion is, that is the rule versus the champion, and without one there is nothing
    to lose. The champion compared with itself decides nothing.

    Args:
        tracker: the registry.
        p: the params.
        candidate: the sha256 of its model.
        champion: what it was compared with.
        rows: the test rows.
        decide_at: the one-sided level of the rules versus the champion -> the verdict.
        where: gate or verification.
    """
    if champion.is_candidate:
        return Decided(decide_at(level_of(1)))
    asks = champion.compared is not None and any(rule.versus == "champion" for rule in p.rules)
    on = champion.compared if asks and champion.compared is not None else rows
    columns = {name: on[name].to_pylist() for name in ("id", "cluster")}
    compared = Comparison.of(candidate, (champion.model_sha256 or _UNNAMED) if asks else "", columns, where)
    verdict, budget = ledger.spend(tracker, p.registry.model, compared, decide_at)
    if budget is None:
        return Decided(verdict)
    groups = len(compared.groups)
    facts = {
        "comparison": budget.number,
        "level": budget.level,
        "alpha": ALPHA,
        "left": budget.left,
        "groups": groups,
        "needed_groups": budget_words.needed_groups(budget),
        "groups_to_next_part": budget.groups_to_next_part,
    }
    return Decided(verdict, (*_damages(tracker, p), *budget_words.sentences(budget, groups)), facts)


def _damages(tracker: Tracker, p: params.Params) -> list[str]:
    found = history.read(tracker, p.registry.model, book=ledger.BOOK).problems
    return [f"The ledger is damaged, so every earlier comparison counts as not passed: {problem}." for problem in found]
