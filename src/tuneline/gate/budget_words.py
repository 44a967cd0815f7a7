"""What the ledger says to a person: the level of a comparison, what is left, and when new test rows are due."""

import math

from tuneline.gate import spending
from tuneline.gate.spending import ALPHA, Budget, level_of

_TIMES = 2
# Comparisons until new test rows are due that are counted: of a test set that has grown much since the first
# comparison it would be more than anyone could make.
_MOST = 1000


def sentences(budget: Budget, groups: int) -> list[str]:
    """The sentences about a comparison with the champion, in their order.

    Args:
        budget: where the comparison stands.
        groups: the groups of test rows on which it was made.
    """
    return [_standing(budget), _due(budget, groups)]


def needed_groups(budget: Budget) -> int:
    """The groups of test rows with which this comparison finds what the first comparison found."""
    return _needed(budget, 0)


def _standing(budget: Budget) -> str:
    return (
        f"This is comparison {budget.number} with a champion of this model, and its rules versus the champion pass at "
        f"{spending.confidence(budget.level)}, so that over all comparisons the chance of a promotion without an "
        f"improvement stays below {100 * ALPHA:.0f} %; of these, {100 * budget.left:.2f} % are left."
    )


def _due(budget: Budget, groups: int) -> str:
    lowest = budget.position & -budget.position
    fresh = (
        f"{budget.groups_to_next_part:,} groups of test rows that no comparison has used open the next part of the "
        f"budget, which begins at {spending.confidence(level_of(2 * lowest))}"
    )
    needed = needed_groups(budget)
    if _is_due(needed, groups):
        return (
            f"New test rows are due: an improvement must be {math.sqrt(needed / groups):.1f} times as large as in the "
            f"first comparison to be found; {needed:,} groups of test rows would find what the first found, and there "
            f"are {groups:,}. {fresh}."
        )
    # The positions of a part of the budget lie two of its first position apart.
    more = next((one for one in range(1, _MOST + 1) if _is_due(_needed(budget, 2 * lowest * one), groups)), None)
    if more is None:
        return f"New test rows are not due for more than {_MOST:,} comparisons that do not pass; {fresh}."
    what = "1 more comparison that does not pass" if more == 1 else f"{more:,} more comparisons that do not pass"
    return f"New test rows are due after {what}; {fresh}."


def _needed(budget: Budget, later: int) -> int:
    """As `needed_groups`, at a position that comes so much later."""
    return spending.groups_for_power(level_of(budget.position + later), budget.first_groups)


def _is_due(needed: int, groups: int) -> bool:
    """Whether an improvement must be more than 1.4 times as large as in the first comparison to be found."""
    return needed > _TIMES * groups
