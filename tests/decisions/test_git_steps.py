"""What another clone needs: the commands that keep it, and what is said where it is missing."""

import subprocess
from pathlib import Path

import pytest
from projects import ROOT

from tuneline import git, params
from tuneline.decisions import git_steps
from tuneline.git import Change
from tuneline.pipeline import dvc_files, repro

NAMED = {
    "data/raw/mine",
    "data/expectations/raw.yaml",
    "data/base.yaml",
    "reports/metrics.json",
    "src/tuneline/core/files.py",
}
DATA = ["data/raw/mine", "data/raw/python-text", "data/mixture/*", "models/mine"]


def changed(*paths: str) -> list[Change]:
    return [Change(path, is_new=False, is_staged=False) for path in paths]


def new(*paths: str) -> list[Change]:
    return [Change(path, is_new=True, is_staged=False) for path in paths]


def test_only_changed_files_of_a_run_are_named() -> None:
    changes = [
        *changed("params.yaml", ".dvc/config", "data/expectations/raw.yaml", "src/tuneline/core/files.py", "README.md"),
        *new("dvc.lock", "models/my model.dvc", "models/.gitignore", "data/base.yaml", "reports/metrics.json"),
        *new("notes.txt", "data/raw/other/rows.jsonl"),
    ]
    assert git_steps.plan_steps(changes, NAMED, DATA, has_remote=True) == [
        "to keep what was made: git add params.yaml .dvc/config data/expectations/raw.yaml src/tuneline/core/files.py "
        "dvc.lock 'models/my model.dvc' models/.gitignore data/base.yaml reports/metrics.json && git commit -m 'Train' "
        "&& .venv/bin/dvc push"
    ]


def test_without_a_remote_the_command_to_add_a_remote_is_shown() -> None:
    keep, remote = git_steps.plan_steps(changed("dvc.lock"), NAMED, DATA, has_remote=False)
    assert keep == "to keep what was made: git add dvc.lock && git commit -m 'Train'"
    assert remote.endswith(".venv/bin/dvc remote add --default storage URL")


def test_data_outside_git_and_dvc_goes_under_dvc() -> None:
    changes = [*changed("dvc.lock"), *new("models/mine/config.json", "models/mine/a.bin", "data/mixture/chats/a.jsonl")]
    (keep,) = git_steps.plan_steps(changes, NAMED, DATA, has_remote=True)
    assert keep.startswith(
        "to keep what was made: .venv/bin/dvc add models/mine data/mixture/chats && git add dvc.lock models/mine.dvc "
        "models/.gitignore data/mixture/chats.dvc data/mixture/.gitignore && git commit"
    )


def test_a_name_that_looks_like_an_option_is_escaped() -> None:
    (keep,) = git_steps.plan_steps(changed("-f.dvc", "data/a;b.dvc"), NAMED, DATA, has_remote=True)
    assert keep.startswith("to keep what was made: git add ./-f.dvc 'data/a;b.dvc' && git commit")


def test_staged_files_are_only_committed_and_nothing_is_shown_if_git_holds_all() -> None:
    staged = [Change("data/raw/old.dvc", is_new=False, is_staged=True)]
    (keep,) = git_steps.plan_steps(staged, NAMED, DATA, has_remote=True)
    assert keep == "to keep what was made: git commit -m 'Train' && .venv/bin/dvc push"
    assert git_steps.plan_steps([*changed("README.md"), *new("notes.txt")], NAMED, DATA, has_remote=True) == []


def test_a_password_of_a_remote_is_not_committed() -> None:
    secret, keep = git_steps.plan_steps(
        changed("params.yaml", ".dvc/config"), NAMED, DATA, has_remote=True, secrets=[("storage", "url")]
    )
    assert secret == (
        ".dvc/config: remote 'storage' contains a password (url), so do not commit this file; keep the password on "
        "this machine with: .venv/bin/dvc remote modify --local storage url VALUE; and write the url without it in "
        ".dvc/config"
    )
    assert "git add params.yaml && git commit" in keep
    staged = [Change(".dvc/config", is_new=False, is_staged=True)]
    [secret] = git_steps.plan_steps(staged, NAMED, DATA, has_remote=True, secrets=[("storage", "password")])
    assert "unstage it with: git restore --staged .dvc/config" in secret
    assert git_steps.plan_steps(changed("params.yaml"), NAMED, DATA, has_remote=True, secrets=[("a", "b")]) == [keep]


def test_options_with_passwords_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dvc_files.shared_secrets() == []
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text(
        "[core]\n    remote = a\n"
        "['remote \"a\"']\n    url = webdavs://me:hunter22@example.org/store\n    user = me\n"
        "['remote \"b\"']\n    url = s3://store\n    access_key_id = AKIA\n    secret_access_key = abc\n"
        "['remote \"c\"']\n    url = ssh://me@example.org/store\n    ask_password = true\n    keyfile = /k\n"
        "['remote \"d\"']\n    url = azure://store\n    sas_token = abc\n"
    )
    assert dvc_files.shared_secrets() == [("a", "url"), ("b", "secret_access_key"), ("d", "sas_token")]


def test_changed_files_are_relative_to_any_folder_for_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "repository" / "the project"
    project.mkdir(parents=True)
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for name in ("gone", "staged", "same", "changed"):
        (project / name).write_text("1")
    (tmp_path / "repository" / "outside").write_text("1")
    for arguments in (["init", "--quiet"], ["add", "the project"], ["commit", "--quiet", "--message", "start"]):
        subprocess.run([*command, *arguments], cwd=tmp_path / "repository", check=True)
    (project / "gone").unlink()
    (project / "changed").write_text("2")
    (project / "größer als.dvc").write_text("1")
    subprocess.run([*command, "rm", "--quiet", "staged"], cwd=project, check=True)
    monkeypatch.chdir(project)
    assert sorted(git.changed_files(), key=lambda change: change.path) == [
        Change("changed", is_new=False, is_staged=False),
        Change("gone", is_new=False, is_staged=False),
        Change("größer als.dvc", is_new=True, is_staged=False),
        Change("staged", is_new=False, is_staged=True),
    ]


@pytest.mark.parametrize(
    ("place", "keeper", "said"),
    [
        ("data/expectations/raw.yaml", "git", "git restore data/expectations/raw.yaml"),
        ("models/mine", "cache", "dvc checkout models/mine.dvc"),
        ("models/mine", "remote", "dvc pull models/mine.dvc"),
        ("models/mine", "elsewhere", "`dvc remote add --default storage URL`"),
        ("models/mine", "elsewhere", "or copy the model to it and run: dvc add models/mine"),
        ("models/mine", "nothing", "git does not know models/mine.dvc either"),
        ("data/raw/my rows", "elsewhere", "or bring its files with: tuneline use PATH"),
        ("data/raw/my rows", "cache", "dvc checkout 'data/raw/my rows.dvc'"),
        ("data/mixture/chats", "nothing", "tuneline use PATH --mix WEIGHT --name chats"),
    ],
)
def test_the_remedy_fits_the_missing_input(place: str, keeper: repro.Keeper, said: str) -> None:
    p = params.load(ROOT / "params.yaml")
    p = p.model_copy(
        update={
            "data": p.data.model_copy(update={"raw": "data/raw/my rows"}),
            "base": p.base.model_copy(update={"source": "path", "input": "models/mine"}),
        }
    )
    line = repro.missing_input(place, keeper, p)
    assert line.startswith(f"{place}: is missing")
    assert said in line
    assert ("tuneline use" in line) == (place != "models/mine" and keeper in ("nothing", "elsewhere"))


def test_the_remedy_for_a_missing_hub_reference() -> None:
    p = params.load(ROOT / "params.yaml")
    p = p.model_copy(update={"base": p.base.model_copy(update={"source": "hub", "input": "data/base.yaml"})})
    line = repro.missing_input("data/base.yaml", "nothing", p)
    assert "git does not know it either" in line
    assert line.endswith("or write `id: OWNER/NAME` and `revision: COMMIT` into it")


def test_a_merge_folder_is_kept_by_dvc_and_can_be_written_again() -> None:
    p = params.load(ROOT / "params.yaml")
    p = p.model_copy(update={"base": p.base.model_copy(update={"source": "merge", "input": "models/merge"})})
    assert "models/merge" in git_steps.loose_places(p)
    line = repro.missing_input("models/merge", "nothing", p)
    assert line.endswith("or write it again with: tuneline merge VERSION VERSION")


def test_the_remedy_for_missing_checks() -> None:
    line = repro.missing_input("data/checks.yaml", "nothing", params.load(ROOT / "params.yaml"))
    assert "git does not know it either" in line
    assert line.endswith("or make an empty file, which checks nothing, with: touch data/checks.yaml")
