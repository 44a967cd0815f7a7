"""What an evaluation measured, as the flat metrics that MLflow stores and searches."""

from typing import Any

_CANDIDATE = "candidate."


def run_metrics(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """evaluation.json as metrics of a run: {"base": {"chrf": 1.0}} -> {"base.chrf": 1.0}.

    The recall of each label is left out: MLflow refuses names with some characters of labels.

    Args:
        evaluation: the value of evaluation.json.
        prefix: of every name.
    """
    flat: dict[str, float] = {}
    for name, value in evaluation.items():
        if name == "recall":
            continue
        if isinstance(value, dict):
            flat |= run_metrics(value, f"{prefix}{name}.")
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
