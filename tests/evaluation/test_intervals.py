from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats

from tuneline.evaluation import intervals
from tuneline.evaluation.intervals import Interval, Statistic
from tuneline.evaluation.metrics import ratio

RANDOM = np.random.default_rng(7)
TOKENS = RANDOM.integers(5, 40, size=300).astype(float)
BASE = TOKENS * RANDOM.normal(4.0, 0.8, size=300)
CANDIDATE = BASE - TOKENS * RANDOM.normal(0.3, 0.5, size=300)
ONES = np.ones(300)


def paired_bootstrap(
    candidate: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], **more: Any
) -> Interval:
    return intervals.paired_bootstrap(ratio("loss", *candidate), ratio("loss", *other), **more)["loss"]


def test_a_ratio_of_sums_has_the_interval_that_scipy_gives_it() -> None:
    def difference(a: np.ndarray, b: np.ndarray, n: np.ndarray) -> float:
        return a.sum() / n.sum() - b.sum() / n.sum()

    expected = stats.bootstrap(
        (CANDIDATE, BASE, TOKENS),
        difference,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = paired_bootstrap((CANDIDATE, TOKENS), (BASE, TOKENS), resamples=4000, seed=0)
    assert found.difference == pytest.approx(CANDIDATE.sum() / TOKENS.sum() - BASE.sum() / TOKENS.sum())
    # Two sets of 4,000 draws agree to a few percent of the interval's width.
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def test_the_interval_of_a_mean_is_near_that_of_the_normal_distribution() -> None:
    change = CANDIDATE - BASE
    found = paired_bootstrap((CANDIDATE, ONES), (BASE, ONES), resamples=4000, seed=3)
    error = change.std() / np.sqrt(300)
    assert found.low == pytest.approx(change.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(change.mean() + 1.96 * error, abs=0.15 * error)


def test_an_interval_of_few_numbers_is_exactly_this() -> None:
    a, b = np.arange(12.0), np.arange(12.0)[::-1] / 2
    ones = np.ones(12)
    found = paired_bootstrap((a, ones), (b, ones), resamples=100, seed=0)
    assert found.difference == 2.75
    assert (found.low, found.high) == pytest.approx((0.184375, 5.625))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    def low(seed: int) -> float | None:
        return paired_bootstrap((CANDIDATE, TOKENS), (BASE, TOKENS), resamples=200, seed=seed).low

    assert low(1) == low(1)
    assert low(1) != low(2)


def test_drawing_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paired_bootstrap((CANDIDATE, TOKENS), (BASE, TOKENS), resamples=500, seed=5)
    monkeypatch.setattr("tuneline.evaluation.intervals._DRAWS", 1000)
    parts = paired_bootstrap((CANDIDATE, TOKENS), (BASE, TOKENS), resamples=500, seed=5)
    assert parts.low == pytest.approx(whole.low)
    assert parts.high == pytest.approx(whole.high)


def test_copies_of_rows_in_a_group_do_not_narrow_the_interval() -> None:
    def width(repeats: int, grouped: bool) -> float:
        def often(values: np.ndarray) -> np.ndarray:
            return np.repeat(values, repeats)

        groups = [str(group) for group in np.repeat(np.arange(300), repeats)] if grouped else None
        found = paired_bootstrap(
            (often(CANDIDATE), often(TOKENS)), (often(BASE), often(TOKENS)), groups=groups, resamples=1000, seed=0
        )
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(4, grouped=True) == pytest.approx(width(1, grouped=False), rel=0.02)
    assert width(4, grouped=False) < 0.6 * width(1, grouped=False)


def test_a_model_compared_with_itself_has_an_interval_of_zero() -> None:
    assert paired_bootstrap((BASE, TOKENS), (BASE, TOKENS), resamples=200, seed=0) == Interval(0.0, 0.0, 0.0, 300)


@pytest.mark.parametrize("groups", [["only"] * 300, [str(row % 9) for row in range(300)]])
def test_too_few_groups_have_no_interval(groups: list[str]) -> None:
    found = paired_bootstrap((CANDIDATE, TOKENS), (BASE, TOKENS), groups=groups, resamples=200, seed=0)
    assert (found.low, found.high, found.groups) == (None, None, len(set(groups)))
    assert found.difference < 0


def test_a_hundred_thousand_rows_need_little_memory() -> None:
    import tracemalloc

    rows = np.random.default_rng(0).random(100_000)
    ones = np.ones(100_000)
    tracemalloc.start()
    paired_bootstrap((rows, ones), (rows[::-1], ones), resamples=100, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_metrics_of_sparse_columns_are_those_of_dense_ones() -> None:
    hits = RANDOM.integers(0, 2, size=(3, 60)).astype(float)
    groups = [str(row % 20) for row in range(60)]

    def found(columns: Any) -> dict[str, Interval]:
        mine = Statistic(("a", "b"), columns, lambda sums: sums[:2] / sums[2:])
        return intervals.paired_bootstrap(mine, [0.25, 0.5], groups=groups, resamples=300, seed=0)

    assert found(sparse.csr_array(hits)) == found(hits)
    assert found(hits)["a"].difference == hits[0].sum() / hits[2].sum() - 0.25


def test_a_metric_that_rests_on_fewer_than_ten_groups_has_no_interval() -> None:
    def of(groups: int) -> Interval:
        marked = np.zeros(40)
        marked[:groups] = 1.0
        mine = Statistic(("never", "rare"), np.stack([np.zeros(40), marked]), lambda sums: sums / sums)
        [(name, found)] = intervals.paired_bootstrap(mine, [0.0, 0.5], resamples=2000, seed=0).items()
        assert name == "rare"
        return found

    # The recall of a label that one row has would be exactly 1, or exactly 0.
    assert of(1) == Interval(0.5, None, None, 1)
    assert of(4).low is None
    assert of(4).groups in (3, 4, 5)
    assert of(15) == Interval(0.5, 0.5, 0.5, 40)
