"""The paired bootstrap: intervals of the differences of metrics that are functions of sums over rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from tuneline.params.evaluate import FEWEST_GROUPS

LEVEL = 0.95
# Draws that are held in memory at once, 8 bytes each.
_DRAWS = 2**22

Columns: TypeAlias = "np.ndarray | sparse.csr_array"


@dataclass(frozen=True)
class Interval:
    """A difference and its two-sided 95 % interval."""

    difference: float
    """Candidate minus other."""
    low: float | None
    """None, as `high`, where the groups are too few for an interval."""
    high: float | None
    groups: int
    """The number of independent groups."""
    other: str = ""
    """The baseline that the candidate is compared with, where it is the best of several."""


Measures = Mapping[str, Interval | str]
"""Metric -> how the candidate differs, or the reason why that could not be measured."""


@dataclass(frozen=True)
class Statistic:
    """Metrics of one model that are functions of the same sums over rows."""

    names: tuple[str, ...]
    columns: Columns
    """What is summed: [columns, rows], float64."""
    of_sums: Callable[[np.ndarray], np.ndarray]
    """The formula: sums, [columns, draws] -> metrics, [names, draws]; NaN where a metric is not defined."""

    def values(self) -> dict[str, float]:
        """Each metric over all rows; NaN where it is not defined."""
        sums = np.asarray(self.columns.sum(axis=1)).reshape(-1, 1)
        return dict(zip(self.names, self.of_sums(sums)[:, 0].tolist(), strict=True))


def paired_bootstrap(
    candidate: Statistic,
    other: Statistic | Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """The difference of each metric on the same rows, with its percentile interval.

    Rows of one group (a module, a prompt) have similar scores, so whole groups are drawn. Drawing
    single rows would make the interval too narrow for groups that are not in the test split.

    Args:
        candidate: its metrics.
        other: the same metrics of the other model on the same rows; or a fixed value for each metric.
        groups: the group of each row; None: each row is a group.
        resamples: how often the groups are drawn.
        seed: of the draws.

    Returns:
        Metric -> its interval; a metric that is not defined on these rows is left out.
    """
    if isinstance(other, Statistic):
        assert other.names == candidate.names
        both = _stacked(candidate.columns, other.columns)
    else:
        both = candidate.columns
    mine, count = candidate.columns.shape[0], both.shape[1]  # pyright: ignore[reportOptionalSubscript]
    if groups is not None:
        codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
        both, count = _grouped(both, codes), int(codes.max()) + 1

    def differences(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            theirs = other.of_sums(sums[mine:]) if isinstance(other, Statistic) else np.array(other)[:, None]
            return candidate.of_sums(sums[:mine]) - theirs

    whole = differences(np.asarray(both.sum(axis=1)).reshape(-1, 1))[:, 0].tolist()
    named = [(place, name) for place, name in enumerate(candidate.names) if not np.isnan(whole[place])]
    if count < FEWEST_GROUPS:
        return {name: Interval(whole[place], None, None, count) for place, name in named}
    random = np.random.default_rng(seed)
    chunk = max(1, _DRAWS // count)
    drawn = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        # How often each group is drawn: counting draws is cheaper than gathering rows.
        draws = random.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(differences((weights @ both.T).T))
    everything = np.concatenate(drawn, axis=1)
    found = {}
    for place, name in named:
        # Draws on which the metric is not defined are left out.
        values = everything[place][~np.isnan(everything[place])]
        if len(values) < len(everything[place]):
            # It rests on m of the groups, and a draw of as many groups has none of the m with probability exp(-m).
            behind = round(-math.log(1 - len(values) / len(everything[place]))) if len(values) else 0
            if behind < FEWEST_GROUPS:
                found[name] = Interval(whole[place], None, None, max(1, behind))
                continue
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        found[name] = Interval(whole[place], low, high, count)
    return found


def _stacked(first: Columns, second: Columns) -> Columns:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    return sparse.csr_array(sparse.vstack([first, second]))


def _grouped(columns: Columns, codes: np.ndarray) -> Columns:
    """The columns summed over the rows of each group."""
    if isinstance(columns, np.ndarray):
        return np.stack([np.bincount(codes, weights=column) for column in columns])
    rows = np.arange(len(codes))
    of_group = sparse.csr_array((np.ones(len(codes)), (rows, codes)))
    return sparse.csr_array(columns @ of_group)
