"""Make the base: pretrain it, copy it from a folder, download it from the hub, or merge models that were made from it.

    python -m tuneline.stages base

Reads base.input; writes paths.base (with source merge, the parents' common base, and the merged model in its folder
`merged`), and base.json (counts and measures) and base.csv (the training log) into
paths.reports. Checkpoints of a pretraining are in work/<fingerprint>/: after a kill the same command ends with the
same bytes.
"""

from pathlib import Path
from typing import Any

from tuneline import params, processes
from tuneline.core import files, identity
from tuneline.fusion.merging import merge_recipe, merged_model
from tuneline.modeling import hardware, models, sources
from tuneline.modeling.model_folder import MERGED
from tuneline.pretraining import pretrain
from tuneline.training import checkpoints, training_run
from tuneline.training.log import History
from tuneline.work import WORK


def main(p: params.Params) -> None:
    """Run the stage."""
    hardware.check(p.compute)
    with processes.exclusive(checkpoints.LOCK, "this project's training"):
        models.use_threads(p.compute.threads)
        folder = Path(p.paths.base)
        if p.base.source == "builtin":
            measures, history = _pretrain(p, folder)
        elif p.base.source == "merge":
            measures, history = _merge(Path(p.base.input), folder), History()
        else:
            source = Path(p.base.input)
            sources.copy(sources.fetch(source, WORK / "hub") if p.base.source == "hub" else source, folder)
            measures, history = {}, History()
        model, _ = models.load_base(folder)
        reports = Path(p.paths.reports)
        files.write_text(reports / "base.csv", history.csv())
        files.write_json(
            reports / "base.json",
            {"source": p.base.source, "parameters": models.count_parameters(model), **measures},
        )


def _merge(source: Path, folder: Path) -> dict[str, Any]:
    sources.copy(source / merge_recipe.BASE, folder)
    recipe = merged_model.write(source, folder / MERGED)
    print(recipe.describe(), flush=True)
    return {"merge": recipe.as_json()}


def _pretrain(p: params.Params, folder: Path) -> tuple[dict[str, Any], History]:
    train, heldout = (pretrain.texts_of(Path(p.base.input) / name) for name in ("train", "validation"))
    fingerprint = identity.compute_fingerprint(
        identity.code_sha256(identity.code_deps("base")),
        hardware.fingerprint(p.compute),
        builtin=p.base.builtin.model_dump(),
        compute=p.compute.model_dump(),
        data=files.sha256_path(Path(p.base.input)),
    )
    made = pretrain.pretrain(train, heldout, p.base.builtin, p.compute, folder=WORK / fingerprint)
    models.save(made.model, made.tokenizer, folder)
    measures = {
        "heldout": pretrain.heldout(made, heldout, p.base.builtin.document_length),
        "fingerprint": fingerprint,
        **made.training.counts(),
        "data": made.report.as_dict(),
    }
    training_run.delete_checkpoints(WORK / fingerprint)
    return measures, made.training.history
