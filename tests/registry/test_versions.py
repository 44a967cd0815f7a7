from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tuneline.errors import RegistryError
from tuneline.params import Params
from tuneline.registry import versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker

GATE = {
    "verdict": "passed",
    "rules": [{"metric": "bits_per_byte", "reason": "Bits per byte is better.", "verdict": "passed"}],
}
EVALUATION = {"rows": 3, "candidate": {"bits_per_byte": 1.5, "chrf": 20.0}, "base": {"bits_per_byte": 2.0, "chrf": 5.0}}


def register(tracker: Tracker, p: Params, lineage: Lineage, gate: dict[str, Any] = GATE) -> versions.Registration:
    git = {"git_commit": lineage.git_commit, "git_dirty": lineage.git_dirty}
    subject = versions.subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    return versions.register(tracker, p, lineage, tracker.ensure_run(subject, []), gate, EVALUATION)


def test_the_same_model_data_and_evaluation_is_one_version(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    assert register(tracker, project, lineage) == versions.Registration("1", created=True)
    other = replace(lineage, model_sha256="9" * 64)
    assert register(tracker, project, other) == versions.Registration("2", created=True)
    assert register(tracker, project, lineage) == versions.Registration("1", created=False)


def test_another_verdict_on_the_same_model_is_told_and_a_persons_words_else_stay(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    def describe() -> str | None:
        return mlflow.MlflowClient().get_model_version(project.registry.model, version).description

    version = register(tracker, project, lineage).version
    mlflow.MlflowClient().update_model_version(project.registry.model, version, "Mine.")
    register(tracker, project, lineage)
    assert describe() == "Mine."
    register(tracker, project, lineage, GATE | {"verdict": "undecided"})
    assert str(describe()).startswith("Undecided: Bits per byte 1.500 (base: 2.000)")
    tags = tracker.version_tags(project.registry.model, version)
    assert (tags["1 verdict"], tags["tuneline.verdict"]) == ("undecided", "undecided")


def test_a_version_is_a_folder_with_card_params_and_lock(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    version = register(tracker, project, lineage).version
    folder = versions.fetch(tracker, project.registry.model, version)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "dvc.lock",
        "model.safetensors",
        "params.yaml",
        "train-rows.parquet",
    ]
    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "| candidate | 1.500 | 20.000 |" in card
    assert "b" * 64 in card
    assert versions.unseen(folder, ["1", "7", "8", "9"], ["z", "a", "z", "y"]) == [2, 3]


def test_a_version_carries_its_lineage_and_verdict_as_tags(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    version = register(tracker, project, lineage).version
    tags = tracker.version_tags(project.registry.model, version)
    assert lineage.tags().items() <= tags.items()
    assert tags["tuneline.verdict"] == "passed"
    assert mlflow.get_run(tags["tuneline.run_id"]).data.tags["tuneline.fingerprint"] == lineage.fingerprint


def test_changed_files_in_the_store_are_refused(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path
) -> None:
    version = register(tracker, project, lineage).version
    card = next(path for path in store.rglob("README.md") if project.registry.model in path.read_text())
    (card.parent / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(RegistryError, match="were changed or deleted in the store"):
        versions.fetch(tracker, project.registry.model, version)
    assert not list(Path("work/models").glob("*"))


def test_a_store_on_this_machine_is_read_in_place_and_keeps_a_copy_of_its_own(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path
) -> None:
    version = register(tracker, project, lineage).version
    folder = versions.fetch(tracker, project.registry.model, version)
    assert folder.is_relative_to(store)
    assert not Path("work/models").exists()
    weights = folder / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.stat().st_nlink == 1
    (Path(project.paths.finetuned) / "model.safetensors").write_bytes(b"damaged")
    assert weights.read_bytes() == b"weights"


def test_the_champion_is_found_by_its_alias(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    with pytest.raises(RegistryError, match=r"no version is registered .*make run"):
        versions.resolve(tracker, model, version=None, alias="champion")
    version = register(tracker, project, lineage).version
    with pytest.raises(RegistryError, match=r"no version is champion yet \(registered: 1\).*Aliases.*--version 1"):
        versions.resolve(tracker, model, version=None, alias="champion")
    mlflow.MlflowClient().set_registered_model_alias(model, "champion", version)
    assert versions.resolve(tracker, model, version=None, alias="champion") == version


def test_a_version_that_is_not_there_names_those_that_are(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    register(tracker, project, lineage)
    with pytest.raises(RegistryError, match=r"version 7: not in the registry .*there are versions 1"):
        versions.fetch(tracker, project.registry.model, "7")
