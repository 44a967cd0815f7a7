"""How sure a difference is: the paired bootstrap of every metric that is a function of sums over rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

LEVEL = 0.95
# Fewer independent groups than this make an interval that looks surer than it is.
FEWEST_GROUPS = 10
# Draws held in memory at once, 8 bytes each.
_DRAWS = 2**22

Columns: TypeAlias = "np.ndarray | sparse.csr_array"


@dataclass(frozen=True)
class Interval:
    """A difference and its two-sided 95 % interval."""

    difference: float
    """Candidate less other."""
    low: float | None
    """None, as `high`: too few groups for an interval."""
    high: float | None
    groups: int
    """Independent groups that were drawn from."""
    other: str = ""
    """The name of what the candidate is compared with, where that is one of several."""


Measures = Mapping[str, Interval | str]
"""Of every metric how the candidate differs, or the reason why that could not be measured."""


@dataclass(frozen=True)
class Statistic:
    """Metrics of one model that are functions of the same sums over rows."""

    names: tuple[str, ...]
    columns: Columns
    """[columns, rows], float64: what is summed."""
    of_sums: Callable[[np.ndarray], np.ndarray]
    """Sums, [columns, draws] -> metrics, [names, draws]; NaN where one is not defined."""

    def values(self) -> dict[str, float]:
        """Each metric over all rows; NaN where it is not defined."""
        sums = np.asarray(self.columns.sum(axis=1)).reshape(-1, 1)
        return dict(zip(self.names, self.of_sums(sums)[:, 0].tolist(), strict=True))


def ratio(name: str, numerator: np.ndarray, denominator: np.ndarray | None = None) -> Statistic:
    """A sum over a sum, as nll over tokens; a mean where no denominator is given.

    Args:
        name: the metric's.
        numerator: [rows].
        denominator: [rows].
    """
    below = np.ones(len(numerator)) if denominator is None else denominator
    return Statistic((name,), np.stack([numerator, below]).astype(np.float64), lambda sums: sums[:1] / sums[1:])


def paired_bootstrap(
    candidate: Statistic,
    other: Statistic | Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """How each metric differs on the same rows, and the percentile interval of that.

    Rows of one group (one module, one cluster of near-duplicates) rise and fall together, so whole groups are drawn:
    drawing rows one by one would make the interval too narrow for what the next module brings.

    Args:
        candidate: its metrics.
        other: the same metrics of what the candidate is compared with, row by row the same rows; or a fixed value each.
        groups: of every row; each row is its own group where not given.
        resamples: how often the groups are drawn.
        seed: of the draws.

    Returns:
        An interval a metric, but for those that are not defined on these rows.
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
        # How often each group is drawn: counting the draws is cheaper than gathering the rows.
        draws = random.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(differences((weights @ both.T).T))
    everything = np.concatenate(drawn, axis=1)
    found = {}
    for place, name in named:
        # A draw without a row that the metric speaks of says nothing about it.
        values = everything[place][~np.isnan(everything[place])]
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
    membership = sparse.csr_array((np.ones(len(codes)), (rows, codes)))
    return sparse.csr_array(columns @ membership)
