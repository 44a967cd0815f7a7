import numpy as np
import pytest

from tuneline.evaluation import intervals
from tuneline.evaluation.intervals import Interval, Statistic
from tuneline.gate.decision import decide
from tuneline.gate.explanation import Counts, explain, minimum_effect, standard_error, times_as_many_rows
from tuneline.gate.spending import level_of
from tuneline.params import Rule

COUNTS = {"base": Counts(1500, 300), "champion": Counts(1200, 250)}


def rule(versus: str = "base", margin: float = 0.0, fails_below: float | None = None, **more: object) -> Rule:
    asked = {"metric": "accuracy", "direction": "higher", "versus": versus, "margin": margin}
    return Rule.model_validate(asked | {"fails_below": fails_below} | more)


def explained(one: Rule, low: float, middle: float, high: float, level: float = 0.025) -> str:
    measures = {one.versus: {one.metric: Interval(middle, low, high, 300)}}
    [found] = explain([one], decide([one], measures, level=level).rules, COUNTS)
    return found


def test_a_decided_rule_says_what_it_asks_and_what_it_finds() -> None:
    # The standard error is 0.01, so the minimum effect is 2.80 times that.
    assert explained(rule(), 0.0804, 0.10, 0.1196) == (
        "Accuracy: passes if the whole 95 % interval of the improvement says that the candidate is better than the "
        "base, by whatever amount. With 1,500 test rows in 300 groups, an improvement of 0.0280 or more passes with a "
        "probability of 80 %."
    )
    tolerant = explained(rule("champion", margin=-0.05), 0.0804, 0.10, 0.1196)
    assert (
        "is not worse than the champion by 0.05 or more. With 1,200 test rows in 250 groups, a candidate that"
        in tolerant
    )
    assert "is worse by no more than 0.0220 passes with a probability of 80 %." in tolerant
    assert "better than the base by more than 0.02." in explained(rule(margin=0.02), 0.0804, 0.10, 0.1196)


def test_an_undecided_rule_says_how_many_rows_would_decide_it() -> None:
    found = explained(rule(), -0.0096, 0.01, 0.0296)
    # (1.96 + 0.84)^2 = 7.85 times as many rows.
    assert found.endswith(
        "If the measured improvement (+0.0100) is the true one, 7.8 times as many test rows, about 10,000 more, "
        "would let it pass with a probability of 80 %."
    )
    assert "would let it fail" in explained(rule(), -0.0296, -0.01, 0.0096)
    assert "No number of test rows" in explained(rule(), -0.0196, 0.0, 0.0196)
    between = explained(rule(fails_below=-0.05), -0.0496, -0.03, -0.0104)
    assert "fails if it is wholly at or below -0.05, and is undecided between." in between
    assert "No number of test rows" in between


def test_a_later_comparison_needs_more_rows() -> None:
    now, later = (explained(rule("champion"), 0.0004, 0.02, 0.0396, level) for level in (0.025, level_of(23)))
    assert "an improvement of 0.0280 or more" in now
    assert "whole 99.982 % interval" in later
    assert "an improvement of 0.0459 or more" in later
    assert "5.3 times as many test rows, about 5,100 more, would let it pass" in later


def test_without_an_interval_only_what_is_asked_is_said() -> None:
    asked = rule()
    [found] = explain([asked], decide([asked], {"base": {"accuracy": Interval(0.1, None, None, 4)}}).rules, COUNTS)
    assert found.endswith("by whatever amount.")


def test_the_stated_minimum_effect_is_found_at_the_stated_power() -> None:
    """400 seeded test sets with the true improvement that the sentence states: 80 % pass."""
    random = np.random.default_rng(5)
    rows, margin = 500, 0.02
    passes = 0
    spread = random.gamma(2.0, 0.1, size=(400, rows)) * random.choice([-1.0, 1.0], size=(400, rows))
    error = 0.1 * np.sqrt(6.0) / np.sqrt(rows)
    effect = minimum_effect(margin, -1.959964 * error, 1.959964 * error, 0.025)
    assert effect == pytest.approx(margin + 2.8016 * error, rel=1e-4)
    asked = rule(margin=margin)
    for number, noise in enumerate(spread):
        mine = Statistic(("accuracy",), np.stack([noise + effect, np.ones(rows)]), lambda sums: sums[:1] / sums[1:])
        measured = intervals.paired_bootstrap(mine, [0.0], resamples=400, seed=number)
        passes += decide([asked], {"base": measured}).verdict == "passed"
    assert 0.75 < passes / 400 < 0.85


def test_the_stated_rows_decide_at_the_stated_power() -> None:
    asked = rule()
    [decision] = decide([asked], {"base": {"accuracy": Interval(0.01, -0.0096, 0.0296, 300)}}).rules
    times = times_as_many_rows(asked, decision)
    assert times
    error = standard_error(-0.0096, 0.0296) / np.sqrt(times)
    measured = np.random.default_rng(0).normal(0.01, error, 20_000)
    assert np.mean(measured - 1.96 * error > 0) == pytest.approx(0.8, abs=0.01)
