"""What a person can do about a candidate that the gate did not let pass, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneline.gate.decision import Decision, Verdict

_BASES = "docs/bases.md"
_RECIPES = "docs/recipes/README.md"
_FEW_ROWS = 1_000
_LANGUAGE = ("sft", "language-modeling")


@dataclass(frozen=True)
class Situation:
    """What the advice depends on."""

    task: str
    base_source: str
    """builtin, path or hub."""
    epochs: float
    learning_rate: float
    train_rows: int
    test_rows: int
    training: Mapping[str, Any]
    """The value of training.json."""


def next_steps(verdict: Verdict, situation: Situation) -> list[str]:
    """What to do next, the most promising first.

    Args:
        verdict: of the gate.
        situation: of the training.

    Returns:
        Sentences; none where the candidate passed.
    """
    failed = [decision for decision in verdict.rules if decision.verdict == "failed"]
    if failed:
        return list(dict.fromkeys(_after_failure(failed, situation)))
    if verdict.verdict == "undecided":
        return _while_undecided(verdict.rules, situation)
    return []


def _after_failure(failed: Sequence[Decision], at: Situation) -> list[str]:
    against = {decision.versus for decision in failed}
    steps: list[str] = []
    if "baseline" in against and at.task in _LANGUAGE:
        steps.append(
            "It does not beat word frequencies, so it has learnt nothing from the order of words: look at the training "
            "curve in the report first."
        )
    if {"baseline", "value", "base"} & against:
        steps += _on_training(at)
        steps += _on_base(at)
        if at.train_rows < _FEW_ROWS:
            steps.append(f"Bring more rows: {at.train_rows:,} were trained on; {_RECIPES} says how many a task needs.")
        steps.append(f"Compare params.yaml with the recipe for rows of this kind: {_RECIPES}.")
    if "base" in against:
        steps.append(
            f"Lower finetune.learning_rate (now {at.learning_rate:g}): fine-tuning has made the model worse than its "
            "base."
        )
    of_champion = [decision for decision in failed if decision.versus == "champion"]
    if any(decision.improvement is None for decision in of_champion):
        steps.append(
            "The candidate cannot be held against the champion, for the reason above. Give the alias champion to a "
            "version that can be measured, or take it away, and run again."
        )
    if any(decision.improvement is not None for decision in of_champion):
        steps.append(
            "The version in use is better on the same rows, so it stays. Look at the rows that the candidate answers "
            "worse in the report, and at what has changed in data and params since (git diff, dvc params diff)."
        )
    return steps


def _on_training(at: Situation) -> list[str]:
    best, steps = at.training.get("best_step"), at.training.get("steps")
    if at.training.get("stopped_early"):
        return []
    if best is None or (steps and best >= 0.9 * steps):
        # The last evaluation was the best one, or nobody has looked.
        return [f"Train longer: raise finetune.num_train_epochs (now {at.epochs:g}); the training was not over."]
    return []


def _on_base(at: Situation) -> list[str]:
    if at.base_source == "builtin":
        return [
            f"Start from a real base: {_BASES} lists models by task and language, each with the two lines of YAML for "
            "base.source: hub; then run `tuneline use` again, which sets the learning rate that suits it."
        ]
    return [f"Try another base: {_BASES} lists models by task and language."]


def _while_undecided(rules: Sequence[Decision], at: Situation) -> list[str]:
    steps: list[str] = []
    undecided = [rule for rule in rules if rule.verdict == "undecided"]
    if any(rule.versus == "base" and rule.margin >= 0 for rule in undecided):
        which = ", which has read the same text" if at.base_source == "builtin" else ""
        steps.append(f"Nothing shows that fine-tuning has made the model better than its base{which}.")
        steps += [*_on_training(at), *_on_base(at)]
    if not undecided or any(rule.high is None or rule.high > rule.margin for rule in undecided):
        steps.append(
            f"{at.test_rows:,} test rows are too few to decide: bring more rows, of which data.split.test are tested; "
            "the rules that stay undecided name how wide their intervals are."
        )
    if any(rule.margin < 0 for rule in undecided):
        steps.append("Or tolerate a larger loss: lower the margin of that rule in gate.rules, if you can live with it.")
    return steps
