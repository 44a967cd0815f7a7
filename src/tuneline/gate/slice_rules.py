"""Rules about slices: which slices a rule asks about, and the verdict over several of them."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from tuneline.data.secrets import screening
from tuneline.evaluation.intervals import FEWEST_GROUPS, LEVEL, Interval, Measures
from tuneline.evaluation.slices import MOST_SLICES, Slice, SlicedColumn
from tuneline.params import Rule
from tuneline.params.slices import split_slice

if TYPE_CHECKING:
    from tuneline.gate.decision import Decision

ALPHA = (1 - LEVEL) / 2
"""The chance that the interval of an improvement lies wholly below the true improvement."""
_LONGEST_VALUE = 80
_NAMED = 5
_NO_SLICES = "the test rows were not cut into these slices; run `make run`, which evaluates again"
_WORST_FIRST = ("failed", "undecided", "passed", "not applicable")
_STANDARD = NormalDist()

DecideOne = Callable[[Rule, Measures | None, str], "Decision"]
"""Decides a rule on the measures of one slice; the text names the slice."""
Columns = Mapping[str, Mapping[str, SlicedColumn]]
"""`base`, `baseline`, `value` and `champion` -> column -> its slices."""


def decide_slices(
    rules: Sequence[Rule], columns: Columns, measures: Mapping[str, Measures | None], decide_one: DecideOne
) -> list["Decision"]:
    """Decide all rules about slices together.

    Each slice of a rule is decided by its own interval, as a rule about all rows is. A rule passes only if every slice
    passes. This needs no correction: the rule is wrong about a slice that is not good enough with at most the
    probability with which this one slice passes by chance (Berger 1982, https://doi.org/10.2307/1267823).

    It is different for a failure. Of 20 slices that are good enough, one in 20 x 2.5 % cases looks too bad by chance
    alone, so a rule fails because of a slice only after Holm's correction over all slices of all rules (Holm 1979,
    https://www.jstor.org/stable/4615733). With m slices, the slice whose interval is furthest below the rule's bound
    must be below it at the level 2.5 % / m, the next at 2.5 % / (m - 1), and so on; the first that is not ends it. A
    slice that would fail alone and does not fail so is undecided. Then the probability that any of the slices that are
    good enough is called a failure is at most 2.5 %, however many there are.

    The p-value of a slice comes from inverting its bootstrap interval: it is the level at which the upper bound of the
    interval reaches the rule's bound, where the tail beyond 95 % is that of the normal distribution with the same
    95 % interval, because a few thousand draws do not reach levels such as 2.5 % / 40. For a single slice this is
    the ordinary rule.

    Args:
        rules: rules with a slice.
        columns: the slices.
        measures: how the candidate differs on all rows; of a model that could not be compared, the reason.
        decide_one: decides a rule on the measures of one slice.

    Returns:
        One decision per rule.
    """
    parts = [_decide_parts(rule, columns, measures, decide_one) for rule in rules]
    tested = [(at, place) for at, found in enumerate(parts) for place, one in enumerate(found) if one.low is not None]
    p_values = [_p_value(parts[at][place], rules[at]) for at, place in tested]
    rejected = {tested[index] for index in holm(p_values)}
    for at, place in tested:
        one = parts[at][place]
        if one.verdict == "failed" and (at, place) not in rejected:
            chance = f" Among {len(tested)} slices this may be chance: after Holm's correction it is not decided."
            level = ALPHA / len(tested)
            parts[at][place] = replace(one, verdict="undecided", reason=one.reason + chance, fail_level=level)
    return [_combined(rule, found, len(tested)) for rule, found in zip(rules, parts, strict=True)]


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[int]:
    """The indices of the hypotheses that Holm's step-down procedure rejects.

    Args:
        p_values: of the hypotheses.
        alpha: the probability that any true hypothesis is rejected is at most this.
    """
    rejected: list[int] = []
    for done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        # A bound that equals the rule's has this p-value but for rounding.
        if p_values[index] > alpha / (len(p_values) - done) * (1 + 1e-9):
            break
        rejected.append(index)
    return rejected


def _p_value(one: "Decision", rule: Rule) -> float:
    """How likely an interval so far below the rule's bound is for a slice that is just good enough."""
    assert one.low is not None and one.high is not None
    bound = rule.margin if rule.fails_below is None else rule.fails_below
    middle, error = (one.low + one.high) / 2, (one.high - one.low) / 2 / -_STANDARD.inv_cdf(ALPHA)
    if error == 0:
        return 0.0 if middle <= bound else 1.0
    return _STANDARD.cdf((middle - bound) / error)


def _decide_parts(
    rule: Rule, columns: Columns, measures: Mapping[str, Measures | None], decide_one: DecideOne
) -> list["Decision"]:
    """The decisions about the slices that a rule asks about; about a slice that is not there, the reason."""
    assert rule.slice is not None
    known = columns.get(rule.versus)
    if known is None:
        whole = measures.get(rule.versus)
        why = None if whole is None else whole.get(rule.metric)
        of_model = None if whole is None else {rule.metric: why if isinstance(why, str) else _NO_SLICES}
        return [decide_one(rule, of_model, _on(rule.slice))]
    named = split_slice(rule.slice, known)
    if named is None:
        return [decide_one(rule, {rule.metric: _NO_SLICES}, _on(rule.slice))]
    column, value = named
    sliced = known[column]
    if value is not None:
        return [_decide_named(rule, column, value, sliced, decide_one)]
    asked = [one for one in sliced.slices if one.value is not None or _has_interval(one, rule)]
    if not asked:
        few = f"none of the {sliced.values:,} values of {column} has enough test rows for an interval"
        return [decide_one(rule, {rule.metric: few}, _on(column))]
    names = [_name(column, one.value, sliced) for one in asked]
    return [
        replace(decide_one(rule, one.versus.get(rule.versus, {}), _on(name)), slice=name)
        for one, name in zip(asked, names, strict=True)
    ]


def _decide_named(rule: Rule, column: str, value: str, sliced: SlicedColumn, decide_one: DecideOne) -> "Decision":
    """The decision about the slice that a rule names."""
    name = _name(column, value, sliced)
    for one in sliced.slices:
        if one.value == value:
            return decide_one(rule, one.versus.get(rule.versus, {}), _on(name))
    rows, groups = sliced.few.get(value, (0, 0))
    if 0 < groups < FEWEST_GROUPS:
        decision = decide_one(rule, {rule.metric: Interval(0.0, None, None, groups)}, _on(name))
        return replace(decision, improvement=None)
    if rows:
        why = f"it has {rows:,} test rows, and only the {MOST_SLICES} values with most rows are measured apart"
    else:
        why = f"no test row has this value; {_known(value, sliced)}"
    return decide_one(rule, {rule.metric: why}, _on(name))


def _known(value: str, sliced: SlicedColumn) -> str:
    """The closest value that test rows have; if none is close, the values with most rows."""
    values = [_cut(known) for known in [*(one.value for one in sliced.slices if one.value), *sliced.few] if known]
    if close := difflib.get_close_matches(value, values, n=1):
        return f"the closest is {close[0]}"
    more = f" and {len(values) - _NAMED:,} more" if len(values) > _NAMED else ""
    return f"the values are {', '.join(values[:_NAMED])}{more}"


def _has_interval(one: Slice, rule: Rule) -> bool:
    measured = one.versus.get(rule.versus, {}).get(rule.metric)
    return isinstance(measured, Interval) and measured.low is not None


def _on(name: str) -> str:
    return f" on {name}"


def _cut(value: str) -> str:
    """A value for people to read: the gate's reasons go to MLflow, where secrets of a column must not stand."""
    value = screening.hidden(value)
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"


def _name(column: str, value: str | None, sliced: SlicedColumn) -> str:
    """How a slice is called: `language=zh`; the rest is called by the number of its values."""
    if value is None:
        own = sum(one.value is not None for one in sliced.slices)
        return f"the {sliced.values - own:,} other values of {column}"
    return f"{column}={_cut(value)}" if value else f"{column}= (rows without a value)"


def _combined(rule: Rule, parts: Sequence["Decision"], tested: int) -> "Decision":
    """The decision of a rule from those about its slices: the worst slice decides, and gives its numbers."""
    verdict = next(one for one in _WORST_FIRST if any(part.verdict == one for part in parts))
    deciding = [part for part in parts if part.verdict == verdict]
    worst = min(deciding, key=lambda part: (part.high is not None, part.high or 0.0))
    reason = worst.reason
    if verdict == "failed" and worst.high is not None and tested > 1:
        reason += f" This holds after Holm's correction for {tested} slices."
    if len(parts) > 1 and verdict == "passed":
        reason = f"Each of {len(parts)} slices passes; the narrowest of them: {reason}"
    elif len(deciding) > 1:
        others = [part.slice for part in deciding if part is not worst and part.slice]
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        also = "It also fails" if verdict == "failed" else "It is also undecided"
        reason += f" {also} on {', '.join(others[:_NAMED])}{more}."
    return replace(worst, slice=rule.slice, reason=reason)
