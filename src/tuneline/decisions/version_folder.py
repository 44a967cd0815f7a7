"""What a version carries for people and for other tools, written into its folder when it is registered."""

from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.registry.lineage import Lineage


def complete(folder: Path, p: params.Params, origin: Lineage, gate: dict[str, Any], evaluation: dict[str, Any]) -> None:
    """Add to the folder of a new version what describes the model in it.

    The order matters: each file describes those that were written before it.

    Args:
        folder: holds the model, its card, params.yaml, dvc.lock and the report.
        p: the params.
        origin: the lineage of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
    """
