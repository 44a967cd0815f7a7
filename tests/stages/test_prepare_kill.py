"""A kill at any moment leaves nothing half-written, and the next run gives the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import data_project
import pytest

from tuneline.core import files

ROOT = Path(__file__).resolve().parents[2]


def run(project: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"TUNELINE_ROOT": str(project)}
    return subprocess.Popen([sys.executable, "-m", "tuneline.stages", "prepare"], cwd=project, env=environment)


def results(project: Path) -> dict[str, dict[str, str]]:
    return {name: files.sha256_tree(project / name) for name in ("data/clean", "data/pretraining", "reports")}


def complete(found: dict[str, str]) -> dict[str, str]:
    """The files without those that a killed write has left; the next run removes them."""
    return {name: sha256 for name, sha256 in found.items() if not name.endswith(".partial")}


def test_prepare_after_a_kill_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data_project.make(params_text, ROOT / "data/expectations")
    shutil.copytree(ROOT / "mlflow", tmp_path / "mlflow", ignore=shutil.ignore_patterns("store"))
    rows = [{"prompt": f"f{n}", "completion": data_project.sentence(n), "module": f"m{n % 50}"} for n in range(20_000)]
    data_project.write_rows(Path("data/raw/python-docstrings/pairs.jsonl"), rows)
    assert run(tmp_path).wait() == 0
    whole = results(tmp_path)
    for moment in (0.05, 0.3, 0.8):
        killed = run(tmp_path)
        while not list((tmp_path / "data").glob(".clean-work.*")) and killed.poll() is None:
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert {name: complete(found) for name, found in results(tmp_path).items()} == whole
    assert run(tmp_path).wait() == 0
    assert results(tmp_path) == whole
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name.startswith(".")] == []
