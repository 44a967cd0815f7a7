"""What an evaluation measured, as the flat metrics that MLflow stores and searches."""

import re
from itertools import islice
from typing import Any

from tuneline.params.gate import OF_LABEL

_CANDIDATE = "candidate."
_SLICES = ("slices", "gaps")
_CURVE = "reliability"
# MLflow refuses metrics with other characters in their names, longer names, and more than 1,000 metrics at a time. It
# takes colons, as of `harness:TASK`.
_NAME = re.compile(r"[\w.\- ]{1,200}")
_MOST_OF_SLICES = 500


def run_metrics(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """evaluation.json as metrics of a run: {"base": {"chrf": 1.0}} -> {"base.chrf": 1.0}.

    Recall and precision of each label are left out, because MLflow refuses names with some characters of labels; so are
    all other metrics whose names have such characters, and the points of the reliability curve. Of the slices, the
    first 500 metrics are kept: `slices.language.zh.accuracy`, and before them `gaps.language.accuracy`.

    Args:
        evaluation: the value of evaluation.json.
        prefix: of every name.
    """
    whole = {name: value for name, value in evaluation.items() if name not in (*_SLICES, *OF_LABEL, _CURVE)}
    of_slices = {name: evaluation[name] for name in reversed(_SLICES) if name in evaluation}
    named = ((name, value) for name, value in _flat(of_slices, prefix).items() if _NAME.fullmatch(name))
    known = {name: value for name, value in _flat(whole, prefix).items() if _NAME.fullmatch(name.replace(":", ""))}
    return known | dict(islice(named, _MOST_OF_SLICES))


def _flat(values: dict[str, Any], prefix: str) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = float(value)
    return flat


def model_metrics(evaluation: dict[str, Any]) -> dict[str, float]:
    """evaluation.json as metrics of the model: its own have no prefix, such as `bits_per_byte`.

    The bounds of its intervals are `versus_base.bits_per_byte.low` and `….high`.

    Args:
        evaluation: the value of evaluation.json.
    """
    return {name.removeprefix(_CANDIDATE): value for name, value in run_metrics(evaluation).items()}
