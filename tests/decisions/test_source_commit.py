"""The commit that holds what a version was made from, and the ref that keeps it."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from source_project import run

from tuneline import git, params
from tuneline.core import files
from tuneline.decisions import source_commit
from tuneline.errors import RegistryError
from tuneline.registry import lineage
from tuneline.registry.lineage import Lineage


def state() -> tuple[str, ...]:
    """HEAD, the index and the working tree."""
    index = Path(".git/index")
    return (
        Path(".git/HEAD").read_text(),
        run("for-each-ref"),
        files.sha256_file(index) if index.exists() else "",
        str(files.sha256_tree(Path("src"))),
    )


def test_a_dirty_tree_is_kept_as_it_is_and_stays_as_it_is(origin: Lineage) -> None:
    p = params.load()
    shutil.rmtree("work/hooks")
    run("add", "--all")
    run("commit", "--quiet", "--no-gpg-sign", "--message", "start")
    Path("src/tuneline/code.py").write_bytes(b"2\r\n")
    Path("src/tuneline/new module.py").write_text("new")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/名.dvc").write_text("outs: []\n")
    Path("secret.txt").write_text("a person's own")
    Path("src/tuneline/staged.py").write_text("staged")
    run("add", "src/tuneline/staged.py")
    before = state()
    commit = source_commit.make(p, origin)
    assert state() == before
    assert run("rev-parse", f"{commit}^") == run("rev-parse", "HEAD")
    assert git.content_of(commit, "src/tuneline/code.py") == b"2\r\n"
    held = set(git.files_of(commit))
    assert {"src/tuneline/new module.py", "src/tuneline/staged.py", "data/raw/名.dvc", "dvc.lock"} <= held
    assert "secret.txt" not in held
    assert source_commit.make(p, origin) == commit, "the same tree gives the same commit"


def test_a_clean_tree_has_its_commit_already(origin: Lineage) -> None:
    p = params.load()
    shutil.rmtree("work/hooks")
    run("-c", "core.autocrlf=false", "add", "--all")
    run("commit", "--quiet", "--no-gpg-sign", "--message", "start")
    assert source_commit.make(p, origin) == run("rev-parse", "HEAD")


def test_before_the_first_commit_of_a_repository(origin: Lineage) -> None:
    before = state()
    commit = source_commit.make(params.load(), origin)
    assert state() == before
    assert run("rev-list", "--count", commit) == "1"
    assert {"src/tuneline/code.py", "dvc.lock", "params.yaml", ".dvc/config"} <= set(git.files_of(commit))


def test_in_a_linked_worktree_and_below_the_root_of_a_repository(origin: Lineage, tmp_path: Path) -> None:
    Path("a.txt").write_text("beside the project")
    shutil.rmtree("work/hooks")
    run("add", "a.txt")
    run("commit", "--quiet", "--no-gpg-sign", "--message", "start")
    run("worktree", "add", "--quiet", str(tmp_path / "work/linked"))
    inside = tmp_path / "work/linked/below/project"
    inside.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock", "requirements-torch.lock"):
        shutil.copyfile(name, inside / name)
    os.chdir(inside)
    commit = source_commit.make(params.load(), origin)
    assert git.files_of(commit) == sorted(("dvc.lock", "dvc.yaml", "params.yaml", *lineage.ENVIRONMENT_LOCKS))
    assert run("ls-tree", "--name-only", "--full-tree", commit).split() == ["a.txt", "below"]


def test_passwords_stay_here(origin: Lineage) -> None:
    Path(".dvc/config").write_text("[core]\nremote = s\n['remote \"s\"']\nurl = s3://b\nsecret_access_key = hidden\n")
    Path("mlflow").mkdir()
    Path("mlflow/tuneline.env").write_text("MLFLOW_TRACKING_URI=http://me:hidden@mlflow.example\n")
    held = git.files_of(source_commit.make(params.load(), origin))
    assert ".dvc/config" not in held
    assert "mlflow/tuneline.env" not in held


def test_passwords_in_a_file_of_git_stay_here_whatever_its_line_ends(origin: Lineage) -> None:
    shutil.rmtree("work/hooks")
    Path(".gitattributes").write_text("* text=auto\n")
    run("add", ".dvc/config", ".gitattributes")
    run("commit", "--quiet", "--no-gpg-sign", "--message", "start")
    Path(".dvc/config").write_bytes(b"[core]\r\nremote = s\r\n['remote \"s\"']\r\nsecret_access_key = hidden\r\n")
    assert git.content_of(source_commit.make(params.load(), origin), ".dvc/config") == b"[core]\n"


def test_what_git_ignores_is_kept_where_a_version_needs_it(origin: Lineage) -> None:
    Path(".gitignore").write_text("*.lock\n*.dvc\n/work/\n")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/mine.dvc").write_text("outs: []\n")
    held = git.files_of(source_commit.make(params.load(), origin))
    assert {"dvc.lock", "requirements.lock", "data/raw/mine.dvc"} <= set(held)


def test_a_file_that_changes_meanwhile_is_refused(origin: Lineage) -> None:
    p = params.load()
    with Path("params.yaml").open("a") as file:
        file.write("\n")
    with pytest.raises(RegistryError, match=r"params\.yaml: commit [0-9a-f]{12} holds the sha256 "):
        source_commit.make(p, origin)


@pytest.mark.parametrize("model", ["plain", "a..b", "ends.", "my.lock", "v1.2"])
def test_every_name_of_a_model_gives_a_ref(model: str) -> None:
    name = source_commit.ref_name(model, "3")
    assert subprocess.run(["git", "check-ref-format", name], check=False).returncode == 0
    assert source_commit.ref_name("v1.2", "3") == "refs/tuneline/v1.2/v3"


def test_a_ref_that_another_registry_has_given_away_gets_a_longer_name() -> None:
    name, one, other = "refs/tuneline/m/v1", "a" * 40, "b" * 40
    assert source_commit.free_name(name, one, {}) == name
    assert source_commit.free_name(name, one, {name: one}) is None
    assert source_commit.free_name(name, one, {name: other}) == f"{name}-{'a' * 12}"
    assert source_commit.free_name(name, one, {name: other, f"{name}-{'a' * 12}": one}) is None


def test_a_commit_is_checked_out_elsewhere_and_what_a_kill_left_is_removed(origin: Lineage, tmp_path: Path) -> None:
    commit = source_commit.make(params.load(), origin)
    before = state()
    places = [tmp_path / f"work/temporary/{name}/model" for name in ("first", "second")]
    for place in places:
        place.parent.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), git.worktree(commit, places[0], keep=True) as folder:
        # With the line ends of the original, and without the hook that fails.
        assert (folder / "src/tuneline/code.py").read_bytes() == b"1\r\n"
        raise KeyboardInterrupt
    assert not places[0].exists()
    with git.worktree(commit, places[0], keep=True):
        pass
    assert (places[0] / "dvc.lock").is_file()
    # Now as after a kill: the folder was removed, and git still has its entry.
    shutil.rmtree(places[0])
    with git.worktree(commit, places[1]):
        assert len(run("worktree", "list").splitlines()) == 2
    assert not places[1].exists()
    assert state() == before


@pytest.mark.parametrize("attributes", ["* text=auto\n", "*.yaml text eol=crlf\n", "*.yaml text\n*.py text\n"])
def test_attributes_of_line_ends_do_not_change_the_bytes_that_are_kept(origin: Lineage, attributes: str) -> None:
    shutil.rmtree("work/hooks")
    Path(".gitattributes").write_text(f"{attributes}*.lfs filter=lfs\n")
    Path("src/filtered.lfs").write_bytes(b"5\r\n")
    run("config", "filter.lfs.clean", "cat >&2; echo pointer")
    Path("src/tuneline/name with\n newline.py").write_bytes(b"3\r\n4\n")
    crlf = Path("params.yaml").read_bytes().replace(b"\n", b"\r\n")
    Path("params.yaml").write_bytes(crlf)
    p = params.load()
    commit = source_commit.make(p, replace(origin, params_sha256=files.sha256_file(Path("params.yaml"))))
    assert git.content_of(commit, "params.yaml") == crlf
    assert git.content_of(commit, "src/tuneline/code.py") == b"1\r\n"
    assert git.content_of(commit, "src/tuneline/name with\n newline.py") == b"3\r\n4\n"
    assert git.content_of(commit, "src/filtered.lfs") == b"pointer\n"
    with git.worktree(commit, Path("work/there").absolute()) as folder:
        assert (folder / "params.yaml").read_bytes() == crlf


def test_the_variables_of_a_hook_do_not_lead_to_another_place(origin: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git sets them for its hooks, and with them it takes the working directory for the top of the repository."""
    shutil.rmtree("work/hooks")
    Path("below/src").mkdir(parents=True)
    Path("below/src/code.py").write_text("1")
    monkeypatch.chdir("below")
    monkeypatch.setenv("GIT_DIR", "../.git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    commit = git.commit_working_tree("message", more=[], is_wanted=lambda path: True)
    assert git.files_of(commit) == ["src/code.py"]
    assert [change.path for change in git.changed_files()] == ["src/code.py"]
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert run("ls-tree", "-r", "--name-only", "--full-tree", commit) == "below/src/code.py"
