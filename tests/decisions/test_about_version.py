"""Which ref of this clone holds the sources of a version."""

import subprocess
from pathlib import Path

import pytest

from tuneline.decisions import about_version, source_commit


def run_git(*arguments: str) -> str:
    person = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *person, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_ref_is_the_one_that_points_to_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_git("init", "--quiet")
    shas = []
    for message in ("of another registry", "own", "kept by no ref"):
        run_git("commit", "--quiet", "--allow-empty", "-m", message)
        shas.append(run_git("rev-parse", "HEAD"))
    usual = source_commit.ref_name("writer", "1")
    longer = f"{usual}-{shas[1][:12]}"
    run_git("update-ref", usual, shas[0])
    run_git("update-ref", longer, shas[1])
    found = [about_version._ref("writer", "1", sha) for sha in (*shas, None)]
    assert found == [usual, longer, None, None]
