"""What a version carries for people and for other tools, written into its folder when it is registered."""

from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.core import files
from tuneline.decisions import version_facts
from tuneline.decisions.signature_policy import SIGNED
from tuneline.fusion.merging import merge_recipe
from tuneline.proofs import annex_iv, bom, claims, croissant, provenance
from tuneline.proofs.keys import PrivateKey
from tuneline.proofs.provenance import Build
from tuneline.registry import mlmodel, version_files, versions
from tuneline.registry.lineage import Lineage


def complete(
    folder: Path,
    p: params.Params,
    origin: Lineage,
    gate: dict[str, Any],
    evaluation: dict[str, Any],
    build: Build,
    key: PrivateKey | None,
) -> dict[str, str]:
    """Add to the folder of a new version what describes the model in it.

    The order matters: each file describes those that were written before it.

    Args:
        folder: holds the model, its card, params.yaml, dvc.lock and the report.
        p: the params.
        origin: the lineage of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        build: the training.
        key: signs the claims and the folder; None: both stay unsigned.

    Returns:
        Tags for the version.
    """
    parents = _name_parents(folder, p)
    mlmodel.write(folder, p)
    facts = version_facts.collect(folder, p, origin, gate, evaluation)
    files.write_text(folder / croissant.FILE, croissant.metadata(facts))
    files.write_text(folder / bom.FILE, bom.ml_bom(facts))
    files.write_text(folder / annex_iv.FILE, annex_iv.document(facts))
    subject = provenance.subject(facts)
    said = {
        claims.PROVENANCE: provenance.predicate(facts, build),
        claims.TEST_RESULT: claims.gate_result(gate, version_files.REPORT),
    }
    statements = [claims.statement(kind, subject, predicate) for kind, predicate in said.items()]
    claims.write(folder / claims.CLAIMS, statements, key)
    if key is None:
        return parents
    # Loads model_signing, which takes most of a second.
    from tuneline.proofs import signatures

    signatures.sign(folder, key)
    return {**parents, SIGNED: key.name}


def _name_parents(folder: Path, p: params.Params) -> dict[str, str]:
    """Copy the description of a merge into the folder; returns the tags that name the parents."""
    if p.base.source != "merge":
        return {}
    recipe = merge_recipe.read(Path(p.base.input))
    merge_recipe.write(recipe, folder)
    return {versions.PARENTS: recipe.named()}
