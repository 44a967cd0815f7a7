"""How often the gate is wrong, counted on simulated test sets: `pytest -m slow -s tests/gate/test_simulations.py`."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tuneline.evaluation import intervals
from tuneline.evaluation.intervals import Interval, Statistic
from tuneline.gate import spending
from tuneline.gate.decision import decide
from tuneline.gate.explanation import minimum_effect
from tuneline.gate.spending import Use
from tuneline.params import Rule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RESAMPLES = 2000
MONTHS = 100
CLEARLY_BETTER = Rule(metric="accuracy", direction="higher", versus="champion", margin=0.0)


def ratios(numerators: np.ndarray, denominators: np.ndarray) -> Statistic:
    """One metric for each row of the arrays, [metrics, test rows]: all of them share the draws of the bootstrap."""
    count = len(numerators)
    names = tuple(f"metric {number}" for number in range(count))
    return Statistic(names, np.concatenate([numerators, denominators]), lambda sums: sums[:count] / sums[count:])


def skewed(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers with the mean 0, the variance 1 and the skewness 2, as the losses of rows have."""
    return random.exponential(1.0, shape) - 1.0


def covered(groups: int, simulations: int) -> float:
    """The share of simulated test sets whose interval holds the true difference: losses per token, groups of 3 rows."""
    hits = tried = 0
    for batch in range(simulations // 100):
        random = np.random.default_rng([groups, batch])
        rows = 3 * groups
        tokens = random.integers(5, 60, (100, rows)).astype(float)
        of_group = np.repeat(skewed(random, 100, groups), 3, axis=1)
        change = (0.05 + 0.1 * of_group + 0.2 * skewed(random, 100, rows)) * tokens
        other = random.gamma(2.0, 1.0, (100, rows)) * tokens
        found = intervals.paired_bootstrap(
            ratios(other + change, tokens),
            ratios(other, tokens),
            groups=[str(row // 3) for row in range(rows)],
            resamples=RESAMPLES,
            seed=batch,
        )
        for one in found.values():
            assert one.low is not None and one.high is not None
            hits += one.low <= 0.05 <= one.high
            tried += 1
    assert tried == simulations
    return hits / simulations


def test_a_95_percent_interval_holds_the_true_difference_in_95_percent_of_test_sets() -> None:
    many, few = covered(500, 2000), covered(50, 2000)
    print(f"\ncoverage of 2,000 test sets: {many:.2%} with 500 groups, {few:.2%} with 50 groups")
    assert 0.935 <= many <= 0.965
    assert 0.90 <= few <= 0.965


def test_two_equal_models_rarely_pass_as_better() -> None:
    random = np.random.default_rng(7)
    passed = 0
    for number in range(4):
        change = skewed(random, 100, 500) - skewed(random, 100, 500)
        found = intervals.paired_bootstrap(
            ratios(change, np.ones_like(change)), [0.0] * 100, resamples=RESAMPLES, seed=number
        )
        passed += sum(_verdict(one) == "passed" for one in found.values())
    print(f"\ntwo equal models: {passed} of 400 comparisons pass as better")
    assert passed <= 20


def _verdict(interval: Interval, level: float = 0.025) -> str:
    return decide([CLEARLY_BETTER], {"champion": {"accuracy": interval}}, level=level).verdict


def one_test_set(history: int) -> Iterator[tuple[Interval, int]]:
    """A hundred candidates that are no better than the champion, on the same rows: interval and rows used so far."""
    random = np.random.default_rng([1, history])
    champion = skewed(random, 500)
    change = skewed(random, MONTHS, 500) - champion
    found = intervals.paired_bootstrap(
        ratios(change, np.ones_like(change)), [0.0] * MONTHS, resamples=RESAMPLES, seed=history
    )
    yield from ((one, 500) for one in found.values())


def growing_test_set(history: int) -> Iterator[tuple[Interval, int]]:
    """As `one_test_set`, and every month brings 5 % more test rows; the interval is that of the normal distribution."""
    random = np.random.default_rng([2, history])
    sizes = (500 * 1.05 ** np.arange(MONTHS)).astype(int)
    # Sums over the rows of a month, which are nearly normal: the champion's luck stays, each candidate has its own.
    new = np.diff(sizes, prepend=0)
    champion = np.cumsum(np.sqrt(new) * random.normal(size=MONTHS)) / sizes
    own = random.normal(size=MONTHS) / np.sqrt(sizes)
    half = 1.959964 * np.sqrt(2.0 / sizes)
    for month in range(MONTHS):
        middle = own[month] - champion[month]
        yield Interval(middle, middle - half[month], middle + half[month], int(sizes[month])), int(sizes[month])


def new_test_sets(history: int) -> Iterator[tuple[Interval, int]]:
    """As `one_test_set`, with 500 other test rows every month."""
    random = np.random.default_rng([3, history])
    half = 1.959964 * np.sqrt(2.0 / 500)
    for month, middle in enumerate((random.normal(size=MONTHS) * np.sqrt(2.0 / 500)).tolist(), start=1):
        yield Interval(middle, middle - half, middle + half, 500), 500 * month


@pytest.mark.parametrize(
    ("months", "histories"), [(one_test_set, 400), (growing_test_set, 1000), (new_test_sets, 1000)]
)
def test_a_hundred_months_without_an_improvement_rarely_see_a_false_promotion(
    months: Callable[[int], Iterator[tuple[Interval, int]]], histories: int
) -> None:
    ledger = naive = 0
    for history in range(histories):
        past: list[Use] = []
        is_seen = is_seen_by_naive = False
        for interval, groups in months(history):
            budget = spending.budget(past, groups)
            passed = not is_seen and _verdict(interval, budget.level) == "passed"
            past.append(Use(passed, groups))
            is_seen |= passed
            is_seen_by_naive = is_seen_by_naive or _verdict(interval) == "passed"
        ledger += is_seen
        naive += is_seen_by_naive
    print(
        f"\n{getattr(months, '__name__', '')}: of {histories} histories of {MONTHS} months without an improvement, "
        f"{ledger / histories:.1%} see a false promotion; {naive / histories:.1%} with a 95 % interval every month"
    )
    assert ledger / histories <= 0.05
    assert naive / histories > 0.2


def test_true_improvements_are_found_and_do_not_use_up_the_budget() -> None:
    """Every fourth candidate is better by the minimum effect of its level; the other months bring nothing."""
    random = np.random.default_rng(11)
    half = 1.959964 * np.sqrt(2.0 / 500)
    found, asked = np.zeros(25), 200
    for _ in range(asked):
        past: list[Use] = []
        for month in range(1, MONTHS + 1):
            budget = spending.budget(past, 500)
            effect = minimum_effect(0.0, -half, half, budget.level) if month % 4 == 0 else 0.0
            middle = effect + random.normal() * np.sqrt(2.0 / 500)
            passed = _verdict(Interval(middle, middle - half, middle + half, 500), budget.level) == "passed"
            past.append(Use(passed, 500))
            if month % 4 == 0:
                found[month // 4 - 1] += passed
    print(f"\npower in months 4, 12, 24, 48, 100: {(found / asked)[[0, 2, 5, 11, 24]]}")
    assert np.abs(found / asked - 0.8).max() < 0.12
