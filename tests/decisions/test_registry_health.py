"""What `tuneline doctor` says about every version in a real registry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tuneline.decisions import registry_health
from tuneline.decisions.registry_health import Health
from tuneline.params import Params
from tuneline.proofs import keys, signatures
from tuneline.registry import history, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker

GATE: dict[str, Any] = {"verdict": "passed", "rules": []}
OLD = "cannot be rebuilt, as an earlier release that kept no sources in git registered it"


@pytest.fixture(autouse=True)
def address(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")


@pytest.fixture
def home(project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for private keys beside the project."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path.parent / f"{tmp_path.name}-config"))
    monkeypatch.delenv(keys.LOCATION, raising=False)


def register(tracker: Tracker, p: Params, lineage: Lineage, key: keys.PrivateKey | None = None) -> Path:
    """Register the model in the workspace; returns the folder of the version in the store."""
    git = {"git_commit": lineage.git_commit, "git_dirty": lineage.git_dirty}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)

    def complete(folder: Path) -> None:
        if key is not None:
            signatures.sign(folder, key)

    run_id, evaluation = tracker.ensure_run(subject, []), {"rows": 1, "candidate": {"chrf": 1.0}}
    made = versions.register(tracker, p, lineage, run_id, GATE, evaluation, complete, lambda _: None)
    folder = tracker.local_folder(p.registry.model, made.version)
    assert folder
    return folder


def test_each_version_is_one_finding_and_a_broken_one_says_what_to_do(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    folder = register(tracker, project, replace(lineage, model_sha256="9" * 64))
    mlflow.MlflowClient().set_registered_model_alias(model, "champion", "2")
    assert list(registry_health.examine(project)) == [
        Health(f"{model} version 1", ("files unchanged", OLD)),
        Health(f"{model} version 2 (champion)", ("files unchanged", OLD)),
    ]
    weights = folder / "model.safetensors"
    weights.write_bytes(b"Weights")
    _, broken = registry_health.examine(project)
    (problem,) = broken.problems
    assert "they were changed or deleted in MLflow's store; use another version (1) with --version" in problem
    weights.write_bytes(b"weights")
    (folder / "modeling.py").write_text("")
    _, broken = registry_health.examine(project)
    assert "changed or deleted" in broken.problems[0]


def test_signatures_are_verified_where_the_project_has_a_key(
    tracker: Tracker, project: Params, lineage: Lineage, home: None
) -> None:
    register(tracker, project, lineage)
    keys.create("ada")
    key = keys.signing_key()
    assert key
    register(tracker, project, replace(lineage, model_sha256="9" * 64), key)
    unsigned, signed = registry_health.examine(project)
    assert unsigned.found == ("files unchanged", "unsigned, as it was registered without a key", OLD)
    assert signed.found == ("files unchanged", "signed by a trusted key", OLD)
    (keys.TRUSTED / "ada.pub").unlink()
    keys.create("bob")
    assert any("key" in problem for problem in list(registry_health.examine(project))[1].problems)


def test_missing_sources_and_an_erased_version_are_told(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    folder = register(tracker, project, lineage)
    tracker.update_version(model, "1", {"tuneline.source_commit": "3" * 40})
    (found,) = registry_health.examine(project)
    assert found.problems
    assert "333333333333" in found.problems[0]
    # A tag alone could hide damage.
    tracker.update_version(model, "1", {"tuneline.erased": "2026-01-01T00:00:00"})
    (found,) = registry_health.examine(project)
    assert [problem.partition(",")[0] for problem in found.problems] == [
        "its tag tuneline.erased says that it was erased",
        "it is erased",
    ]
    assert folder.is_dir()
    tracker.erase_version_files(model, "1")
    history.append(tracker, model, action=history.ERASED, after="1", reason="customer=42")
    erased, past = registry_health.examine(project)
    assert erased == Health(
        f"{model} version 1", ("erased: rows that it was trained on were erased, so its files are gone",)
    )
    assert past == Health(f"the history of {model}", ("1 entry",))
    mlflow.MlflowClient().delete_run(history.read(tracker, model).entries[0].run_id)
    assert list(registry_health.examine(project))[-1].problems


def test_a_registry_that_cannot_be_reached_is_one_finding(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    # What other tests have set in this process would win; and it deletes the variable.
    mlflow.set_tracking_uri(None)  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    (found,) = registry_health.examine(project)
    assert found.subject == "the registry"
    (problem,) = found.problems
    assert "does not answer" in problem
    assert "secret" not in problem


def test_no_registry_is_made_to_look_at_it(project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/absent.db")
    assert list(registry_health.examine(project)) == []
    assert not (tmp_path / "absent.db").exists()
