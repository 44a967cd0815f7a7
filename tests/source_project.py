"""A project in a git repository, before its first commit, as `register` finds it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from projects import ROOT

from tuneline.core import files
from tuneline.registry import lineage
from tuneline.registry.lineage import Lineage

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


def run(*arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Lineage:
    """The lineage of a project in the working directory, where nothing is committed yet."""
    monkeypatch.chdir(tmp_path)
    # No person's name, no signing, no hooks of this machine: and one of each that would fail.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "work/gitconfig"))
    (tmp_path / "work/hooks").mkdir(parents=True)
    (tmp_path / "work/gitconfig").write_text(
        f"[core]\nhooksPath = {tmp_path}/work/hooks\nautocrlf = true\n[commit]\ngpgsign = true\n"
        "[gpg]\nprogram = false\n"
    )
    for hook in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction"):
        (tmp_path / "work/hooks" / hook).write_text("#!/bin/sh\nexit 1\n")
    Path("params.yaml").write_text(params_text, "utf-8")
    for name in ("dvc.yaml", "requirements.lock", "requirements-torch.lock", ".gitignore"):
        shutil.copyfile(ROOT / name, name)
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    Path("src/tuneline").mkdir(parents=True)
    Path("src/tuneline/code.py").write_bytes(b"1\r\n")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n")
    subprocess.run([*GIT, "init", "--quiet"], check=True)
    digests = {
        "params_sha256": files.sha256_file(Path("params.yaml")),
        "dvc_lock_sha256": files.sha256_file(Path("dvc.lock")),
        "environment_sha256": files.digest([files.sha256_file(Path(name)) for name in lineage.ENVIRONMENT_LOCKS]),
    }
    names = ("fingerprint", "model_sha256", "data_sha256", "base_sha256", "evaluation_sha256")
    return Lineage(**digests, **dict.fromkeys(names, "0" * 64), **lineage.git_state())
