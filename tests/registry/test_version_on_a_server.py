"""A version whose files a server keeps: MLflow adds a file to what it downloads, and single files can be read."""

from pathlib import Path

import mlflow
import pytest
from mlflow_server import server
from test_versions import EVALUATION, GATE

from tuneline import params
from tuneline.registry import mlmodel, tracking, version_files, versions
from tuneline.registry.lineage import Lineage

__all__ = ["server"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_version_with_an_mlmodel_is_fetched_and_read(server: str, project: params.Params, lineage: Lineage) -> None:
    mlflow.set_tracking_uri(server)
    tracker, model = tracking.connect(), project.registry.model
    git = {"git_commit": lineage.git_commit, "git_dirty": "false"}
    subject = versions.training_subject(project, fingerprint="f", data_sha256="b", base_sha256="c", git=git)

    def complete(folder: Path) -> None:
        mlmodel.write(folder, project)

    run_id = tracker.ensure_run(subject, [])
    made = versions.register(tracker, project, lineage, run_id, GATE, EVALUATION, complete, lambda _: None)
    assert made.version == "1"
    assert tracker.read_file(model, "1", params.PARAMS_FILE) == Path(params.PARAMS_FILE).read_bytes()
    assert tracker.read_file(model, "1", "claims.jsonl") is None
    assert tracker.version_metrics(model, "1")["bits_per_byte"] == 1.5
    folder = versions.fetch_version(tracker, model, "1")
    assert (folder / version_files.ADDED_BY_MLFLOW[0]).is_file()
    mlmodel.check_files(folder)
    assert versions.find_damage(tracker, model, "1") is None
