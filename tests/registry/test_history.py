import shutil
import sqlite3
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import Engine, event

from tuneline import processes
from tuneline.errors import TrackingError
from tuneline.registry import history
from tuneline.registry.history import History
from tuneline.registry.tracking import Tracker


@pytest.fixture
def model(tracker: Tracker, tmp_path: Path) -> str:
    """A registered model with two versions."""
    client = mlflow.MlflowClient()
    client.create_registered_model(tmp_path.name)
    for _ in range(2):
        client.create_model_version(tmp_path.name, "s3://nowhere")
    return tmp_path.name


def add(tracker: Tracker, model: str, action: str, before: str | None, after: str | None) -> None:
    history.append(tracker, model, action=action, alias="champion", before=before, after=after)


def words(found: History) -> list[tuple[int, str, str | None, str | None]]:
    return [(entry.number, entry.action, entry.before, entry.after) for entry in found.entries]


def test_entries_are_chained_and_mlflow_refuses_to_change_them(tracker: Tracker, model: str) -> None:
    assert history.read(tracker, model) == History()
    add(tracker, model, "verified", None, "1")
    files = {"claim.jsonl": b"{}\n", "checks.json": b"[]"}
    history.append(tracker, model, action="moved", alias="champion", before="1", after="2", evidence=files, reason="UI")
    found = history.read(tracker, model, evidence=True)
    assert words(found) == [(1, "verified", None, "1"), (2, "moved", "1", "2")]
    assert (found.problems, found.unfinished) == ((), 0)
    assert found.entries[1].previous == found.entries[0].sha256
    assert history.read_evidence(tracker, found.entries[1]) == files
    head = f"2 {found.entries[1].sha256}"
    assert tracker.model_tags(model)["tuneline.history"].startswith(head)
    assert tracker.version_tags(model, "2")["tuneline.history"] == head
    for key in ("to", "sha256", "next"):
        with pytest.raises(mlflow.MlflowException, match="Changing param values is not allowed"):
            mlflow.MlflowClient().log_param(found.entries[0].run_id, key, "9")


def test_damage_is_named_and_a_person_can_accept_it(tracker: Tracker, model: str, store: Path) -> None:
    for after, name in (("1", "claim.jsonl"), ("2", "checks.json"), ("1", "claim.jsonl")):
        history.append(tracker, model, action="verified", alias="champion", after=after, evidence={name: b"{}"})
    runs = [entry.run_id for entry in history.read(tracker, model).entries]
    places = [store / "artifacts" / run / "artifacts" for run in runs]
    (places[0] / "claim.jsonl").write_bytes(b"{} ")
    (places[1] / "checks.json").unlink()
    with sqlite3.connect(store / "mlflow.db") as opened:
        opened.execute("UPDATE params SET value = '9' WHERE run_uuid = ? AND key = 'to'", (runs[1],))
    mlflow.MlflowClient().delete_run(runs[2])
    found = history.read(tracker, model, evidence=True)
    assert [problem.partition(" in ")[0] for problem in found.problems] == [
        "entry 2 was edited",
        "entry 3 was deleted",
        "entry 1: its file claim.jsonl was changed",
        "entry 2: its file checks.json is missing",
    ]
    # A damaged history takes entries: a deleted run at its end is brought back for them.
    add(tracker, model, "verified", "1", "2")
    assert history.accept(tracker, model, "a disk broke")
    found = history.read(tracker, model, evidence=True)
    assert (found.problems, len(found.accepted), len(found.entries)) == ((), 3, 5)
    assert found.entries[4].reason.startswith("a disk broke (entry 2 edited ")
    assert history.accept(tracker, model, "again") is None


def test_more_damages_than_a_param_holds_are_accepted(
    tracker: Tracker, model: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_LONGEST_PARAM", 300)
    files = {f"{number}{'x' * 90}.json": b"{}" for number in range(3)}
    for name, content in files.items():
        history.append(tracker, model, action="verified", alias="champion", after="1", evidence={name: content})
    for entry in history.read(tracker, model).entries:
        shutil.rmtree(store / "artifacts" / entry.run_id)
    assert history.accept(tracker, model, "the disk broke")
    found = history.read(tracker, model, evidence=True)
    assert (found.problems, len(found.accepted), len(found.entries)) == ((), 3, 5)
    assert {entry.reason.partition(" (")[0] for entry in found.entries[3:]} == {"the disk broke"}


def test_an_entry_holds_what_can_be_shown(tracker: Tracker, model: str) -> None:
    made = history.append(tracker, model, action="verified", after="1", reason="a\udcff\0\x1b[31m\nb", who="\udcff")
    assert (made.reason, made.who) == ("a\\udcff\\x00\\x1b[31m\nb", "\\udcff")
    assert history.read(tracker, model).problems == ()


def test_a_head_that_somebody_wrote_does_not_stop_the_history(tracker: Tracker, model: str) -> None:
    add(tracker, model, "verified", None, "1")
    tracker.update_version(model, "2", {history.HEAD: f"{'9' * 4999} x"})
    add(tracker, model, "verified", "1", "2")
    assert words(history.read(tracker, model))[-1] == (2, "verified", "1", "2")


def test_a_deleted_experiment_comes_back_and_a_renamed_model_keeps_its_history(tracker: Tracker, model: str) -> None:
    add(tracker, model, "verified", None, "1")
    experiment = mlflow.get_experiment_by_name(f"{model}-history")
    assert experiment
    mlflow.delete_experiment(experiment.experiment_id)
    [problem] = history.read(tracker, model).problems
    assert problem.startswith(f"the experiment {model}-history, which holds the history, was deleted in MLflow")
    assert history.accept(tracker, model, "a slip")
    assert history.read(tracker, model).problems == ()
    mlflow.delete_experiment(experiment.experiment_id)
    new = f"{model}-new"
    mlflow.MlflowClient().rename_registered_model(model, new)
    assert len(history.read(tracker, new).entries) == 2
    add(tracker, new, "verified", "1", "2")
    assert mlflow.get_experiment_by_name(f"{model}-history") is None
    assert mlflow.get_experiment_by_name(f"{new}-history") is not None
    found = history.read(tracker, new)
    assert (found.problems, len(found.entries)) == ((), 3)
    # The history stays when the model is deleted, and goes on when it comes back.
    mlflow.MlflowClient().delete_registered_model(new)
    assert len(history.read(tracker, new).entries) == 3
    add(tracker, new, "removed", "2", None)
    assert len(history.read(tracker, new).entries) == 4


def test_a_tag_that_names_another_experiment_harms_none(tracker: Tracker, model: str) -> None:
    other = mlflow.MlflowClient().create_experiment(f"{model}-x-history")
    for number in ("0", other, "no number"):
        tracker.tag_model(model, {"tuneline.history": f"1 {'a' * 64} {number}"})
        mlflow.MlflowClient().create_registered_model(f"{model}-x") if number == other else None
        assert [problem.partition(":")[0] for problem in history.read(tracker, model).problems] == ["entry 1 is gone"]
    add(tracker, model, "verified", None, "1")
    assert words(history.read(tracker, model)) == [(2, "verified", None, "1")]
    assert {mlflow.get_experiment(number).name for number in ("0", other)} == {"Default", f"{model}-x-history"}


def test_what_killed_processes_left_is_counted_and_removed(tracker: Tracker, model: str) -> None:
    ended = '{"host": "here", "machine": "%s", "pid": 1, "started": 0.0}' % processes._machine()  # noqa: UP031
    client = mlflow.MlflowClient()
    half = client.create_experiment(f"{model}-history.0123", tags={"tuneline.maker": ended})
    add(tracker, model, "verified", None, "1")
    assert client.get_experiment(half).lifecycle_stage == "deleted"
    log = tracker.find_log(f"{model}-history")
    assert log
    tracker.begin_log_run(log.id, "2 verified", {"tuneline.maker": ended})
    running = tracker.begin_log_run(log.id, "2 moved", {"tuneline.maker": history._maker()})
    assert history.read(tracker, model).unfinished == 2
    add(tracker, model, "verified", "1", "2")
    assert [run.id for run in tracker.log_runs(log.id) if not run.is_deleted and not run.params] == [running]
    assert words(history.read(tracker, model)) == [(1, "verified", None, "1"), (2, "verified", "1", "2")]


def test_a_full_disk_is_told_with_the_remedy(tracker: Tracker, model: str) -> None:
    used: list[sqlite3.Connection] = []

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        # Where the file would have to grow, SQLite answers as on a full disk.
        connection.execute("PRAGMA max_page_count = 1")
        used.append(connection)

    event.listen(Engine, "checkout", limit)
    try:
        with pytest.raises(TrackingError, match="the disk with the store is full; free some space"):
            for number in range(50):
                history.append(tracker, model, action="moved", after=str(number), reason="x" * 2000)
    finally:
        event.remove(Engine, "checkout", limit)
        for connection in used:
            connection.execute("PRAGMA max_page_count = 1073741823")
    found = history.read(tracker, model)
    assert found.problems == ()
    add(tracker, model, "verified", None, "1")
    assert history.read(tracker, model).entries[-1].number == len(found.entries) + 1
