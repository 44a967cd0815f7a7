"""Section `gate`: the rules that a candidate must pass to be registered."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tuneline.params.section import Section

BETTER = {"token_loss": "lower", "bits_per_byte": "lower", "chrf": "higher"}
"""Which way each metric improves."""


class Rule(Section):
    metric: Literal["token_loss", "bits_per_byte", "chrf"]
    direction: Literal["lower", "higher"]
    """Which way is better."""
    versus: Literal["base", "champion"]
    margin: float
    """Improvement, in the metric's unit, that the interval's lower bound must exceed; negative: a tolerated loss."""

    @model_validator(mode="after")
    def _asks_for_better(self) -> "Rule":
        better = BETTER[self.metric]
        if self.direction != better:
            raise ValueError(
                f"{self.metric} is better when {better}, so direction {self.direction} would let only worse pass"
            )
        return self


class Gate(Section):
    rules: Annotated[list[Rule], Field(min_length=1)]
