"""What a version carries for people and for other tools, written into its folder when it is registered."""

from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.core import files
from tuneline.decisions import version_facts
from tuneline.proofs import annex_iv, bom, croissant
from tuneline.registry import mlmodel
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
    mlmodel.write(folder, p)
    facts = version_facts.collect(folder, p, origin, gate, evaluation)
    files.write_text(folder / croissant.FILE, croissant.metadata(facts))
    files.write_text(folder / bom.FILE, bom.ml_bom(facts))
    files.write_text(folder / annex_iv.FILE, annex_iv.document(facts))
