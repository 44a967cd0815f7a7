"""A second clone fetches what `make run` has kept, rebuilds nothing, registers the model and answers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project, copy_project
from recipe_samples import lines, make_base, words

from tuneline.core import files

REVISION = "0123456789abcdef" * 2 + "01234567"
KEEP = "to keep what was made: "


def shell(project: Project, command: str) -> str:
    """The output of a command that a person types in the project. `python` is not on the PATH."""
    environment = project.environment() | {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": str(project.root / "work/git")}
    (project.root / "work").mkdir(exist_ok=True)
    (project.root / "work/git").write_text("[user]\nname = t\nemail = t@example.org\n")
    done = subprocess.run(
        command, cwd=project.root, env=environment, shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def into_the_hubs_cache(model: Path, cache: Path) -> None:
    """Store a model folder like a download from the hub: files named by hash, and a snapshot of links."""
    repository = cache / "models--owner--tiny"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for path in sorted(model.iterdir()):
        blob = repository / "blobs" / files.sha256_file(path)
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", ["builtin", "path", "hub"])
def test_a_second_clone_registers_the_same_model_without_training(tmp_path: Path, source: str) -> None:
    rows = [{"prompt": words(f"prompt {n}"), "completion": words(f"completion {n}")} for n in range(200)]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    first = copy_project(tmp_path / "first clone")
    (first.root / ".venv").symlink_to(sys.prefix)
    assert first.tuneline("use", str(tmp_path / "rows.jsonl"), "--name", "mine").returncode == 0
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": -9.0}
    first.set(gate__rules=[rule])
    if source != "builtin":
        make_base("llama", [words(n) for n in range(40)], tmp_path / "tiny")
    if source == "path":
        shutil.copytree(tmp_path / "tiny", first.root / "models/my own")
        first.set(base__source="path", base__input="models/my own")
    if source == "hub":
        into_the_hubs_cache(tmp_path / "tiny", first.root / "work/hub")
        (first.root / "data/base.yaml").write_text(f"id: owner/tiny\nrevision: {REVISION}\n")
        first.set(base__source="hub", base__input="data/base.yaml")
    shell(first, f".venv/bin/dvc remote add --default storage '{tmp_path}/storage'")

    done = first.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    (keep,) = (line.removeprefix(KEEP) for line in done.stdout.splitlines() if line.startswith(KEEP))
    assert keep.startswith(".venv/bin/dvc add 'models/my own' && " if source == "path" else "git add ")
    shell(first, keep)
    assert shell(first, "git status --porcelain") == ""
    assert first.flow().stdout.count(KEEP) == 0

    subprocess.run(["git", "clone", "--quiet", str(first.root), str(tmp_path / "second clone")], check=True)
    second = Project(tmp_path / "second clone")
    (second.root / ".venv").symlink_to(sys.prefix)
    shell(second, ".venv/bin/dvc pull --with-deps check")
    again = second.flow()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "rebuilt: nothing" in again.stdout
    assert "mine version 1 registered" in again.stdout + again.stderr
    assert files.sha256_path(second.root / "models/finetuned") == files.sha256_path(first.root / "models/finetuned")
    answered = second.tuneline("generate", "anything", "--version", "1", "--max-new-tokens", "3")
    assert (answered.returncode, answered.stderr) == (0, "mine version 1 answers\n")
    assert shell(second, "git status --porcelain") == ""
