"""Section `evaluate`: how candidate and base are measured on the test split."""

from typing import Annotated

from pydantic import Field

from tuneline.params.section import Positive, Section, Seed

MOST_SLICED = 8
"""Columns that cut the test rows into slices. Each costs about as much time as one more comparison of all rows."""


class Probes(Section):
    """How many rows show what fine-tuning has made the model forget and memorise."""

    general_rows: Positive
    """General texts on which forgetting is measured, at most."""
    memorisation_rows: Positive
    """Training rows, and as many test rows, of which the models are to write the next tokens; at most."""
    copied_rows: Positive
    """Training rows in which the answers are searched for copied text, at most."""
    canary_references: Annotated[int, Field(ge=15, le=1_000_000)]
    """Random sequences that were not planted, among which a canary is ranked."""


class Evaluate(Section):
    seed: Seed
    batch_size: Positive
    generation_rows: Positive
    """Test rows for which the model also writes an answer, which chrF scores."""
    max_new_tokens: Positive
    samples: Annotated[int, Field(ge=0, le=1_000)]
    """Answers of base and candidate in the report."""
    bootstrap_resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    slices: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MOST_SLICED)] = Field(
        default_factory=list
    )
    """Columns by whose values the test rows are also measured apart: label, language, source, length, or a column of
    data.keep_columns."""
    probes: Probes | None = None
    """What shows forgetting and memorisation; None: neither is measured."""
