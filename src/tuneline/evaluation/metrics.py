"""The formulas of metrics, but for those of answers. An evaluation sums columns over test rows, and a formula turns the
sums into a metric.

Names, directions and tasks of the metrics are in `tuneline.params.gate`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tuneline.core import information
from tuneline.evaluation.intervals import Statistic

BINS = 15
"""Of probabilities, as in Guo et al. 2017."""


def ratio(name: str, numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
    """Sum of `numerator` / sum of `denominator`, both [rows]."""
    columns = np.stack([numerator, denominator]).astype(np.float64)
    return Statistic((name,), columns, lambda sums: sums[:1] / sums[1:])


def mean(name: str, values: np.ndarray) -> Statistic:
    """The mean of `values`, [rows]; rows with NaN are left out."""
    return ratio(name, values, np.ones(len(values)))


def likelihood(nll: np.ndarray, tokens: np.ndarray, sizes: np.ndarray) -> list[Statistic]:
    """`token_loss`, the nats per token, and `bits_per_byte`.

    Args:
        nll: negative log-likelihood of each row, in nats.
        tokens: supervised tokens of each row.
        sizes: UTF-8 bytes of the supervised text of each row.
    """
    return [ratio("token_loss", nll, tokens), ratio("bits_per_byte", information.bits(nll), sizes)]


def perplexity(token_loss: float) -> float:
    """exp(token_loss): the number of equally likely tokens that the model would have to choose from."""
    # exp overflows above 709.
    return math.exp(min(token_loss, 700.0))


def labels(true: Sequence[tuple[str, ...]], given: Sequence[tuple[str, ...]]) -> Statistic:
    """`accuracy`, `macro_f1`, `weighted_f1`, `matthews_corrcoef`, and for each label in the rows `recall:LABEL` and
    `precision:LABEL`.

    A row of several labels is accurate if all of them are right and no other label is given. Macro F1 counts a label if
    a row has it or the model gives it, as in scikit-learn. Matthews' correlation is Gorodkin's R_K over the marks "this
    row has this label"; it is 0 for a model that always gives the same label or guesses.

    Args:
        true: the labels of each row.
        given: the labels that the model gives each row.
    """
    names = label_names(true)
    # The labels of the rows come first: the others have no recall.
    known = [*names, *sorted(set(label_names(given)) - set(names))]
    has, gets = label_marks(true, known), label_marks(given, known)
    hits = np.array([set(one) == set(other) for one, other in zip(true, given, strict=True)], float)
    columns = sparse.vstack([has.multiply(gets), has, gets, hits[None, :], np.ones((1, len(true)))])
    size, own = len(known), len(names)

    def of_sums(sums: np.ndarray) -> np.ndarray:
        right, in_rows, by_model = sums[:size], sums[size : 2 * size], sums[2 * size : 3 * size]
        accurate, rows = sums[-2:]
        present = in_rows + by_model > 0
        f1 = np.where(present, 2 * right / np.where(present, in_rows + by_model, 1), 0.0)
        macro = f1.sum(axis=0) / present.sum(axis=0)
        weighted = (f1 * in_rows).sum(axis=0) / in_rows.sum(axis=0)
        both = rows * right.sum(axis=0) - (in_rows * by_model).sum(axis=0)
        spread = [rows * part.sum(axis=0) - (part**2).sum(axis=0) for part in (in_rows, by_model)]
        correlation = both / np.sqrt(np.where(spread[0] * spread[1] > 0, spread[0] * spread[1], np.inf))
        with np.errstate(invalid="ignore", divide="ignore"):
            of_labels = [right[:own] / whole[:own] for whole in (in_rows, by_model)]
        return np.concatenate([[accurate / rows, macro, weighted, correlation], *of_labels])

    of_labels = [f"{kind}:{name}" for kind in ("recall", "precision") for name in names]
    metrics = ("accuracy", "macro_f1", "weighted_f1", "matthews_corrcoef", *of_labels)
    return Statistic(metrics, sparse.csr_array(columns), of_sums)


@dataclass(frozen=True)
class Bin:
    """The rows to whose labels a model gives about the same probability."""

    rows: int
    probability: float
    """Its mean."""
    accuracy: float
    """The share of these rows whose label is right."""


def _reliability_sums(probabilities: np.ndarray, right: np.ndarray) -> sparse.csr_array:
    """[3 * BINS, rows]: in each bin the rows, their probabilities, and how many are right."""
    # As in Guo et al., a bin holds its upper edge and not its lower edge.
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities)
    rows = np.arange(len(bins))
    values = np.concatenate([np.ones(len(bins)), probabilities, right])
    places = np.concatenate([bins, BINS + bins, 2 * BINS + bins]), np.tile(rows, 3)
    return sparse.csr_array((values, places), shape=(3 * BINS, len(bins)))


def calibration(probabilities: np.ndarray, right: np.ndarray) -> Statistic:
    """`ece`, the expected calibration error: how far the probability of a label is from how often it is right.

    The difference of both in each of 15 bins of equal width, weighted by the rows of the bin.

    Args:
        probabilities: of the labels that a model gives, [rows].
        right: whether the label is right, [rows].
    """

    def of_sums(sums: np.ndarray) -> np.ndarray:
        rows, expected, hits = sums.reshape(3, BINS, -1)
        return (np.abs(hits - expected).sum(axis=0) / rows.sum(axis=0))[None, :]

    return Statistic(("ece",), _reliability_sums(probabilities, right), of_sums)


def reliability(probabilities: np.ndarray, right: np.ndarray) -> list[Bin]:
    """The bins that hold rows, from the lowest probability to the highest; arguments as in `calibration`."""
    sums = _reliability_sums(probabilities, right).sum(axis=1).reshape(3, BINS).T.tolist()
    return [Bin(round(rows), expected / rows, hits / rows) for rows, expected, hits in sums if rows]


def label_names(labels: Sequence[tuple[str, ...]]) -> list[str]:
    """The different labels, sorted."""
    return sorted({label for one in labels for label in one})


def label_marks(labels: Sequence[tuple[str, ...]], names: Sequence[str]) -> sparse.csr_array:
    """[names, rows], 1.0 where a row has the label."""
    places = {label: place for place, label in enumerate(names)}
    pairs = [(places[label], row) for row, one in enumerate(labels) for label in set(one)]
    at = tuple(np.array(pairs, np.int64).reshape(-1, 2).T)
    return sparse.csr_array((np.ones(len(pairs)), at), shape=(len(names), len(labels)))


def numbers(true: np.ndarray, given: np.ndarray) -> list[Statistic]:
    """`mae`, `rmse` and `spearman` of the numbers that a model gives, [rows] each."""
    error = given - true
    squares = np.stack([error**2, np.ones(len(error))])
    return [
        mean("mae", np.abs(error)),
        Statistic(("rmse",), squares, lambda sums: np.sqrt(sums[:1] / sums[1:])),
        # Ranks are not sums over rows, so each row has a column of its own: its sum is how often the row was drawn.
        Statistic(("spearman",), sparse.csr_array(sparse.identity(len(true))), _Ranks(true, given).correlation),
    ]


class _Ranks:
    """Spearman's correlation of two columns where each row counts a number of times. The rows are sorted only once."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._orders = [self._order(values) for values in (first, second)]

    @staticmethod
    def _order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows by value, where each run of equal values begins, and the number of each row's run."""
        order = np.argsort(values, kind="stable")
        new = np.diff(values[order], prepend=np.nan) != 0
        run = np.empty(len(values), np.int64)
        run[order] = np.cumsum(new) - 1
        return order, np.flatnonzero(new), run

    def correlation(self, weights: np.ndarray) -> np.ndarray:
        """[rows, draws] -> [1, draws]; NaN where all drawn values are equal."""
        total = weights.sum(axis=0)
        centred = []
        for order, starts, run in self._orders:
            sizes = np.add.reduceat(weights[order], starts, axis=0)
            # Equal values share the mean of the ranks that they take up.
            ranks = np.cumsum(sizes, axis=0) - (sizes - 1) / 2
            # The mean of all ranks is (total + 1) / 2, with or without equal values.
            centred.append((ranks - (total + 1) / 2)[run])
        first, second = centred
        both = (weights * first * second).sum(axis=0)
        spread = (weights * first**2).sum(axis=0) * (weights * second**2).sum(axis=0)
        return (both / np.sqrt(np.where(spread > 0, spread, np.nan)))[None, :]
