"""What is known of a trial, and which is the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.search.space import Value

State = Literal["interrupted", "done", "pruned", "failed"]


@dataclass(frozen=True)
class Result:
    """What is known of a trial."""

    number: int
    state: State
    values: Mapping[str, Value]
    loss: float | None
    """The objective, of the weights that are kept; for a pruned trial the last that was measured."""
    curve: Mapping[int, float]
    """Measurement, from 1 -> the objective."""
    note: str = ""
    """Why it failed."""


def best_of(results: Sequence[Result]) -> Result | None:
    """The finished trial with the lowest loss; of equal trials the first."""
    done = [result for result in results if result.state == "done" and result.loss is not None]
    return min(done, key=lambda result: (result.loss, result.number), default=None)
