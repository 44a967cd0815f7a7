import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from scipy import stats
from sklearn import metrics

from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.tasks import regression

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=400)
RANDOM = np.random.default_rng(3)
# Ratings of one to five stars: many values are equal.
TRUE = RANDOM.integers(1, 6, 200).astype(float)
GIVEN = np.round(TRUE + RANDOM.normal(0, 1.5, 200), 1)


def rows(labels: np.ndarray) -> pa.Table:
    count = len(labels)
    keys = {name: [f"{name}{row}" for row in range(count)] for name in ("id", "source", "cluster")}
    split = pa.table(keys | {"text": ["t"] * count, "label": [str(label) for label in labels]})
    return regression.test_rows(split, EVALUATE)


def test_metrics_are_those_of_scikit_learn_and_scipy() -> None:
    assert comparison.summarise(rows(TRUE), "regression", regression.scores(GIVEN)) == {
        "mae": pytest.approx(metrics.mean_absolute_error(TRUE, GIVEN)),
        "rmse": pytest.approx(metrics.root_mean_squared_error(TRUE, GIVEN)),
        "spearman": pytest.approx(stats.spearmanr(TRUE, GIVEN)[0]),
    }


def test_spearman_of_drawn_rows_is_that_of_scipy() -> None:
    statistic = regression.statistics(rows(TRUE), regression.scores(GIVEN))[-1]
    drawn = RANDOM.integers(200, size=200)
    sums = np.bincount(drawn, minlength=200).astype(float)[:, None]
    expected = stats.spearmanr(TRUE[drawn], GIVEN[drawn])[0]
    assert statistic.of_sums(sums)[0, 0] == pytest.approx(expected)


def test_a_constant_has_errors_but_no_rank_correlation() -> None:
    mean = regression.scores(np.full(200, TRUE.mean()))
    assert set(comparison.summarise(rows(TRUE), "regression", mean)) == {"mae", "rmse"}
    found = comparison.compare(rows(TRUE), "regression", regression.scores(GIVEN), mean, EVALUATE)
    assert found["spearman"] == "it is not defined on these rows"
    better = comparison.compare_with_best_baseline(
        rows(TRUE),
        "regression",
        {"candidate": regression.scores(TRUE), "mean": mean, "tfidf": regression.scores(GIVEN)},
        EVALUATE,
    )
    assert all(isinstance(one, Interval) and one.low is not None for one in better.values())
    best = {name: one.other for name, one in better.items() if isinstance(one, Interval)}
    assert best["spearman"] == "tfidf"
