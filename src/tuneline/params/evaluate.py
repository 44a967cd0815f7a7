"""Section `evaluate`: how candidate and base are measured on the test split."""

from typing import Annotated

from pydantic import Field, model_validator

from tuneline.params.section import Positive, PositiveFloat, Section, Seed

MOST_SLICED = 8
"""Columns that cut the test rows into slices. Each costs as much time as two or three more comparisons of all rows."""

FEWEST_GROUPS = 10
"""With fewer independent groups of rows an interval would be too narrow, so there is none."""


class Probes(Section):
    """How many rows show what fine-tuning has made the model forget and memorise."""

    general_rows: Positive
    """General texts on which forgetting is measured, at most."""
    memorisation_rows: Positive
    """Training rows, and as many test rows, of which the models are to write the next tokens; at most."""
    copied_rows: Positive
    """Training rows in which the answers are searched for copied text, at most."""
    harness_rows: Positive
    """Documents of each task of lm-evaluation-harness, at most."""
    canary_references: Annotated[int, Field(ge=15, le=1_000_000)]
    """Random sequences that were not planted, among which a canary is ranked."""


class Evaluate(Section):
    seed: Seed
    batch_size: Positive
    generation_rows: Positive
    """Test rows for which the model also writes an answer, which is compared with the reference."""
    max_new_tokens: Positive
    samples_per_prompt: Annotated[int, Field(ge=1, le=1_000, examples=[1])]
    """Answers that are drawn for each of these rows, from which diversity is measured; only with temperature."""
    temperature: PositiveFloat | None
    """Of the drawn answers; null: none are drawn, and diversity is measured from the greedy answers."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None
    """The likeliest tokens with this probability together are drawn from; null: all tokens."""
    samples: Annotated[int, Field(ge=0, le=1_000)]
    """Answers of base and candidate in the report."""
    bootstrap_resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    slices: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MOST_SLICED)]
    """Columns by whose values the test rows are also measured apart: label, language, source, length, or a column of
    data.keep_columns."""
    harness: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]]
    """Tasks of lm-evaluation-harness, or of paths.harness, by name; the library must be installed."""
    probes: Probes | None
    """What shows forgetting and memorisation; None: neither is measured."""

    @property
    def answers_per_row(self) -> int:
        """The greedy answer and those that are drawn."""
        return 1 + (self.samples_per_prompt if self.temperature is not None else 0)

    @model_validator(mode="after")
    def _draws_only_with_a_temperature(self) -> "Evaluate":
        given = {"samples_per_prompt above 1": self.samples_per_prompt > 1, "top_p": self.top_p is not None}
        wrong = [name for name, is_given in given.items() if is_given and self.temperature is None]
        if wrong:
            raise ValueError(
                f"{' and '.join(wrong)} needs temperature, because without it the likeliest token is taken at each "
                "step and all answers to a prompt are the same; set temperature, for example to 0.8"
            )
        return self
