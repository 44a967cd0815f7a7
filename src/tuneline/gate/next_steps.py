"""What a person can do about a candidate that has not passed the gate, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneline.gate.behaviour_rule import CHECKS
from tuneline.gate.decision import Decision, Verdict
from tuneline.params import Task
from tuneline.params.gate import GENERAL, METRICS, PROBED, is_of_harness
from tuneline.params.slices import split_gap

_BASES = "docs/bases.md"
_RECIPES = "docs/recipes/README.md"
_FEW_ROWS = 1_000
# The share of its earlier value by which a metric of the champion must be worse to be remarked, and on how many rows.
_MUCH_WORSE = 0.1
_COMPARED_ROWS = 100
# The share of the bytes above which the largest rows decide the likelihood, and the share of all rows that is few.
_LARGE_SHARE = 0.25
_FEW = 0.05
_UNIGRAM = (
    "The model predicts text no better than word frequencies do, so it has learned nothing from the order of words. "
    "Look at the training curve in the report first."
)
# Metric -> what it means that the best trivial baseline was not beaten.
_NOT_BETTER_THAN_BASELINE = {
    "bits_per_byte": _UNIGRAM,
    "token_loss": _UNIGRAM,
    "chrf": "Copying the prompt scores as high a chrF as the answers do. Read the answers in the report: they show "
    "whether chrF tells good answers from bad ones on these rows.",
}
# How well a model does, each thing once: token_loss says what bits_per_byte says, and diversity is not quality.
_QUALITY = ("bits_per_byte", "exact_match", "token_f1", "bleu", "chrf", "reward_accuracy", "reward_margin")
_OF_CHECKS: dict[Task, tuple[str, str]] = {
    "sft": ("the chat template or the merged weights may be wrong", "the training data lack such rows"),
    "language-modeling": ("the merged weights may be wrong", "the training data lack such rows"),
    "classification": (
        "the model has learned little: look at the metrics of the labels in the report first",
        "the training data lack such rows or give them another label",
    ),
    "regression": (
        "the model has learned little, or the numbers of the checks are on another scale than those of the training "
        "rows",
        "the training data lack such rows or give them other numbers",
    ),
}
"""Task -> what to suspect if many behaviour checks fail, and if one fails; a task that is not here is like sft."""


@dataclass(frozen=True)
class Situation:
    """What the advice depends on."""

    task: Task
    base_source: str
    """builtin, path or hub."""
    epochs: float
    learning_rate: float
    train_rows: int
    test_rows: int
    training: Mapping[str, Any]
    """The value of training.json."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """The value of evaluation.json."""


def remark_on_champion(metrics: Sequence[str], earlier: Mapping[str, float], now: Mapping[str, float]) -> str:
    """A sentence if the champion is much worse on these test rows than it was on its own; else an empty text.

    New rows with wrong labels or answers lower the score of every model, and rules compare models on the same rows.

    Args:
        metrics: the names of the metrics to look at; the first that is known decides.
        earlier: metric -> its value when the champion was registered.
        now: metric -> its value on the candidate's test rows, and `rows`, their number.
    """
    if now.get("rows", 0) < _COMPARED_ROWS:
        return ""
    for name in metrics:
        if name in earlier and name in now:
            loss = METRICS[name].sign * (earlier[name] - now[name])
            if loss <= _MUCH_WORSE * abs(earlier[name]):
                return ""
            digits = METRICS[name].report_digits
            return (
                f"{METRICS[name].name} of the champion is {now[name]:.{digits}f} on these test rows, and was "
                f"{earlier[name]:.{digits}f} on its own. The rows that came since then differ from the earlier rows, "
                "or their labels or answers are wrong: read some of them before you trust this comparison."
            )
    return ""


def next_steps(verdict: Verdict, situation: Situation) -> list[str]:
    """What to do next, the most promising step first; nothing where the candidate passed.

    Args:
        verdict: of the gate.
        situation: of the training.
    """
    failed = [decision for decision in verdict.rules if decision.verdict == "failed"]
    if failed:
        return list(dict.fromkeys(_after_failure(failed, situation)))
    if verdict.verdict == "undecided":
        return _while_undecided(verdict.rules, situation)
    return []


def _after_failure(failed: Sequence[Decision], at: Situation) -> list[str]:
    of_slices = [one for one in failed if one.slice or split_gap(one.metric)]
    probed = [one for one in failed if one.metric in PROBED or is_of_harness(one.metric)]
    failed = [one for one in failed if one not in of_slices and one not in probed]
    against = {decision.versus for decision in failed}
    steps = _after_probes(probed, at)
    if any(decision.improvement is None for decision in of_slices):
        steps.append("A rule asks for a slice that was not measured, and names the reason: correct it in gate.rules.")
    if any(decision.improvement is not None for decision in of_slices):
        steps.append(
            "The candidate is not good enough on a slice of the test rows. Compare the slices in the report (Slice by "
            "slice), and bring more training rows like those of the worst slice."
        )
    steps += [
        _NOT_BETTER_THAN_BASELINE[decision.metric]
        for decision in failed
        if decision.versus == "baseline" and decision.metric in _NOT_BETTER_THAN_BASELINE
    ]
    if {"baseline", "value", "base"} & against:
        steps += _train_longer(at)
        steps += _other_base(at)
        if at.train_rows < _FEW_ROWS and at.epochs:
            steps.append(
                f"Bring more rows: {at.train_rows:,} were trained on. {_RECIPES} says how many rows a task needs."
            )
        if at.epochs:
            steps.append(f"Compare params.yaml with the recipe for data like yours: {_RECIPES}.")
    if at.epochs and any(decision.versus == "base" and decision.improvement is not None for decision in failed):
        steps.append(
            f"Lower finetune.learning_rate (now {at.learning_rate:g}): fine-tuning has made the model worse than its "
            "base."
        )
    of_champion = [decision for decision in failed if decision.versus == "champion"]
    if any(decision.improvement is None for decision in of_champion):
        steps.append(
            "The candidate cannot be compared with the champion; the rule names the reason. Set the alias champion on "
            "a version that can be scored, or remove the alias, and run again."
        )
    if any(decision.improvement is not None for decision in of_champion):
        steps.append(
            "The champion is better on the same rows, so it stays. Read in the report the rows that the candidate "
            "answers worse, and look at what has changed in data and params (git diff, dvc params diff)."
        )
    if CHECKS in against:
        suspect, lack = _OF_CHECKS.get(at.task, _OF_CHECKS["sft"])
        steps.append(
            "Read in the report what the model answered to the failed behaviour checks. If many fail at once, "
            f"{suspect}; if one fails, {lack}, or the check asks too much. Run `tuneline check` after you have changed "
            "data/checks.yaml."
        )
    return steps


def _after_probes(failed: Sequence[Decision], at: Situation) -> list[str]:
    """What to do about what the model has forgotten or memorised; other advice would make it worse."""
    measured = [one.metric for one in failed if one.improvement is not None]
    forgotten = [one for one in measured if one == GENERAL or is_of_harness(one)]
    rate, epochs = f"{at.learning_rate:g}", f"{at.epochs:g}"
    steps = []
    if len(measured) < len(failed):
        steps.append(
            "A rule asks for what was not measured beside the test rows, and names the reason: remove the reason."
        )
    if not at.epochs and measured:
        steps.append(
            "The merged model has forgotten or memorised more than a rule allows: merge other versions, or give them "
            "other weights."
        )
        return steps
    if forgotten:
        steps.append(
            f"The model has forgotten what its base knew. Lower finetune.learning_rate (now {rate}) or "
            f"finetune.num_train_epochs (now {epochs}), train with finetune.lora, or train general text too: "
            "`tuneline use PATH --mix 0.1`."
        )
    if len(forgotten) < len(measured):
        steps.append(
            f"The model knows training rows by heart. Lower finetune.learning_rate (now {rate}) or "
            f"finetune.num_train_epochs (now {epochs}), or bring more rows. Read in the report what it has copied "
            "(Forgetting and memorisation)."
        )
    return steps


def _train_longer(at: Situation) -> list[str]:
    best, steps = at.training.get("best_step"), at.training.get("steps")
    if not at.epochs:
        return [
            "Merge other versions or with other weights, or train the merged model: raise finetune.num_train_epochs."
        ]
    step = f"Train longer: raise finetune.num_train_epochs (now {at.epochs:g})"
    if at.training.get("stopped_early"):
        return []
    if best is None:
        return [f"{step}."]
    return [f"{step}; the validation loss was still falling at the end."] if steps and best >= 0.9 * steps else []


def _other_base(at: Situation) -> list[str]:
    if at.base_source == "merge":
        return []
    if at.base_source == "builtin":
        return [
            f"Start from a pretrained base: {_BASES} lists models by task and language, with the two lines of YAML for "
            "base.source: hub. Then run `tuneline use` again: it sets a learning rate for this base."
        ]
    return [f"Try another base: {_BASES} lists models by task and language."]


def _compared_with_base(at: Situation) -> str:
    """In which metrics fine-tuning has made the model better than its base."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for name, one in at.evaluation.get("versus_base", {}).items():
        if name in _QUALITY:
            ends = [METRICS[name].sign * bound for bound in (one["low"], one["high"]) if bound is not None]
            kind = "better" if ends and min(ends) > 0 else "worse" if ends and max(ends) < 0 else "open"
            found[kind].append(name)
    better, worse, still_open = (
        ", ".join(METRICS[name].name for name in _QUALITY if name in names) for names in found.values()
    )
    if not better:
        which = ", which was pretrained on the same text" if at.base_source == "builtin" else ""
        return f"The numbers do not show that fine-tuning has made the model better than its base{which}."
    sentence = f"Fine-tuning has made the model better than its base in {better}: these intervals are above zero."
    if still_open:
        sentence += f" The numbers do not show it for {still_open}."
    return f"{sentence} It is worse in {worse}." if worse else sentence


def _while_undecided(rules: Sequence[Decision], at: Situation) -> list[str]:
    steps: list[str] = []
    undecided = [rule for rule in rules if rule.verdict == "undecided"]
    if any(rule.versus == "base" and rule.margin >= 0 for rule in undecided):
        steps.append(_compared_with_base(at))
        steps += [*_train_longer(at), *_other_base(at)]
    share, largest = (at.evaluation.get(name, 0) for name in ("largest_share_of_bytes", "largest_rows"))
    is_decided_by_few = share > _LARGE_SHARE and largest <= _FEW * at.test_rows
    if is_decided_by_few and any(rule.metric in ("bits_per_byte", "token_loss") for rule in undecided):
        keys = "finetune.max_length" + (" and base.builtin.max_length" if at.base_source == "builtin" else "")
        steps.append(
            f"Few long rows decide the likelihood: the largest {largest:,} of {at.test_rows:,} test rows hold "
            f"{share:.0%} of the bytes. Leave long rows out of the data, or raise {keys}, if the model does not see "
            "them whole."
        )
    worse = [rule for rule in undecided if rule.is_worse]
    if worse:
        than = " and ".join(dict.fromkeys(f"the {rule.versus}" for rule in worse))
        steps.append(
            f"The candidate is worse than {than}. Read in the report the rows that it answers worse, and look at what "
            "has changed in data and params (git diff, dvc params diff)."
        )
    if not undecided or any(rule.high is None or rule.high > rule.required for rule in undecided):
        steps.append(
            f"{at.test_rows:,} test rows are too few to decide. Bring more rows: data.split.test is the share of them "
            "that is tested. The undecided rules show how wide their intervals are."
        )
    if any(rule.margin < 0 and not rule.is_worse for rule in undecided):
        steps.append("Or tolerate a larger loss: lower the margin of the undecided rule in gate.rules.")
    return steps
