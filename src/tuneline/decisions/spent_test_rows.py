"""Decides with the level that the ledger of the model leaves, and writes the use of the test rows into the ledger."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.decisions.champion_scores import ChampionResult
from tuneline.gate import budget_words
from tuneline.gate.decision import Verdict
from tuneline.gate.spending import ALPHA, level_of
from tuneline.params.slices import split_gap
from tuneline.registry import ledger
from tuneline.registry.ledger import Comparison
from tuneline.registry.tracking import Tracker

_UNNAMED = "unknown"
"""Stands for a champion whose tags do not name its model any more: a comparison with it is a use of the rows too."""

_SCORES = {"seed", "generation_rows", "max_new_tokens", "samples_per_prompt", "temperature", "top_p"} | {
    "bootstrap_resamples"
}
"""The keys of `evaluate` that change the scores of the test rows or their intervals."""


@dataclass(frozen=True)
class Decided:
    """A verdict, and what the ledger says about it."""

    verdict: Verdict
    remarks: tuple[str, ...] = ()
    """For a person, in sentences."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For gate.json; empty where nothing was compared with a champion."""
    warnings: tuple[str, ...] = ()
    """Of the remarks, those that a verification says too: damages of the ledger, and what a dry run would cost."""


def decide(
    tracker: Tracker,
    p: params.Params,
    candidate: str,
    champion: ChampionResult,
    rows: pa.Table,
    decide_at: Callable[[float], Verdict],
    *,
    where: str,
    dry_run: bool = False,
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
        dry_run: whether the ledger is not written.
    """
    if champion.is_candidate:
        return Decided(decide_at(level_of(1)))
    asks = champion.compared is not None and any(rule.versus == "champion" for rule in p.rules)
    on = champion.compared if asks and champion.compared is not None else rows
    columns = {name: on[name].to_pylist() for name in ("id", "cluster")}
    against = (champion.model_sha256 or _UNNAMED) if asks else ""
    compared = Comparison.of(candidate, against, columns, where, _rules(p))
    spent = ledger.spend(tracker, p.registry.model, compared, decide_at, dry_run=dry_run)
    verdict, budget = spent.verdict, spent.budget
    damages = [
        f"The ledger is damaged, so every earlier comparison counts as not passed: {problem.rstrip('.')}."
        for problem in spent.problems
    ]
    if budget is None:
        return Decided(verdict, tuple(damages), warnings=tuple(damages))
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
    foreseen = []
    if dry_run and spent.is_new:
        cost = (
            "nothing, because it passes" if ledger.passes_champion(verdict) else "its level, because it does not pass"
        )
        foreseen = [f"This was only a report: the ledger is as before; the comparison itself would cost {cost}."]
    remarks = (*damages, *budget_words.sentences(budget, groups), *foreseen)
    return Decided(verdict, remarks, facts, (*damages, *foreseen))


def _rules(p: params.Params) -> dict[str, Any]:
    """What decides a comparison with the champion, besides the models and the rows.

    Rules versus base, baseline and a value spend nothing, so a change of them is no new comparison. Slices and twins
    count where a rule asks for them. The scores count by the params that change them.
    """
    asked = [rule for rule in p.rules if rule.versus == "champion"]
    dumps = sorted((rule.model_dump(exclude={"task"}, mode="json") for rule in asked), key=files.digest)
    return {
        "rules": dumps,
        "slices": sorted(p.evaluate.slices) if any(rule.slice or split_gap(rule.metric) for rule in asked) else [],
        "twins": sorted(p.gate.twins) if any(rule.beyond_twins for rule in asked) else [],
        "evaluate": p.evaluate.model_dump(include=_SCORES, mode="json"),
    }
