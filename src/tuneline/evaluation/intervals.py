"""How sure a difference is: the paired bootstrap, for sums over sums and so for means too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
# Fewer independent groups than this make an interval that looks surer than it is.
FEWEST_GROUPS = 10
# Draws held in memory at once, 8 bytes each.
_DRAWS = 2**22


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


Measures = Mapping[str, Interval | str]
"""Of every metric how the candidate differs, or the reason why that could not be measured."""


def paired_bootstrap(
    candidate: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    *,
    groups: Sequence[str] | None = None,
    resamples: int,
    seed: int,
) -> Interval:
    """The difference of two ratios of sums over the same rows, and its percentile interval.

    Rows of one group (one module, one cluster of near-duplicates) rise and fall together, so whole groups are drawn:
    drawing rows one by one would make the interval too narrow for what the next module brings.

    Args:
        candidate: numerator and denominator of every row, as nll and tokens; a mean has ones for denominator.
        other: the same of what the candidate is compared with, row by row the same rows.
        groups: of every row; each row is its own group where not given.
        resamples: how often the groups are drawn.
        seed: of the draws.
    """
    columns = np.stack([*candidate, *other]).astype(np.float64)
    if groups is not None:
        codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
        columns = np.stack([np.bincount(codes, weights=column) for column in columns])
    count = columns.shape[1]
    difference = float(_difference(columns.sum(axis=1)))
    if count < FEWEST_GROUPS:
        return Interval(difference, None, None, count)
    random = np.random.default_rng(seed)
    chunk = max(1, _DRAWS // count)
    differences = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        # How often each group is drawn: counting the draws is cheaper than gathering the rows.
        draws = random.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        differences.append(_difference((weights @ columns.T).T))
    low, high = np.quantile(np.concatenate(differences), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(difference, float(low), float(high), count)


def _difference(sums: np.ndarray) -> np.ndarray:
    return sums[0] / sums[1] - sums[2] / sums[3]
