"""The level of each comparison with a champion, so that many months rarely see a false promotion.

A false promotion is a candidate that passes the rules versus the champion although one of them does not hold. Over the
life of a model the chance of any is at most `ALPHA`, however often a champion is challenged. This is alpha-spending:
the comparison at position k is decided at the one-sided level ALPHA / (k (k + 1)), and these levels add up to ALPHA. By
the union bound that holds whatever the comparisons share: test rows, champion or training data.

A comparison that passes takes no position: its level goes to the next one, as in the online fallback of Tian and Ramdas
(2021), "Online control of the familywise error rate", Stat. Methods Med. Res. 30(4), which holds under any dependence.
Proof: before the first false promotion only comparisons without an improvement fail to pass by right, each has a
position of its own, and positions only become lower when other comparisons pass.

New test rows restore level, from positions that are kept for them: part 1 of the budget has the positions 1, 3, 5, …,
part 2 has 2, 6, 10, …, part n has 2^(n-1) (2j - 1). A part opens each time the number of different groups of test rows
that comparisons have used has doubled, so one more row opens nothing. Every position is used once at most.

LORD and other rules that earn level with each discovery control the share of false promotions, not the chance of any
(once there were true ones), and need independent tests. E-values of means need bounded scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from tuneline.evaluation.intervals import LEVEL, Interval

ALPHA = 0.05
"""The chance of any false promotion over the life of a model, at most."""
POWER = 0.8
"""The chance with which an improvement is to be found."""
_NORMAL = NormalDist()
# As a decimal number, so that it equals the level of the first comparison.
_ORDINARY = round((1 - LEVEL) / 2, 12)


@dataclass(frozen=True)
class Use:
    """A comparison of a candidate with a champion that the ledger holds."""

    passed: bool
    """Whether every rule versus the champion has passed."""
    groups: int
    """The different groups of test rows that this and all earlier comparisons have used."""


@dataclass(frozen=True)
class Budget:
    """Where a comparison stands."""

    number: int
    """Of the comparison, from 1."""
    position: int
    level: float
    """One-sided: the chance to pass without an improvement."""
    left: float
    """The part of ALPHA that no comparison has spent, this one not counted."""
    first_groups: int
    """The groups of test rows of the first comparison."""
    groups: int
    """The different groups that all comparisons have used, this one included."""

    @property
    def groups_to_next_part(self) -> int:
        """How many groups of test rows that no comparison has used open the next part of the budget."""
        return self.first_groups * 2 ** _part(self.groups, self.first_groups) - self.groups


def budget(past: Sequence[Use], groups: int) -> Budget:
    """Where the next comparison stands.

    Args:
        past: the earlier comparisons, in their order.
        groups: the different groups of test rows that these and the next comparison have used.
    """
    first = max(1, past[0].groups if past else groups)
    parts = [_part(use.groups, first) for use in past]
    now = max([_part(groups, first), *parts])
    failed = [part for use, part in zip(past, parts, strict=True) if not use.passed]
    # A part of which no comparison has failed has spent nothing.
    number = len({part for part in failed if part < now})
    position = 2**number * (2 * failed.count(now) + 1)
    return Budget(
        number=len(past) + 1,
        position=position,
        level=level_of(position),
        left=ALPHA - sum(level_of(one) for one in _positions(failed)),
        first_groups=first,
        groups=max([groups, *(use.groups for use in past)]),
    )


def level_of(position: int) -> float:
    """The one-sided level of the comparison at a position, from 1."""
    return ALPHA / (position * (position + 1))


def widening(level: float) -> float:
    """How many times as far from the difference the bound of an interval is at this one-sided level as at 95 %."""
    return max(1.0, _quantile(level) / ordinary_quantile())


def ordinary_quantile() -> float:
    """How many standard errors the bounds of a 95 % interval are from the difference: 1.96."""
    return _quantile(_ORDINARY)


def confidence(level: float) -> str:
    """The confidence of the two-sided interval of a one-sided level, as in `99.17 %`; `95 %` for the first level."""
    share = 200 * level
    digits = 0 if widening(level) == 1 else max(1, math.ceil(-math.log10(share)) + 1)
    return f"{100 - share:.{digits}f} %"


def at_level(interval: Interval, level: float) -> Interval:
    """An interval whose bounds are those of a one-sided level.

    The bootstrap's own quantiles at small levels would need millions of draws, so each side is widened as the quantiles
    of the normal distribution: the two sides keep their ratio, and at 2.5 % nothing changes. Of a metric with a bias,
    such as a largest gap, the measured difference may lie at the end of the interval or outside of it; a side then
    counts as a quarter of the interval, so that a lower level never narrows it.

    Args:
        interval: of 95 %.
        level: one-sided.
    """
    factor = widening(level)
    if interval.low is None or interval.high is None or factor == 1.0:
        return interval
    shortest = (interval.high - interval.low) / 4
    below = max(interval.difference - interval.low, shortest)
    above = max(interval.high - interval.difference, shortest)
    return replace(interval, low=interval.low - (factor - 1) * below, high=interval.high + (factor - 1) * above)


def quantiles(level: float) -> float:
    """How many standard errors an improvement must be beyond the margin to pass at this level with `POWER`.

    The measured improvement varies by a standard error, so it must be the quantile of the power above the bound.
    """
    return _quantile(level) + _NORMAL.inv_cdf(POWER)


def groups_for_power(level: float, groups: int) -> int:
    """The groups with which a comparison at this level finds what the first comparison found with `groups` groups.

    The standard error moves with 1 / sqrt(groups).
    """
    return math.ceil(groups * (quantiles(level) / quantiles(level_of(1))) ** 2 - 1e-9)


def _quantile(level: float) -> float:
    """How many standard errors a normal variable exceeds with this probability."""
    return -_NORMAL.inv_cdf(level)


def _part(groups: int, first: int) -> int:
    """Which part of the budget a comparison uses, by the different groups of test rows so far; from 1."""
    return max(1, groups // first).bit_length()


def _positions(failed: Sequence[int]) -> list[int]:
    """The positions that failed comparisons of these parts have taken."""
    order = sorted(set(failed))
    return [2 ** order.index(part) * (2 * place + 1) for part in order for place in range(failed.count(part))]
