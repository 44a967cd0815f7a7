"""Collect the facts about a version from the workspace, which holds exactly what the version was made from."""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.core import files
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.evaluation import results
from tuneline.fusion.merging import merge_recipe
from tuneline.pipeline import graph
from tuneline.proofs.facts import MIXED_IN, PRETRAINING, Facts, File, Package, RawSet
from tuneline.registry.lineage import Lineage, pinned

_TRAINING_LOCK = Path("requirements-training.lock")
"""Pins the packages that decide over the weights; base, finetune and evaluate depend on it."""


def collect(
    folder: Path, p: params.Params, origin: Lineage, gate: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Facts:
    """The facts about the version in `folder`.

    Args:
        folder: holds the model.
        p: the params.
        origin: the lineage of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.

    Raises:
        UnreadableFileError: a report of a stage is missing or damaged.
    """
    reports, clean = Path(p.paths.reports), Path(p.paths.clean)
    prepared = files.read_object(reports / "prepare.json", "raw", "pretraining", "mixture")
    dataset = files.read_object(clean / DATASET_FILE, "rows", "mixture")
    return Facts(
        p=p,
        lineage=origin,
        gate=gate,
        evaluation=evaluation,
        measures=results.read_intervals(files.read_object(reports / "intervals.json")),
        dataset=dataset,
        training=files.read_object(reports / "training.json"),
        base=files.read_object(reports / "base.json"),
        config=files.read_object(folder / "config.json"),
        model_files=_list_files(Path(p.paths.finetuned)),
        data_files=[file for file in _list_files(clean) if file.path.endswith(".parquet")],
        raw_sets=list(_raw_sets(p, prepared, dataset["mixture"])),
        packages=list(_packages(_TRAINING_LOCK.read_text("utf-8"))),
        expectations={
            name: files.read_object(reports / f"validate_{name}.json", "success", "sets") for name in ("raw", "clean")
        },
        base_reference=_base_reference(p),
        merge=merge_recipe.read(Path(p.base.input)) if p.base.source == "merge" else None,
    )


def _list_files(folder: Path) -> list[File]:
    return [File(path, sha256, (folder / path).stat().st_size) for path, sha256 in files.sha256_tree(folder).items()]


def _raw_sets(p: params.Params, prepared: Mapping[str, Any], mixture: Mapping[str, Any]) -> Iterator[RawSet]:
    """The raw sets that `prepare` read, with DVC's digests of them."""
    read = {dep["path"]: dep.get("md5", "") for dep in graph.read_locked_stages().get("prepare", {}).get("deps", [])}
    yield RawSet(p.data.raw, read.get(p.data.raw, ""), prepared["raw"])
    if p.base.source == "builtin" or params.PRETRAINING in p.data.mixture:
        yield RawSet(p.data.pretraining, read.get(p.data.pretraining, ""), prepared["pretraining"], PRETRAINING)
    for name, counts in prepared["mixture"].items():
        # DVC records the folder of all sets.
        md5, by = read.get(p.paths.mixture, ""), LabelledBy.from_json(mixture.get(name, {}))
        yield RawSet(f"{p.paths.mixture}/{name}", md5, counts, MIXED_IN, by)


def _packages(lock: str) -> Iterator[Package]:
    """The packages of a lock. Where it pins a package once per version of Python, the version that is installed."""
    for name, found in pinned(lock).items():
        yield Package(name, found[0] if len(found) == 1 else metadata.version(name))


def _base_reference(p: params.Params) -> tuple[str, str] | None:
    if p.base.source != "hub":
        return None
    # Loads torch, which commands that only look for a version do not need.
    from tuneline.modeling import sources

    return sources.read_reference(Path(p.base.input))
