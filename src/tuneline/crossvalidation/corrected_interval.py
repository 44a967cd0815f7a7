"""The interval of a mean over folds, corrected for the rows that the trainings share.

The trainings of a cross-validation share most of their rows, so their results are alike, and the variance between folds
is too small for the mean (Bengio and Grandvalet, 2004, No Unbiased Estimator of the Variance of K-Fold
Cross-Validation, JMLR 5). The corrected interval adds to 1/K the rows that measure a training over those that train it
(Nadeau and Bengio, 2003, Inference for the Generalization Error, Machine Learning 52,
https://doi.org/10.1023/A:1024068626366).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from tuneline.evaluation.intervals import LEVEL


@dataclass(frozen=True)
class FoldMean:
    """The mean of a metric over folds, and its two-sided 95 % interval."""

    mean: float
    low: float
    high: float


def mean_of_folds(values: Sequence[float], *, held_out_share: float) -> FoldMean:
    """The mean over K folds with mean ± t(K-1) * sqrt((1/K + r) * s²), where s² is the variance between the folds.

    Args:
        values: the metric of each fold; at least two.
        held_out_share: r, the rows that measure a training over those that train it: 1/(K-1) for folds of one size.
    """
    count = len(values)
    variance = statistics.variance(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * math.sqrt((1 / count + held_out_share) * variance)
    mean = statistics.fmean(values)
    return FoldMean(mean, mean - half, mean + half)
