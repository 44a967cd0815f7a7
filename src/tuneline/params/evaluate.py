"""Section `evaluate`: how candidate and base are measured on the test split."""

from typing import Annotated

from pydantic import Field

from tuneline.params.finetune import Positive, Steps
from tuneline.params.section import Section


class Evaluate(Section):
    seed: Steps
    batch_size: Positive
    generation_rows: Positive
    """Test rows that are also answered and scored by chrF."""
    max_new_tokens: Positive
    samples: Steps
    """Answers shown side by side in the report."""
    bootstrap_resamples: Annotated[int, Field(ge=100)]
