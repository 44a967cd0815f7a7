"""How a model that gives a number is judged."""

import numpy as np
import pyarrow as pa
from scipy import sparse

from tuneline.evaluation import score_table
from tuneline.evaluation.intervals import Statistic, ratio
from tuneline.params import Evaluate


def rows_of(split: pa.Table, evaluate: Evaluate) -> pa.Table:
    """The rows of a clean split: `text`, and `label` as a number."""
    return score_table.of_split(split, {"text": split["text"], "label": split["label"].cast(pa.float64())})


def scores(values: np.ndarray) -> pa.Table:
    """What one model says of each row."""
    return pa.table({"value": pa.array(values, pa.float64())})


def statistics(test: pa.Table, model: pa.Table) -> list[Statistic]:
    """Mean absolute error, root mean squared error, and the correlation of ranks."""
    true, given = test["label"].to_numpy(), model["value"].to_numpy()
    error = given - true
    squared = np.stack([error**2, np.ones(len(error))])
    ranks = _Ranks(true, given)
    return [
        ratio("mae", np.abs(error)),
        Statistic(("rmse",), squared, lambda sums: np.sqrt(sums[:1] / sums[1:])),
        # How often a row counts is the sum over a column in which it stands alone.
        Statistic(("spearman",), sparse.csr_array(sparse.identity(len(true))), ranks.correlation),
    ]


class _Ranks:
    """The correlation of two columns' ranks where each row counts a number of times: rows are sorted only once."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._orders = [self._order(values) for values in (first, second)]

    @staticmethod
    def _order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows by value, where each run of equal values begins, and in which run each row stands."""
        order = np.argsort(values, kind="stable")
        new = np.diff(values[order], prepend=np.nan) != 0
        run = np.empty(len(values), np.int64)
        run[order] = np.cumsum(new) - 1
        return order, np.flatnonzero(new), run

    def correlation(self, weights: np.ndarray) -> np.ndarray:
        """[rows, draws] -> [1, draws]; NaN where all that counts is equal."""
        total = weights.sum(axis=0)
        centred = []
        for order, starts, run in self._orders:
            sizes = np.add.reduceat(weights[order], starts, axis=0)
            # Equal values share the mean of the ranks that they take up.
            ranks = np.cumsum(sizes, axis=0) - (sizes - 1) / 2
            # The mean rank is half of all and a half, whatever is equal.
            centred.append((ranks - (total + 1) / 2)[run])
        first, second = centred
        both = (weights * first * second).sum(axis=0)
        spread = (weights * first**2).sum(axis=0) * (weights * second**2).sum(axis=0)
        return (both / np.sqrt(np.where(spread > 0, spread, np.nan)))[None, :]
