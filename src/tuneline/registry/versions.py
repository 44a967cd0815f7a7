"""Versions of the registered model: what each carries, how it is made once and only once, and how it is fetched."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import files, params
from tuneline.errors import RegistryError
from tuneline.params.data import PRETRAINING
from tuneline.registry import cards
from tuneline.registry.lineage import Lineage
from tuneline.registry.runs import Dataset, Subject
from tuneline.registry.tracking import Tracker

_IDENTITY = ("tuneline.model_sha256", "tuneline.data_sha256", "tuneline.evaluation_sha256")
_VERDICT = "tuneline.verdict"
_FILES = "tuneline.files_sha256"
_TRAIN_ROWS = "train-rows.parquet"
_FETCHED = Path("work/models")


@dataclass(frozen=True)
class Registration:
    """A version of the registered model, and whether this call made it."""

    version: str
    created: bool


def subject(p: params.Params, *, fingerprint: str, data_sha256: str, base_sha256: str, git: dict[str, str]) -> Subject:
    """The training run of these params, data and base, as MLflow finds or shows it."""
    values = {
        "task": p.task,
        "base.source": p.base.source,
        "threads": p.compute.threads,
        "mixture": {name: one.model_dump() for name, one in sorted(p.data.mixture.items())},
        **p.finetune.model_dump(),
    }
    tags = {"tuneline.data_sha256": data_sha256, "tuneline.base_sha256": base_sha256}
    tags |= {"mlflow.source.git.commit": git["git_commit"], "tuneline.git_dirty": git["git_dirty"]}
    return Subject(
        fingerprint=fingerprint,
        experiment=p.registry.model,
        params=values,
        tags=tags,
        inputs=(
            Dataset("clean", data_sha256, p.paths.clean, "training"),
            Dataset("base", base_sha256, p.paths.base, "base model"),
        ),
    )


def register(
    tracker: Tracker, p: params.Params, lineage: Lineage, run_id: str, gate: dict[str, Any], evaluation: dict[str, Any]
) -> Registration:
    """Register the fine-tuned model, unless a version of the same model, data and evaluation is there already.

    Args:
        tracker: the registry.
        p: the params.
        lineage: of the working tree.
        run_id: the training run.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.

    Returns:
        The version that now stands for this model.
    """
    tags = lineage.tags()
    same = tracker.find_versions(p.registry.model, {name: tags[name] for name in _IDENTITY})
    verdict = cards.verdict_tag(gate["verdict"]) | {_VERDICT: gate["verdict"]}
    description = cards.description(p.task, gate, evaluation)
    if same:
        version = same[-1]
        # A person may have written another description; it goes where it would tell the wrong verdict.
        if tracker.version_tags(p.registry.model, version).get(_VERDICT) != gate["verdict"]:
            tracker.update_version(p.registry.model, version, verdict, description)
        return Registration(version, created=False)
    with tempfile.TemporaryDirectory(prefix="tuneline-") as temporary:
        folder = Path(temporary) / p.registry.model
        _link(Path(p.paths.finetuned), folder)
        files.write_text(folder / "README.md", cards.model_card(p, lineage, gate, evaluation))
        for name in (params.PARAMS_FILE, "dvc.lock"):
            shutil.copyfile(name, folder / name)
        files.write_parquet(folder / _TRAIN_ROWS, _train_rows(p))
        tags = cards.tags(p, gate["verdict"]) | tags
        tags |= {_FILES: files.sha256_path(folder), "tuneline.run_id": run_id, **verdict}
        version = tracker.create_version(p.registry.model, p.registry.model, run_id, folder, tags, description)
    return Registration(version, created=True)


def _link(model: Path, folder: Path) -> None:
    """Make `folder` with links to the files of a model, which the store takes a copy of."""
    for path in sorted(model.rglob("*")):
        if path.is_file():
            link = folder / path.relative_to(model)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def _train_rows(p: params.Params) -> pa.Table:
    """Which rows the model has seen in fine-tuning, so that a later test leaves them out."""
    clean = Path(p.paths.clean)
    sets = files.read_json(clean / "dataset.json")["mixture"] if p.data.mixture else {}
    seen = [clean / "train", *(clean / sets[name]["path"] for name in sorted(p.data.mixture) if name in sets)]
    if PRETRAINING in p.data.mixture:
        seen.append(Path(p.paths.pretraining) / "train")
    return pa.concat_tables([files.read_parquet(path, ["id", "cluster"]) for path in seen])


def resolve(tracker: Tracker, model: str, *, version: str | None, alias: str) -> str:
    """The version asked for, or the one that `alias` names.

    Raises:
        RegistryError: nothing bears the alias; names the command that sets it.
    """
    if version is not None:
        return version
    found = tracker.version_by_alias(model, alias)
    if found is not None:
        return found
    versions = tracker.find_versions(model, {})
    if not versions:
        raise RegistryError(f"{model}: no version is registered at {tracker.address}; make one with: make run")
    raise RegistryError(
        f"{model}: no version is {alias} yet (registered: {', '.join(versions)}); "
        f"name one in the MLflow UI (make ui → Model registry → {model} → a version → Aliases → {alias}), "
        f"or ask a version by its number: --version {versions[-1]}"
    )


def fetch(tracker: Tracker, model: str, version: str) -> Path:
    """A local folder with the files of a version, each as it was registered; only to be read.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.

    Returns:
        The folder in the store where that is on this machine; else one that is fetched once and then kept.

    Raises:
        RegistryError: there is no such version, or its files are not those that were registered.
    """
    expected = registered_sha256(tracker, model, version)

    def check(found: Path) -> None:
        actual = files.digest(files.sha256_tree(found))
        if actual != expected:
            raise RegistryError(
                f"{model} version {version}: its files have the digest {actual[:12]}…, registered was "
                f"{expected[:12]}…; they were changed or deleted in the store at {tracker.address}; "
                "do not use this version, register the model again"
            )

    in_store = tracker.local_folder(model, version)
    if in_store:
        check(in_store)
        return in_store
    folder = _FETCHED / expected
    if folder.is_dir() and files.sha256_path(folder) == expected:
        return folder
    with files.atomic_folder(folder) as beside:
        tracker.download(model, version, beside)
        check(beside)
    return folder


def registered_sha256(tracker: Tracker, model: str, version: str) -> str:
    """The digest of the files of a version, as it was registered.

    Raises:
        RegistryError: there is no such version, or it names none.
    """
    expected = tracker.version_tags(model, version).get(_FILES)
    if expected is None or not re.fullmatch("[0-9a-f]{64}", expected):
        raise RegistryError(
            f"{model} version {version}: has no sha256 in its tag {_FILES}, so nobody can tell what it should hold"
        )
    return expected


def unseen(folder: Path, ids: Sequence[str], clusters: Sequence[str]) -> list[int]:
    """Places of the rows that a fetched version was not trained on, neither on them nor on others of their clusters.

    Args:
        folder: the version's.
        ids: of the rows.
        clusters: of the rows.
    """
    trained = {name: set(column) for name, column in files.read_parquet(folder / _TRAIN_ROWS).to_pydict().items()}
    rows = enumerate(zip(ids, clusters, strict=True))
    return [place for place, (row, cluster) in rows if row not in trained["id"] and cluster not in trained["cluster"]]
