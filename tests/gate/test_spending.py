import numpy as np
import pytest

from tuneline.evaluation import intervals
from tuneline.evaluation.intervals import Interval, Statistic
from tuneline.gate import spending
from tuneline.gate.spending import ALPHA, Use, at_level, budget, level_of


def failed(*groups: int) -> list[Use]:
    return [Use(passed=False, groups=one) for one in groups]


def test_the_first_comparison_is_decided_at_the_ordinary_level() -> None:
    found = budget([], 500)
    assert (found.number, found.position, found.level, found.left) == (1, 1, 0.025, ALPHA)
    assert [spending.confidence(level_of(one)) for one in (1, 2, 3, 23)] == ["95 %", "98.3 %", "99.17 %", "99.982 %"]
    assert spending.widening(found.level) == 1.0


def test_every_comparison_without_a_pass_takes_a_position() -> None:
    past: list[Use] = []
    for position in (1, 3, 5, 7):
        found = budget(past, 500)
        assert (found.position, found.level) == (position, ALPHA / (position * (position + 1)))
        past += failed(500)
    assert budget(past, 500).left == pytest.approx(ALPHA - sum(map(level_of, (1, 3, 5, 7))))


def test_a_comparison_that_passes_takes_no_position() -> None:
    past = [*failed(500, 500), Use(passed=True, groups=500), Use(passed=True, groups=500)]
    found = budget(past, 500)
    assert (found.number, found.position) == (5, 5)
    assert found.left == budget(failed(500, 500), 500).left


def test_one_more_row_is_not_a_fresh_test_set_and_twice_as_many_rows_are() -> None:
    past = failed(*[500] * 11)
    assert budget(past, 501).position == budget(past, 999).position == 23
    assert budget(past, 1000).position == 2
    assert budget(past, 501).groups_to_next_part == 499
    past += failed(1000, 1400)
    assert budget(past, 1999).position == 10
    assert budget(past, 2000).position == 4
    # A smaller test set later does not go back to an earlier part.
    assert budget([*past, *failed(2000)], 2000).position == 12


def test_no_position_is_taken_twice_so_the_levels_add_up_to_no_more_than_alpha() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        past: list[Use] = []
        taken: list[int] = []
        groups = int(random.integers(1, 50))
        for _ in range(60):
            groups += int(random.integers(0, groups + 1)) if random.random() < 0.3 else 0
            found = budget(past, groups)
            passed = bool(random.random() < 0.2)
            taken += [] if passed else [found.position]
            past.append(Use(passed, groups))
        assert len(set(taken)) == len(taken)
        assert budget(past, groups).left == pytest.approx(ALPHA - sum(map(level_of, taken)))
        assert sum(map(level_of, taken)) < ALPHA


def test_a_pass_never_raises_a_later_position() -> None:
    """The proof of the bound needs it."""
    random = np.random.default_rng(1)
    for _ in range(200):
        past = [Use(bool(random.random() < 0.3), int(groups)) for groups in np.sort(random.integers(5, 200, 12))]
        at = int(random.integers(12))
        other = [*past[:at], Use(True, past[at].groups), *past[at + 1 :]]
        assert budget(other, 200).position <= budget(past, 200).position


def test_an_interval_is_widened_as_the_quantiles_of_the_normal_distribution() -> None:
    interval = Interval(0.10, 0.04, 0.20, 100)
    assert at_level(interval, 0.025) == interval
    wider = at_level(interval, level_of(3))
    factor = 2.638257 / 1.959964
    assert (wider.low, wider.high) == pytest.approx((0.10 - 0.06 * factor, 0.10 + 0.10 * factor), rel=1e-6)
    assert at_level(Interval(0.1, None, None, 3), 0.001) == Interval(0.1, None, None, 3)
    assert at_level(Interval(0.0, 0.0, 0.0, 100), 0.001) == Interval(0.0, 0.0, 0.0, 100)


@pytest.mark.parametrize("difference", [-0.1, 0.04, 0.05, 0.2, 0.9])
def test_a_lower_level_never_narrows_an_interval_whose_metric_has_a_bias(difference: float) -> None:
    wider = at_level(Interval(difference, 0.04, 0.20, 100), level_of(3))
    assert wider.low is not None
    assert wider.high is not None
    assert wider.low < 0.04 - 0.01
    assert wider.high > 0.20 + 0.01


def test_a_widened_interval_is_near_the_bootstraps_own_quantile() -> None:
    change = np.random.default_rng(2).gamma(2.0, size=1500)
    mine = Statistic(("mean",), np.stack([change, np.ones(1500)]), lambda sums: sums[:1] / sums[1:])
    found = intervals.paired_bootstrap(mine, [0.0], resamples=20_000, seed=0)["mean"]
    wider = at_level(found, 0.001)
    draws = np.random.default_rng(3).multinomial(1500, np.full(1500, 1 / 1500), size=20_000) @ change / 1500
    assert found.low is not None
    assert wider.low == pytest.approx(np.quantile(draws, 0.001), abs=0.15 * (found.difference - found.low))


def test_a_lower_level_needs_more_groups_for_the_same_power() -> None:
    assert spending.groups_for_power(0.025, 400) == 400
    assert spending.groups_for_power(level_of(23), 400) == pytest.approx(400 * 2.69, rel=0.01)
    assert spending.groups_for_power(level_of(199), 400) < 400 * 4
