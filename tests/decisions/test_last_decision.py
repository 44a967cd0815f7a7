"""What was decided stands as long as nothing that it depends on has changed, in the workspace or in the registry."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from tuneline.core import files
from tuneline.decisions import last_decision
from tuneline.decisions.last_decision import Outcome
from tuneline.params import Params
from tuneline.registry import tracking, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker

EVALUATION = {"rows": 3, "candidate": {"bits_per_byte": 1.5}}


@pytest.fixture
def outcome(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path, monkeypatch: pytest.MonkeyPatch
) -> Outcome:
    """A candidate that was gated and registered, as is noted in the project."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    gate = {"verdict": "undecided", "rules": [{"metric": "chrf", "reason": "Too few rows.", "verdict": "undecided"}]}
    asked = {"model_sha256": lineage.model_sha256, "evaluation_sha256": lineage.evaluation_sha256, "champion": None}
    reports = Path(project.paths.reports)
    files.write_json(reports / "gate.json", gate | {"asked": asked})
    files.write_text(reports / "index.html", "<p>")
    subject = versions.training_subject(project, fingerprint=project.registry.model, data_sha256="b", base_sha256="c",
                               git={"git_commit": "2", "git_dirty": "false"})  # fmt: skip
    run_id = tracker.ensure_run(subject, [])
    version = versions.register(
        tracker, project, lineage, run_id, gate, EVALUATION, lambda _: None, lambda _: None
    ).version
    made = Outcome(project.registry.model, "undecided", version, run_id, ("Too few rows.",))
    last_decision.save(project, last_decision.decision_inputs(), made)
    return made


def folder_of(one: Outcome) -> Path:
    assert one.version is not None
    return versions.fetch_version(tracking.connect(), one.model, one.version)


def test_the_decision_holds_without_loading_mlflow(project: Params, outcome: Outcome) -> None:
    code = (
        "import sys\nfrom tuneline import params\nfrom tuneline.decisions import last_decision\n"
        "print(last_decision.load_if_current(params.load()).message([]), 'mlflow' in sys.modules)"
    )
    sources = os.environ | {"PYTHONPATH": str(Path(last_decision.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=sources, capture_output=True, text=True, check=True)
    assert done.stdout == f"{outcome.model} version 1, undecided; rebuilt: nothing False\n"


def test_changes_of_another_model_keep_the_decision(project: Params, outcome: Outcome) -> None:
    mlflow.MlflowClient().create_registered_model(f"other-{project.registry.model}")
    noted = files.read_json(Path("work/settled.json"))
    assert last_decision.load_if_current(project) == outcome
    assert files.read_json(Path("work/settled.json"))["seen"]["store"] != noted["seen"]["store"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda client, one: client.set_registered_model_alias(one.model, "champion", one.version), "champion changed"),
        (lambda client, one: client.delete_model_version(one.model, one.version), "version changed"),
        (lambda client, one: client.delete_registered_model(one.model), "version changed"),
        (
            lambda client, one: client.set_model_version_tag(one.model, one.version, "tuneline.verdict", "passed"),
            "version changed",
        ),
        (lambda client, one: client.delete_run(one.run_id), "run deleted"),
        (lambda client, one: (folder_of(one) / "model.safetensors").unlink(), "version's files changed"),
        (lambda client, one: client.delete_logged_model(folder_of(one).parent.name), "version's files changed"),
        (lambda client, one: (folder_of(one) / "model.safetensors").write_bytes(b""), "version's files changed"),
    ],
)
def test_a_change_in_the_registry_requires_a_new_decision(
    project: Params, outcome: Outcome, change: Callable[[mlflow.MlflowClient, Outcome], object], reason: str
) -> None:
    change(mlflow.MlflowClient(), outcome)
    assert last_decision.load_if_current(project) == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("params.yaml", "params changed"),
        ("dvc.lock", "outputs changed"),
        ("reports/gate.json", "report changed"),
        ("reports/index.html", "report changed"),
    ],
)
def test_a_change_in_the_workspace_requires_a_new_decision(
    project: Params, outcome: Outcome, path: str, reason: str
) -> None:
    text = Path(path).read_text("utf-8")
    Path(path).write_text(f"{text}\n", "utf-8")
    assert last_decision.load_if_current(project) == reason
    Path(path).write_text(text, "utf-8")
    assert last_decision.load_if_current(project) == outcome
    if path.startswith("reports"):
        Path(path).unlink()
        assert last_decision.load_if_current(project) == reason


def test_another_store_or_an_unreadable_file_requires_a_new_decision(
    project: Params, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert last_decision.load_if_current(project) == "MLflow's address changed"
    Path("work/settled.json").write_text("{")
    assert last_decision.load_if_current(project) == "no decision that can be read"
    Path("work/settled.json").unlink()
    assert last_decision.load_if_current(project) == "no decision yet"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"verdict": "undecided"', '"verdict": "passed"'),
        ('"version": "1"', '"version": "7"'),
        ("{", "[{"),
        ("Too", "Not too"),
    ],
)
def test_an_edited_file_is_not_accepted_as_a_decision(
    project: Params, outcome: Outcome, before: str, after: str
) -> None:
    note = Path("work/settled.json")
    text = note.read_text("utf-8")
    assert before in text
    note.write_text(text.replace(before, after, 1), "utf-8")
    assert last_decision.load_if_current(project) == "no decision that can be read"
    note.write_text(text, "utf-8")
    assert last_decision.load_if_current(project) == outcome


def test_the_decision_of_a_failed_gate_holds(project: Params, outcome: Outcome) -> None:
    failed = Outcome(outcome.model, "failed", None, outcome.run_id, ("Worse.", "Better."))
    last_decision.save(project, last_decision.decision_inputs(), failed)
    assert last_decision.load_if_current(project) == failed
    assert failed.message(["evaluate"]).splitlines() == [
        "Worse.",
        "Better.",
        f"{outcome.model}: failed, no version is registered; rebuilt: evaluate",
    ]


def test_the_last_line_tells_restored_stages_from_rebuilt_stages() -> None:
    outcome = Outcome("writer", "passed", "3", "run")
    assert outcome.message(["evaluate"], ["base", "finetune"]) == (
        "writer version 3, passed; restored from DVC's cache: base, finetune; rebuilt: evaluate"
    )
    assert outcome.message([], ["finetune"]) == (
        "writer version 3, passed; restored from DVC's cache: finetune; rebuilt: nothing"
    )


def test_a_change_during_the_gate_is_noticed_by_the_next_run(project: Params, outcome: Outcome) -> None:
    before = last_decision.decision_inputs()
    Path("params.yaml").write_text(Path("params.yaml").read_text("utf-8") + "\n", "utf-8")
    last_decision.save(project, before, outcome)
    assert last_decision.load_if_current(project) == "params changed"
    assert outcome.version is not None
    mlflow.MlflowClient().set_registered_model_alias(outcome.model, "champion", outcome.version)
    last_decision.save(project, last_decision.decision_inputs(), outcome)
    assert last_decision.load_if_current(project) == "champion changed"


def test_the_commit_of_the_workspace_is_added_to_the_version(
    project: Params, outcome: Outcome, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def commit() -> str:
        git("add", "params.yaml", "dvc.lock", "dvc.yaml", ".dvc/config")
        git("commit", "--quiet", "--message", "Train")
        return git("rev-parse", "HEAD")

    Path(".dvc").mkdir()
    for name in (".dvc/config", "dvc.yaml"):
        Path(name).write_text("")
    assert last_decision.add_commit(project, outcome) is None, "there is no git yet"
    git("init", "--quiet")
    assert last_decision.add_commit(project, outcome) is None, "nothing is committed yet"
    number = outcome.version or ""
    tracker.update_version(outcome.model, number, {"tuneline.dvc_lock_sha256": files.sha256_file(Path("dvc.lock"))})
    sha = commit()
    assert (
        last_decision.add_commit(project, outcome)
        == f"{outcome.model} version 1: its lineage now names commit {sha[:12]}"
    )
    assert last_decision.load_if_current(project) == outcome
    tags = tracker.version_tags(outcome.model, number)
    assert (tags["tuneline.git_commit"], tags["tuneline.kept_in_commit"]) == ("2" * 40, sha)
    Path("params.yaml").write_text(Path("params.yaml").read_text("utf-8") + "\n", "utf-8")
    commit()
    assert last_decision.add_commit(project, outcome) is None
    assert tracker.version_tags(outcome.model, number) == tags
