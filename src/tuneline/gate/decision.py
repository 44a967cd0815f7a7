"""The gate: it decides the rules of params.yaml on the bounds of intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.intervals import FEWEST_GROUPS, Interval, Measures
from tuneline.gate import noise_floor, slice_rules, spending
from tuneline.gate.noise_floor import NoiseFloor
from tuneline.params import Rule
from tuneline.params.gate import PROBED, is_of_harness, metric

RuleVerdict = Literal["passed", "failed", "undecided", "not applicable"]
NO_TWINS = NoiseFloor(0, {})


@dataclass(frozen=True)
class Decision:
    """One rule and its verdict."""

    metric: str
    direction: str
    versus: str
    margin: float
    improvement: float | None
    """In the direction of the rule: above zero is better, for every metric."""
    low: float | None
    high: float | None
    verdict: RuleVerdict
    reason: str
    value: float | None = None
    """With `versus: value`, the number that the metric must reach."""
    slice: str | None = None
    """The slice that the rule is about, as it names it; None: all test rows."""
    level: float | None = None
    """The one-sided level at which a comparison with the champion is decided; None: that of a 95 % interval."""
    bound: float | None = None
    """The lower bound of the improvement at this level."""
    fail_level: float | None = None
    """The one-sided level at which a slice fails among others; None: that of a 95 % interval."""
    noise_floor: float = 0.0
    """What `beyond_twins` adds to the margin."""

    @property
    def required(self) -> float:
        """The improvement that the interval must exceed."""
        return self.margin + self.noise_floor

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is surely worse than the other model on all rows, by whatever amount."""
        return self.slice is None and self.versus != "value" and self.high is not None and self.high < 0


@dataclass(frozen=True)
class Verdict:
    """Failed if a rule failed, else undecided if a rule is undecided or no rule applied, else passed."""

    verdict: Literal["passed", "failed", "undecided"]
    rules: tuple[Decision, ...]

    def as_dict(self) -> dict[str, Any]:
        """The values for gate.json."""
        return {"verdict": self.verdict, "rules": [asdict(decision) for decision in self.rules]}


def decide(
    rules: Sequence[Rule],
    measures: Mapping[str, Measures | None],
    absent: Mapping[str, str] | None = None,
    slices: slice_rules.Columns | None = None,
    *,
    level: float = spending.level_of(1),
    noise: NoiseFloor = NO_TWINS,
) -> Verdict:
    """Decide every rule.

    Args:
        rules: what the candidate must reach.
        measures: `base`, `champion` and `baseline` -> how the candidate differs, None where that model does not exist;
            `value` -> the candidate's own metrics.
        absent: `champion` -> why it does not exist; by default that there is none yet.
        slices: `base`, `champion`, `baseline` and `value` -> how the candidate differs on each slice.
        level: the one-sided level at which a rule versus the champion passes; all others pass at that of a 95 %
            interval, and every rule fails at that.
        noise: how much the candidate differs from its twins.

    Returns:
        The verdict, with a reason for each rule.
    """

    def decide_one(rule: Rule, measures: Measures | None, where: str = "") -> Decision:
        return _decide(rule, measures, (absent or {}).get(rule.versus, ""), where, level, noise)

    about_slices = [rule for rule in rules if rule.slice is not None]
    of_slices = iter(slice_rules.decide_slices(about_slices, slices or {}, measures, decide_one))
    decisions = tuple(
        decide_one(rule, measures.get(rule.versus)) if rule.slice is None else next(of_slices) for rule in rules
    )
    verdicts = {decision.verdict for decision in decisions}
    if "failed" in verdicts:
        return Verdict("failed", decisions)
    # A gate of which no rule applied has shown nothing, so it has not passed.
    return Verdict("undecided" if "undecided" in verdicts or "passed" not in verdicts else "passed", decisions)


def _decide(
    rule: Rule, measures: Measures | None, absent: str, where: str, level: float, noise: NoiseFloor
) -> Decision:
    is_spent = rule.versus == "champion" and spending.widening(level) > 1
    bound: float | None = None

    def decision(verdict: RuleVerdict, reason: str, *numbers: float | None) -> Decision:
        improvement, low, high = numbers or (None, None, None)
        # Only after a sentence that says how large the gain is.
        gain = (
            "" if improvement is None or low is None else noise_floor.in_words(rule, improvement, noise, measure.digits)
        )
        return Decision(
            metric=rule.metric,
            direction=rule.direction,
            versus=rule.versus,
            margin=rule.margin,
            improvement=improvement,
            low=low,
            high=high,
            verdict=verdict,
            reason=f"{measure.name}{where} {reason}{gain}",
            value=rule.value,
            slice=rule.slice,
            level=level if is_spent else None,
            bound=bound,
            noise_floor=floor_of_twins or 0.0,
        )

    measure = metric(rule.metric)
    floor_of_twins = noise_floor.required_floor(rule, noise)
    if measures is None and rule.versus == "champion":
        return decision("not applicable", f"is not compared: {absent or f'no {rule.versus} exists yet'}.")
    measured = (measures or {}).get(rule.metric, "it was not measured")
    if isinstance(measured, str):
        return decision("failed", f"could not be compared with {_other(rule)}: {measured}.")
    if not all(math.isfinite(one) for one in (measured.difference, measured.low, measured.high) if one is not None):
        return decision("failed", f"could not be compared with {_other(rule)}: the difference is not a finite number.")
    if floor_of_twins is None:
        return decision("failed", "has no noise floor, because a twin was not measured or has no such number.")
    margin = rule.margin + floor_of_twins
    asked = _bound(rule.margin)
    if rule.beyond_twins:
        size = f"{margin:.{measure.digits}f}"
        asked = (
            f"the noise floor of the twins with {asked} ({size} in all)"
            if rule.margin
            else f"the noise floor of the twins ({size})"
        )
    sign = 1.0 if rule.direction == "higher" else -1.0
    wanted = rule.value or 0.0
    improvement = sign * (measured.difference - wanted)
    if measured.low is None or measured.high is None:
        reason = (
            f"cannot be decided: {measured.groups} independent groups "
            f"of test rows are too few for an interval, which needs {FEWEST_GROUPS}."
        )
        if rule.metric in PROBED or is_of_harness(rule.metric):
            reason = (
                f"cannot be decided: it was measured on {measured.groups} independent groups of rows, too few for an "
                f"interval, which needs {FEWEST_GROUPS}."
            )
        return decision("undecided", reason, improvement, None, None)
    low, high = sorted((sign * (measured.low - wanted), sign * (measured.high - wanted)))
    digits = measure.digits
    bounds = "exactly 0" if low == high == 0 else f"{_signed(low, digits)} to {_signed(high, digits)}"
    what = f"is {_compared(improvement, rule, measured, digits)} (95 % interval of the improvement {bounds})"
    if is_spent:
        wide = spending.at_level(measured, level)
        bound = min(sign * (one - wanted) for one in (wide.low, wide.high) if one is not None)
    if (low if bound is None else bound) > margin:
        also = f", also at the {spending.confidence(level)} of this comparison" if is_spent else ""
        return decision("passed", f"{what}; the interval is above {asked}{also}.", improvement, low, high)
    floor = margin if rule.fails_below is None else rule.fails_below
    if high <= floor:
        return decision(
            "failed",
            f"{what}; the interval is not above {asked if rule.fails_below is None else _bound(floor)}.",
            improvement,
            low,
            high,
        )
    if high <= margin:
        between = f"the interval is not above {asked}, but reaches above {_bound(floor)}"
        return decision("undecided", f"{what}; {between}.", improvement, low, high)
    open_question = f"the interval is on both sides of {asked}: more test rows are needed to decide"
    if high < 0 and rule.versus != "value" and margin < 0:
        open_question = (
            f"the candidate is worse, because the interval is below zero; whether by more than {asked} is not decided"
        )
    if low > margin and bound is not None:
        open_question = (
            f"at the {spending.confidence(level)} of this comparison the interval begins at {_signed(bound, digits)}, "
            f"which is not above {asked}: more test rows are needed to decide"
        )
    return decision("undecided", f"{what}; {open_question}.", improvement, low, high)


def _compared(improvement: float, rule: Rule, measured: Interval, digits: int) -> str:
    size = f"{abs(improvement):.{digits}f}"
    whose = _other(rule) + ("" if rule.versus == "value" else "'s")
    if measured.other:
        whose = f"that of the best baseline ({MODELS[measured.other][0]})"
    if float(size) == 0:
        return f"the same as {whose}"
    return f"{'better' if improvement > 0 else 'worse'} than {whose} by {size}"


def _other(rule: Rule) -> str:
    return f"the required {rule.value:g}" if rule.versus == "value" else f"the {rule.versus}"


def _signed(value: float, digits: int) -> str:
    """The bound of an interval; a small one has as many digits as show its sign."""
    if value == 0:
        return "0"
    if round(value, digits) == 0:
        digits = math.ceil(-math.log10(abs(value)))
    return f"{value:+.{digits}f}".replace("-", "−")


def _bound(margin: float) -> str:
    if margin == 0:
        return "zero"
    return f"the required gain of {margin:g}" if margin > 0 else f"the tolerated loss (−{-margin:g})"
