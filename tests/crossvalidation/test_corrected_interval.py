"""The corrected interval covers the error of the trained models; the usual one of the folds does not."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score

from tuneline.crossvalidation.corrected_interval import mean_of_folds


def test_the_formula_on_literal_numbers() -> None:
    found = mean_of_folds([1.0, 2.0, 3.0, 4.0, 5.0], held_out_share=0.25)
    # Variance 2.5; t(4) = 2.776445; sqrt((1/5 + 1/4) * 2.5) = 1.060660.
    assert found.mean == 3.0
    assert found.high - found.mean == pytest.approx(2.776445 * 1.060660, rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_folds_that_agree_have_an_interval_of_no_width() -> None:
    assert mean_of_folds([0.5, 0.5], held_out_share=1.0).low == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "features", "count"), [(60, 10, 5), (200, 10, 5), (200, 10, 10)])
def test_coverage_on_simulated_data(rows: int, features: int, count: int) -> None:
    """A linear model of data that are linear: the true error of the models of all folds is known."""
    generator, covered, usual, repeats = np.random.default_rng(0), 0, 0, 1_000
    weights = generator.normal(size=features)
    for _ in range(repeats):
        x = generator.normal(size=(rows, features))
        y = x @ weights + generator.normal(size=rows)
        folds = KFold(count)
        errors = -cross_val_score(LinearRegression(), x, y, cv=folds, scoring="neg_mean_squared_error")
        # E(y - x w')² = 1 + |w - w'|² (+ the intercept's), because x and the noise are standard normal.
        fits = [LinearRegression().fit(x[train], y[train]) for train, _ in folds.split(x)]
        true = np.mean([1 + np.sum((fit.coef_ - weights) ** 2) + fit.intercept_**2 for fit in fits])
        found = mean_of_folds(errors.tolist(), held_out_share=1 / (count - 1))
        half = stats.t.ppf(0.975, count - 1) * errors.std(ddof=1) / math.sqrt(count)
        covered += found.low <= true <= found.high
        usual += abs(errors.mean() - true) <= half
    print(f"{rows} rows, {count} folds: corrected {covered / repeats:.3f}, usual {usual / repeats:.3f}")
    assert covered / repeats >= 0.94
    assert covered > usual
