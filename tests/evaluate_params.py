"""Values of the section `evaluate` for tests that evaluate a few rows."""

from typing import Any

from tuneline.params import Evaluate

_NO_EXTRAS: dict[str, Any] = {
    "samples_per_prompt": 1,
    "temperature": None,
    "top_p": None,
    "slices": [],
    "harness": [],
    "probes": None,
}


def evaluate(**values: Any) -> Evaluate:
    """The section with these values, without slices, drawn answers, probes and tasks of lm-evaluation-harness."""
    return Evaluate(**(_NO_EXTRAS | values))
