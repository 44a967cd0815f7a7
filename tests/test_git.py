"""A git that refuses to answer is reported with the remedy; a folder without a repository is not a fault."""

import shutil
import subprocess
from pathlib import Path

import pytest
from projects import ROOT

from tuneline import git, params
from tuneline.decisions import git_steps
from tuneline.errors import GitError
from tuneline.pipeline import dvc_files, repro
from tuneline.registry import lineage

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    """A project whose base would lie over a file of git's."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    Path("models/base").mkdir(parents=True)
    Path("models/base/kept").write_text("a person's own")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    analytics = false\n")
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "start"]):
        subprocess.run([*GIT, *arguments], check=True)
    return tmp_path


@pytest.fixture(params=["ownership", "index", "no git", "head", "config"])
def refusal(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Make git refuse: a part of its message, and the end of the remedy."""
    match request.param:
        case "ownership":
            monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
            return "detected dubious ownership", f"git config --global --add safe.directory {root}"
        case "index":
            Path(".git/index").write_bytes(b"\0" * 40)
            return "index file corrupt", "rm .git/index && git reset"
        case "no git":
            monkeypatch.setenv("PATH", str(root / "models"))
            return "git cannot be run (No such file or directory)", "install git, or put it on the PATH"
        case "head":
            Path(".git/HEAD").unlink()
            return f"although {root}/.git exists", "restore it, or move it away"
        case _:
            Path(".git/config").write_text("[core")
            return "bad config line", "check with: git status"


def test_where_git_refuses_nothing_is_deleted(root: Path, refusal: tuple[str, str]) -> None:
    with pytest.raises(GitError) as caught:
        repro.refuse_unsafe_outputs(params.load())
    problem, consequence = caught.value.problems
    assert refusal[0] in problem
    assert problem.endswith(refusal[1])
    assert consequence.endswith("nothing is deleted and no stage runs")


def test_a_git_that_refuses_is_told_where_it_is_not_needed(root: Path, refusal: tuple[str, str]) -> None:
    [line] = git_steps.keep_commands(params.load())
    assert line.startswith("git cannot keep what was made: ")
    assert refusal[0] in line
    state = lineage.git_state()
    assert state["git_commit"] == "unknown"
    assert refusal[0] in state["git_dirty"]
    assert git_steps.full_commit(params.load()) is None
    first, second = repro._missing("models/mine")
    assert first == "models/mine: is missing, and git does not say whether it holds it"
    assert refusal[0] in second


def test_what_the_last_commit_may_hold_is_not_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    Path("dvc.lock").write_text("schema: '2.0'\nsta")
    with pytest.raises(GitError):
        dvc_files.repair()
    assert Path("dvc.lock").exists()


def test_the_remedy_for_a_damaged_index_leaves_files_as_they_are(root: Path) -> None:
    Path("models/base/kept").write_text("edited")
    Path(".git/index").write_bytes(b"\0" * 40)
    with pytest.raises(GitError) as caught:
        git.changed_files()
    subprocess.run(["sh", "-c", str(caught.value).rpartition(": ")[2]], check=True, capture_output=True)
    assert [change.path for change in git.changed_files()] == ["models/base/kept"]
    assert Path("models/base/kept").read_text() == "edited"


def test_without_a_repository_and_while_another_git_writes_there_is_an_answer(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git.held_lock() is None
    Path(".git/index.lock").touch()
    assert git.changed_files() == []
    assert git_steps.keep_commands(params.load()) == []
    Path("params.yaml").write_text(Path("params.yaml").read_text("utf-8") + "\n", "utf-8")
    assert git_steps.keep_commands(params.load())[-1] == (
        "git adds nothing while .git/index.lock exists; if no git is running, a killed git has left it: "
        "rm .git/index.lock"
    )
    assert git.committed_text(Path("models/base/kept")) == "a person's own"
    assert git.committed_text(Path("models/base/other")) == ""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert lineage.git_state() == {"git_commit": "none", "git_dirty": "true"}
    Path(".git").mkdir()
    assert git.changed_files() == []
    monkeypatch.setenv("PATH", str(root / "models"))
    assert git.ask("ls-files") == ""
    assert git.committed_text(Path("dvc.lock")) == ""


def test_a_remote_cannot_name_branches_as_refs_of_versions(root: Path) -> None:
    for name in ("refs/tuneline/m/v1", "refs/heads/refs/tuneline/m/v2"):
        subprocess.run([*GIT, "update-ref", name, "HEAD"], check=True)
    subprocess.run([*GIT, "remote", "add", "origin", str(root)], check=True)
    assert list(git.refs_of_remote("origin", "refs/tuneline")) == ["refs/tuneline/m/v1"]
