"""A project with clean rows and versions in a real registry, without a run of the pipeline."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pyarrow as pa
from member_models import make_tokenizer, save
from projects import ROOT

from tuneline import environment, params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, RecordForm
from tuneline.params import editing
from tuneline.registry import mlmodel, tracking, versions
from tuneline.registry.lineage import Lineage

MODEL = "members"
WORDS = ("Where is my parcel?", "Thank you, all is well.", "is it there?", "No, it is my parcel.")
ROWS = 40
TRAINED = range(12)
SPLITS = {"train": TRAINED, "validation": range(12, 20), "test": range(20, 40)}
VERSIONS: dict[str, tuple[str, int, Sequence[int]]] = {
    "first": ("plain", 1, TRAINED),
    "second": ("plain", 2, TRAINED),
    "saw a test row": ("plain", 3, (*TRAINED, 20)),
    "labels": ("single", 1, TRAINED),
}
"""Name -> kind, seed, and the rows that it was trained on. The versions are numbered from 1."""


def number(name: str) -> str:
    """Of a version."""
    return str(list(VERSIONS).index(name) + 1)


def make(root: Path, store: Path) -> None:
    """Make the project in an empty folder."""
    before = Path.cwd()
    os.chdir(root)
    try:
        (root / "mlflow").mkdir()
        (root / environment.ENV_FILE).write_bytes((ROOT / environment.ENV_FILE).read_bytes())
        (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        (root / "dvc.lock").write_text("schema: '2.0'\n")
        values = {"registry.model": MODEL, "finetune.max_length": 48, "evaluate.batch_size": 3, "compute.threads": 1}
        editing.set_values(root / "params.yaml", {**values, "evaluate.bootstrap_resamples": 200})
        mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
        tracker, p = tracking.connect(), params.load()
        for name, (kind, seed, trained) in VERSIONS.items():
            save(kind, seed, Path(p.paths.finetuned), make_tokenizer())
            write_clean(p, {"train": trained})
            assert _register(tracker, p, number(name)) == number(name)
        write_clean(p, SPLITS)
    finally:
        os.chdir(before)


def write_clean(p: params.Params, splits: Mapping[str, Sequence[int]]) -> None:
    """Write the clean splits, which hold these rows."""
    clean = Path(p.paths.clean)
    for split, rows in splits.items():
        texts = [f"{WORDS[row % 4]} {row}" for row in rows]
        keys = {"id": [f"id-{row}" for row in rows], "source": [f"rows:{row}" for row in rows]}
        keys |= {"cluster": [f"group-{row}" for row in rows]}
        table = pa.table(keys | {"prompt": texts, "completion": texts[::-1]})
        files.write_parquet(clean / split / "part-00000.parquet", table)
    files.write_json(clean / DATASET_FILE, RecordForm("prompt-completion").as_json())


def _register(tracker: tracking.Tracker, p: params.Params, digit: str) -> str:
    names = (
        *("fingerprint", "model_sha256", "data_sha256", "base_sha256", "evaluation_sha256", "params_sha256"),
        *("dvc_lock_sha256", "environment_sha256", "git_commit"),
    )
    lineage = Lineage(**dict.fromkeys(names, digit * 64), git_dirty="false")
    git = {"git_commit": "2" * 40, "git_dirty": "false"}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    run_id = tracker.ensure_run(subject, [])
    gate, evaluation = {"verdict": "passed", "rules": []}, {"rows": 1, "candidate": {"token_loss": 1.0}}
    return versions.register(
        tracker, p, lineage, run_id, gate, evaluation, lambda folder: mlmodel.write(folder, p), lambda _: None
    ).version
