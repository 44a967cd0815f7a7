import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from projects import Project, entered

from tuneline.commands import garbage
from tuneline.core import files
from tuneline.processes import Identity


def test_partial_files_of_dead_processes_are_found_and_those_of_living_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for left in ("models/.finetuned.1234.partial", f"models/.finetuned.{'0a' * 6}.partial", "work/temporary/abc"):
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "weights").write_bytes(b"12345")
    (tmp_path / "models/.other.partial").touch()
    with files.atomic_folder(tmp_path / "models/base"), files.atomic_file(tmp_path / "work/a"):
        found = list(garbage.partials(("models/finetuned", "models/base", "work")))
    assert [(str(one.path), one.size) for one in found] == [
        (f"models/.finetuned.{'0a' * 6}.partial", 5),
        ("models/.finetuned.1234.partial", 5),
        ("work/temporary/abc", 5),
    ]


def test_the_only_copy_of_a_folder_is_not_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What a kill between the two renames of a replacement leaves: the old set has only its temporary name.
    for name in (f".mine.{'0a' * 6}.replaced", f".mine.{'0b' * 6}", f".other.{'0c' * 6}.replaced"):
        (tmp_path / "data/raw" / f"{name}.partial").mkdir(parents=True)
    (tmp_path / "data/raw/other").mkdir()
    found = [leftover.path.name for leftover in garbage.partials(("data/raw/mine",))]
    assert found == [f".mine.{'0b' * 6}.partial", f".other.{'0c' * 6}.replaced.partial"]


def test_only_folders_named_by_a_fingerprint_are_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a" * 64, "tokens", "kept", "prefect"):
        (tmp_path / "work" / name).mkdir(parents=True)
    assert [str(one.path) for one in garbage.trainings()] == [f"work/{'a' * 64}"]


def test_checkpoints_are_kept_if_a_training_may_resume_from_them() -> None:
    assert garbage.needed(1.0, [], 2.0, []) is None
    assert garbage.needed(1.0, ["base", "finetune"], 2.0, []) == (
        "because a training may resume from it (base, finetune is stale)"
    )
    newer = "because it is newer than the newest training that has finished according to MLflow"
    assert garbage.needed(3.0, [], 2.0, []) == newer
    assert garbage.needed(1.0, [], None, []) == newer
    assert garbage.needed(1.0, [], 2.0, ["one", "two", "three", "four", "five"]) == (
        "because a training of another git branch may resume from it (one, two, three and 2 more has a different "
        "params.yaml); to delete it, run: .venv/bin/tuneline gc --other-branches"
    )


def test_other_branches_are_unmerged_and_have_different_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert garbage.branches_with_other_params() == []

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)

    git("init", "--quiet", "--initial-branch", "main")
    for branch, text in (("main", "1"), ("merged", "2"), ("main", "2"), ("other", "3"), ("same", "3"), ("same", "4")):
        if branch != "main":
            git("checkout", "--quiet", "-B", branch)
        Path("params.yaml").write_text(text)
        git("add", "params.yaml")
        git("commit", "--quiet", "--allow-empty", "--message", "x")
    git("checkout", "--quiet", "merged")
    assert garbage.branches_with_other_params() == ["other", "same"]
    Path("params.yaml").write_text("4")
    assert garbage.branches_with_other_params() == ["other"]


def test_the_warning_about_a_large_work_folder_names_its_largest_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert garbage.warning(0) is None
    for name, size in (("hub/a", 3), ("b" * 64, 2), ("settled.json", 1), ("small", 0)):
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_bytes(b"1" * size)
    (tmp_path / "work/link").symlink_to("/")
    assert garbage.warning(100) is None
    said = garbage.warning(5)
    assert said is not None
    assert said.startswith("work/ holds 0.0 GB (work/hub 0.0 GB, work/")
    assert said.endswith("; to list what no run needs any more: .venv/bin/tuneline gc --dry-run")


@pytest.mark.slow
def test_gc_keeps_checkpoints_of_an_unfinished_project(project: Project) -> None:
    folder = project.root / "work" / ("b" * 64)
    folder.mkdir(parents=True)
    done = project.tuneline("gc")
    assert done.returncode == 0, done.stderr
    assert f"work/{'b' * 64}: 0.0 MB, kept, because a training may resume from it" in done.stdout
    assert folder.is_dir()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gc_deletes_leftovers_of_a_finished_project_and_nothing_else(project: Project) -> None:
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    work, year_ago = project.root / "work", time.time() - 365 * 86400
    older, newer = (work / (letter * 64) for letter in "ab")
    for folder in (older, newer):
        (folder / "checkpoint-300").mkdir(parents=True)
        (folder / "checkpoint-300" / "weights").write_bytes(b"w" * 2_000_000)
    for path in (*older.rglob("*"), older):
        os.utime(path, (year_ago, year_ago))
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        maker = json.dumps(asdict(Identity.of_process(process.pid)))
    partial = project.root / f"models/.finetuned.{process.pid}.partial"
    partial.mkdir()
    (partial / "half").write_bytes(b"h" * 1_000_000)
    with entered(project.root):
        from tuneline.registry import tracking

        tracker, model = tracking.connect(), "docstring-writer"
        tags = {"tuneline.maker": maker}
        logged = tracker._client.create_logged_model(tracker._experiment(model), name=model, tags=tags)
        copy = tracker._on_this_machine(logged)
        assert copy is not None
        copy.mkdir(parents=True)
        (copy / "weights").write_bytes(b"c" * 3_000_000)
    subprocess.run(["git", "checkout", "--quiet", "-b", "wider"], cwd=project.root, check=True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    text = (project.root / "params.yaml").read_bytes()
    project.set(compute__threads=2)
    subprocess.run([*git, "commit", "--quiet", "--message", "w", "params.yaml"], cwd=project.root, check=True)
    subprocess.run(["git", "checkout", "--quiet", "-"], cwd=project.root, check=True)
    assert (project.root / "params.yaml").read_bytes() == text

    kept = project.tuneline("gc")
    assert kept.returncode == 0, kept.stderr
    assert (
        f"work/{'a' * 64}: 2.0 MB, kept, because a training of another git branch may resume from it (wider "
        in kept.stdout
    )
    assert f"work/{'b' * 64}: 2.0 MB, kept, because it is newer than the newest training " in kept.stdout
    assert kept.stdout.endswith("\nfreed: 4.0 MB\n")
    assert f"{copy.relative_to(project.root)}: 3.0 MB, from a killed register\n" in kept.stdout
    assert [older.is_dir(), newer.is_dir(), partial.exists(), copy.exists()] == [True, True, False, False]

    said = project.tuneline("gc", "--dry-run", "--other-branches").stdout
    assert said.endswith("\nto free: 2.0 MB\n")
    assert "checkpoint-300 of a training that stopped on " in said
    assert older.is_dir()
    assert project.tuneline("gc", "--other-branches").stdout.endswith("\nfreed: 2.0 MB\n")
    assert [older.is_dir(), newer.is_dir()] == [False, True]

    again = project.flow()
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("nothing is stale, and the gate has already decided ")
    assert project.tuneline("exec", "--", "dvc", "status").stdout.strip().endswith("up to date.")
    answer = project.tuneline("generate", "def f(x):", "--version", "1", "--max-new-tokens", "4")
    assert answer.returncode == 0, answer.stderr
