"""Section `gate`: the rules that a candidate must pass to be registered."""

from typing import Annotated, Literal

from pydantic import Field

from tuneline.params.section import Section


class Rule(Section):
    metric: Literal["token_loss", "bits_per_byte", "chrf"]
    direction: Literal["lower", "higher"]
    """Which way is better."""
    versus: Literal["base", "champion"]
    margin: float
    """Improvement, in the metric's unit, that the interval's lower bound must exceed; negative: a tolerated loss."""


class Gate(Section):
    rules: Annotated[list[Rule], Field(min_length=1)]
