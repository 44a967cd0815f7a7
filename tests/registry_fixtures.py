"""A project folder of its own with a fresh MLflow store on SQLite, and a tiny model in it."""

from pathlib import Path

import mlflow
import pyarrow as pa
import pytest

from tuneline import params
from tuneline.core import files
from tuneline.registry import tracking
from tuneline.registry.lineage import Lineage


@pytest.fixture
def tracker(store: Path) -> tracking.Tracker:
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    return tracking.connect()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> params.Params:
    """The params of a project in the working directory, with a model and a train split."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text.replace("model: docstring-writer", f"model: {tmp_path.name}"), "utf-8")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    p = params.load()
    finetuned = Path(p.paths.finetuned)
    finetuned.mkdir(parents=True)
    (finetuned / "config.json").write_text("{}")
    (finetuned / "model.safetensors").write_bytes(b"weights")
    files.write_parquet(
        Path(p.paths.clean) / "train/part-00000.parquet", pa.table({"id": ["1", "2", "3"], "cluster": ["a", "b", "a"]})
    )
    return p


@pytest.fixture
def lineage() -> Lineage:
    return Lineage(
        fingerprint="f" * 64,
        model_sha256="a" * 64,
        data_sha256="b" * 64,
        base_sha256="c" * 64,
        evaluation_sha256="d" * 64,
        params_sha256="e" * 64,
        dvc_lock_sha256="0" * 64,
        environment_sha256="1" * 64,
        git_commit="2" * 40,
        git_dirty="false",
    )
