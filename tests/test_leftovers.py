import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project

from tuneline import leftovers


def test_what_dead_processes_were_writing_is_found_and_what_a_living_one_writes_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = gone.stdout.decode().strip()
    for owner in (dead, str(os.getpid())):
        (tmp_path / f"models/.finetuned.{owner}.partial").mkdir(parents=True)
    (tmp_path / f"models/.finetuned.{dead}.partial/weights").write_bytes(b"12345")
    (tmp_path / "models/.other.partial").touch()
    [found] = leftovers.partials(("models/finetuned", "models/base"))
    assert (str(found.path), found.size) == (f"models/.finetuned.{dead}.partial", 5)


def test_only_folders_named_by_a_fingerprint_are_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a" * 64, "tokens", "kept", "prefect"):
        (tmp_path / "work" / name).mkdir(parents=True)
    assert [str(one.path) for one in leftovers.trainings()] == [f"work/{'a' * 64}"]


def test_a_work_folder_that_has_grown_is_named_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert leftovers.warning(0) is None
    for name, size in (("hub/a", 3), ("b" * 64, 2), ("settled.json", 1), ("small", 0)):
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_bytes(b"1" * size)
    (tmp_path / "work/link").symlink_to("/")
    assert leftovers.warning(100) is None
    said = leftovers.warning(5)
    assert said is not None
    assert said.startswith("work/ holds 0.0 GB (work/hub 0.0 GB, work/")
    assert said.endswith("; what no run needs any more is named by: .venv/bin/tuneline gc --dry-run")


@pytest.mark.slow
def test_checkpoints_stay_while_a_training_may_go_on_from_them(project: Project) -> None:
    folder = project.root / "work" / ("b" * 64)
    folder.mkdir(parents=True)
    done = project.tuneline("gc")
    assert done.returncode == 0, done.stderr
    assert f"work/{'b' * 64}: kept, as a training may go on from it" in done.stdout
    assert folder.is_dir()
