"""What each rule asks for, how small an improvement it finds, and how many more test rows would decide it.

All numbers come from the interval of the rule. Half its width is 1.96 standard errors of the improvement, and a
standard error moves with 1 / sqrt(test rows). An improvement passes with a probability of 80 % if it lies (z + 0.84)
standard errors above the margin, where z is 1.96, or the quantile of the level that the ledger leaves. This assumes
that new rows are like the present rows, in groups of the same size, and for an undecided rule also that the improvement
that was measured is the true one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tuneline.gate import spending
from tuneline.gate.decision import Decision
from tuneline.gate.spending import POWER, level_of
from tuneline.params import Rule
from tuneline.params.gate import metric

_FIRST = level_of(1)
_TOO_MANY = 1000
_POWER = f"{100 * POWER:.0f} %"


class Counts(NamedTuple):
    """The test rows of a comparison."""

    rows: int
    groups: int


def explain(rules: Sequence[Rule], decisions: Sequence[Decision], counts: Mapping[str, Counts]) -> list[str]:
    """A sentence for each rule, with what would decide it if it is undecided.

    Args:
        rules: of the gate.
        decisions: about them, in the same order.
        counts: `base`, `baseline`, `value` and `champion` -> the test rows of the comparison.
    """
    pairs = zip(rules, decisions, strict=True)
    return [" ".join(_sentences(rule, one, counts.get(rule.versus))) for rule, one in pairs]


def standard_error(low: float, high: float) -> float:
    """The standard error of a difference with this 95 % interval."""
    return (high - low) / 2 / spending.ordinary_quantile()


def minimum_effect(margin: float, low: float, high: float, level: float) -> float:
    """The smallest true improvement that passes with the probability `POWER`.

    Args:
        margin: of the rule.
        low: of the 95 % interval of a measured improvement on the same test rows.
        high: of this interval.
        level: one-sided, at which the rule passes.
    """
    return margin + spending.quantiles(level) * standard_error(low, high)


def times_as_many_rows(rule: Rule, decision: Decision) -> float | None:
    """How many times as many test rows decide an undecided rule with the probability `POWER`; None if no number does.

    Args:
        rule: the rule.
        decision: about it, with an interval.
    """
    assert decision.improvement is not None and decision.low is not None and decision.high is not None
    floor = decision.required if rule.fails_below is None else rule.fails_below
    error = standard_error(decision.low, decision.high)
    required = decision.required
    if decision.improvement > required:
        needed = spending.quantiles(decision.level or _FIRST) * error / (decision.improvement - required)
    elif decision.improvement < floor:
        needed = spending.quantiles(decision.fail_level or _FIRST) * error / (floor - decision.improvement)
    else:
        return None
    # The two sides of a bootstrap interval differ, so a rule may be undecided although its standard error decides it.
    times = max(needed**2, 1.0)
    return times if times <= _TOO_MANY else None


def _sentences(rule: Rule, decision: Decision, counts: Counts | None) -> list[str]:
    found = [_asked(rule, decision)]
    if decision.low is None or decision.high is None:
        return found
    digits = metric(rule.metric).digits
    if decision.low < decision.high:
        effect = minimum_effect(decision.required, decision.low, decision.high, decision.level or _FIRST)
        where = "With the test rows of this slice"
        if rule.slice is None and counts is not None:
            where = f"With {counts.rows:,} test rows in {counts.groups:,} groups"
        what = f"an improvement of {effect:.{digits}f} or more"
        if effect <= 0:
            what = f"a candidate that is worse by no more than {-effect:.{digits}f}"
        found.append(f"{where}, {what} passes with a probability of {_POWER}.")
    if decision.verdict == "undecided":
        found.append(_open(rule, decision, counts))
    return found


def _asked(rule: Rule, decision: Decision) -> str:
    measure = metric(rule.metric)
    other = f"the required {rule.value:g}" if rule.versus == "value" else f"the {rule.versus}"
    confidence = spending.confidence(decision.level or _FIRST)
    if rule.margin > 0:
        wanted = f"better than {other} by more than {rule.margin:g}"
    elif rule.margin == 0:
        wanted = f"better than {other}, by whatever amount"
    else:
        wanted = f"not worse than {other} by {-rule.margin:g} or more"
    if rule.beyond_twins:
        wanted += ", and beyond the noise floor of the twins"
        wanted += f" ({decision.required:.{measure.digits}f} in all)" if decision.noise_floor else ""
    on = "" if rule.slice is None else f" on {rule.slice}"
    fails = ""
    if rule.fails_below is not None:
        fails = f", fails if it is wholly at or below {rule.fails_below:g}, and is undecided between"
    return (
        f"{measure.name}{on}: passes if the whole {confidence} interval of the improvement says that the candidate is "
        f"{wanted}{fails}."
    )


def _open(rule: Rule, decision: Decision, counts: Counts | None) -> str:
    times = times_as_many_rows(rule, decision)
    if times is None:
        return (
            "No number of test rows that can be expected decides it: the measured improvement lies at the "
            "margin, or between fails_below and the margin."
        )
    assert decision.improvement is not None
    verdict = "pass" if decision.improvement > decision.required else "fail"
    more = ""
    if rule.slice is None and counts is not None:
        more = f", about {_rounded((times - 1) * counts.rows):,} more,"
    return (
        f"If the measured improvement ({decision.improvement:+.{metric(rule.metric).digits}f}) is the true one, "
        f"{times:.1f} times as many test rows{more} would let it {verdict} with a probability of {_POWER}."
    )


def _rounded(rows: float) -> int:
    """A number of rows to two digits, above zero."""
    return max(1, int(float(f"{rows:.1e}")))
