"""A run with variants of training rows: they are registered with the model, pushed, and built again elsewhere."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from projects import Project, copy_project
from recipe_samples import lines
from tiny_translators import WORDS, write_t5

from tuneline.core import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
HAS_EXTRA = all(importlib.util.find_spec(name) for name in ("glitchlings", "rjieba"))
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
TRANSLATED = {"back_translation": {"other": {"weight": 1.0, "model": "models/there", "back": "models/back"}}}
OF_EXTRA: dict[str, Any] = {
    "noise": {"word_dropout": {"weight": 0.5, "p": 0.2}, "word_swap": {"weight": 0.5, "p": 0.2}},
    "synonyms": {"own": {"weight": 0.5, "p": 0.5, "table": "data/words.csv"}},
}


def words(seed: str, count: int) -> str:
    return " ".join(f"w{number}" for number in random.Random(seed).choices(range(WORDS), k=count))


def git(project: Project, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=project.root, capture_output=True, text=True, check=True).stdout


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_model_with_variants_is_registered_and_built_again_elsewhere(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "first")
    (project.root / ".venv").symlink_to(sys.prefix)
    rows = [{"prompt": words(f"p{n}", 3 + n % 4), "completion": words(f"c{n}", 9)} for n in range(150)]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    succeed(project.tuneline("use", str(tmp_path / "rows.jsonl"), "--name", "mine"))
    for number, name in enumerate(("there", "back")):
        write_t5(project.root / "models" / name, seed=number)
    (project.root / "data/words.csv").write_text("".join(f"w{n},x{n}\n" for n in range(WORDS)))
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": -9.0}
    augment = TRANSLATED | (OF_EXTRA if HAS_EXTRA else {})
    project.set(gate__rules=[rule], data__augment=augment, data__near_duplicates=None)
    project.set(finetune__num_train_epochs=1, finetune__max_truncated_fraction=1.0)
    succeed(project.run("-m", "dvc", "add", "--quiet", "models/there", "models/back"))
    run = succeed(project.flow())
    assert "mine version 1" in run
    told = files.read_json(project.root / "reports/training.json")["mixture"]
    names = {name for group in augment.values() for name in group}
    assert told.keys() == {"raw", *names}
    assert all(one["shown"] for one in told.values())
    page = (project.root / "reports/index.html").read_text("utf-8")
    assert all(f"Variants of training rows: {name}" in page for name in names)
    assert "rebuilt: nothing" in succeed(project.flow())

    # Another clone fetches what the stages need and builds the same bytes.
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "origin.git")], check=True)
    git(project, "remote", "add", "origin", str(tmp_path / "origin.git"))
    succeed(project.run("-m", "dvc", "remote", "add", "--quiet", "--default", "storage", str(tmp_path / "storage")))
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "variants")
    git(project, "push", "--quiet", "origin", "HEAD")
    succeed(project.tuneline("push"))
    remote = (tmp_path / "origin.git").as_uri()
    subprocess.run(["git", "clone", "--quiet", remote, str(tmp_path / "second")], check=True)
    second = Project(tmp_path / "second")
    (second.root / ".venv").symlink_to(sys.prefix)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow/store/mlflow.db"}
    succeed(second.tuneline("pull", **store))
    again = succeed(second.tuneline("reproduce", "1", **store))
    assert "identical: mine version 1 was built again, byte by byte" in again

    # Without them their folders go, and the model is another one.
    project.set(data__augment={})
    without = succeed(project.flow())
    assert all(f"data/clean-augmented/{name}: removed" in without for name in names)
    assert "mine version 2" in without
    assert os.listdir(project.root / "data/clean-augmented") == ["README.md"]  # noqa: PTH208


@pytest.mark.skipif(HAS_EXTRA, reason="the extra is installed")
def test_without_the_libraries_no_stage_runs(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    project.set(data__augment={"noise": {"word_swap": {"weight": 1.0, "p": 0.1}}})
    done = project.flow()
    assert done.returncode == 1
    assert "data.augment.noise.word_swap: needs glitchlings and rjieba, which are not installed" in done.stdout
    assert not (project.root / "dvc.lock").exists()
