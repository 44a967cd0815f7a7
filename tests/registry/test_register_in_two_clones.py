"""Two clones that register the same model at the same time, on one server."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow_server import server

from tuneline.registry import tracking, versions

__all__ = ["server"]

CLONE = """
import sys, time
from pathlib import Path
import mlflow, pyarrow as pa
from tuneline.core import files; from tuneline import params
from tuneline.registry import tracking, versions
from tuneline.registry.lineage import Lineage
Path("params.yaml").write_text(sys.argv[1])
Path("dvc.lock").write_text("schema: '2.0'")
p = params.load()
files.write_text(Path(p.paths.finetuned) / "config.json", "{}")
(Path(p.paths.finetuned) / "model.safetensors").write_bytes(b"w" * 100_000)
files.write_parquet(Path(p.paths.clean) / "train/part-00000.parquet", pa.table({"id": ["1"], "cluster": ["a"]}))
names = ("fingerprint", "model_sha256", "data_sha256", "base_sha256", "evaluation_sha256", "params_sha256")
names += ("dvc_lock_sha256", "environment_sha256", "git_commit")
tracker = tracking.connect()
for turn in range(5):
    lineage = Lineage(**{name: str(turn) * 64 for name in names}, git_dirty="false")
    git = {"git_commit": "2", "git_dirty": "false"}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    run = tracker.ensure_run(subject, [])
    Path(f"ready-{turn}").touch()
    while not Path(f"../go-{turn}").exists():
        time.sleep(0.005)
    gate = {"verdict": "passed", "rules": []}
    evaluation = {"rows": 1, "candidate": {"accuracy": 1.0}}
    made = versions.register(tracker, p, lineage, run, gate, evaluation, lambda _: None, lambda _: None)
    print(made, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_clones_that_register_at_once_make_one_version(
    server: str, tmp_path: Path, params_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": server,
        "PYTHONPATH": str(Path(versions.__file__).parents[2]),
    }
    clones = [tmp_path / name for name in ("first", "second")]
    running = []
    for clone in clones:
        clone.mkdir()
        text = params_text.replace("model: docstring-writer", "model: together")
        command = [sys.executable, "-c", CLONE, text]
        running.append(
            subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    for turn in range(5):
        while not all((clone / f"ready-{turn}").exists() for clone in clones):
            assert all(one.poll() is None for one in running), running[0].stderr.read()  # pyright: ignore[reportOptionalMemberAccess]
            time.sleep(0.005)
        (tmp_path / f"go-{turn}").touch()
    printed = []
    for one in running:
        out, err = one.communicate(timeout=300)
        assert one.returncode == 0, err.decode()
        printed.append(re.findall(r"^Registration\(version='(\d+)'", out.decode(), re.MULTILINE))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    mlflow.set_tracking_uri(server)
    tracker = tracking.connect()
    monkeypatch.chdir(clones[0])
    left = []
    for turn in range(5):
        same = tracker.find_versions("together", {name: str(turn) * 64 for name in versions.IDENTITY})
        assert len(same) == 1
        assert versions.find_damage(tracker, "together", same[0]) is None
        left += same
    assert printed == [left, left]
    assert tracker.find_versions("together", {}) == left
