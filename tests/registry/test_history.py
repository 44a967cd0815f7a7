import sqlite3
from pathlib import Path

import mlflow
import pytest

from tuneline.registry import history
from tuneline.registry.history import History
from tuneline.registry.tracking import Tracker


@pytest.fixture
def model(tracker: Tracker, tmp_path: Path) -> str:
    """A registered model with three versions."""
    client = mlflow.MlflowClient()
    client.create_registered_model(tmp_path.name)
    for _ in range(3):
        client.create_model_version(tmp_path.name, "s3://nowhere")
    return tmp_path.name


def add(tracker: Tracker, model: str, action: str, before: str | None, after: str | None, reason: str = "") -> None:
    history.append(tracker, model, action=action, alias="champion", before=before, after=after, reason=reason)


def words(found: History) -> list[tuple[int, str, str | None, str | None]]:
    return [(entry.number, entry.action, entry.before, entry.after) for entry in found.entries]


def test_entries_are_chained_in_their_order(tracker: Tracker, model: str) -> None:
    assert history.read(tracker, model) == History()
    add(tracker, model, "verified", None, "1")
    add(tracker, model, "moved", "1", "2", "in the UI")
    history.append(
        tracker, model, action="undone", alias="champion", before="2", after="1", evidence={"claim.jsonl": b"{}\n"}
    )
    found = history.read(tracker, model, evidence=True)
    assert words(found) == [(1, "verified", None, "1"), (2, "moved", "1", "2"), (3, "undone", "2", "1")]
    assert found.problems == ()
    assert found.unfinished == 0
    assert [entry.previous for entry in found.entries] == ["", *(entry.sha256 for entry in found.entries[:2])]
    assert history.read_evidence(tracker, found.entries[2]) == {"claim.jsonl": b"{}\n"}
    assert history.last_verified(found, "champion") == "1"
    head = f"3 {found.entries[2].sha256}"
    assert tracker.model_tags(model)["tuneline.history"].startswith(head)
    assert tracker.version_tags(model, "1")["tuneline.history"] == head


@pytest.fixture
def four(tracker: Tracker, model: str) -> History:
    """A history with four entries."""
    for before, after in ((None, "1"), ("1", "2"), ("2", "3"), ("3", "1")):
        add(tracker, model, "verified", before, after, f"to {after}")
    return history.read(tracker, model)


def in_database(store: Path, statement: str, *values: str) -> None:
    """What a person with access to MLflow's database can do."""
    with sqlite3.connect(store / "mlflow.db") as opened:
        assert opened.execute(statement, values).rowcount > 0


def problems(tracker: Tracker, model: str) -> tuple[str, ...]:
    return history.read(tracker, model, evidence=True).problems


def test_mlflow_refuses_to_change_an_entry(four: History) -> None:
    for key in ("to", "sha256", "next"):
        with pytest.raises(mlflow.MlflowException, match="Changing param values is not allowed"):
            mlflow.MlflowClient().log_param(four.entries[1].run_id, key, "9")


@pytest.mark.parametrize(("key", "value"), [("to", "9"), ("who", "nobody"), ("time", "2020"), ("previous", "0" * 64)])
def test_an_edited_entry_is_named(
    tracker: Tracker, model: str, four: History, store: Path, key: str, value: str
) -> None:
    run = four.entries[1].run_id
    in_database(store, "UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?", value, run, key)
    [problem] = problems(tracker, model)
    assert problem.startswith("entry 2 was edited in MLflow's database")
    # An edit that also writes the matching digest does not match what entry 1 says about entry 2.
    log = history._find(tracker, model)
    assert log
    edited = next(one for one in tracker.log_runs(log.id) if one.id == run)
    in_database(
        store,
        "UPDATE params SET value = ? WHERE run_uuid = ? AND key = 'sha256'",
        history._content_digest(edited.params),
        run,
    )
    assert problems(tracker, model)[0].startswith("entry 2 was edited in MLflow's database")


def test_a_param_that_was_added_to_an_entry_is_an_edit(tracker: Tracker, model: str, four: History) -> None:
    mlflow.MlflowClient().log_param(four.entries[0].run_id, "accepts", '["gone 1 to 9"]')
    [problem] = problems(tracker, model)
    assert problem.startswith("entry 1 was edited")


def test_a_deleted_entry_is_named_and_brought_back(tracker: Tracker, model: str, four: History) -> None:
    mlflow.MlflowClient().delete_run(four.entries[2].run_id)
    [problem] = problems(tracker, model)
    assert problem.startswith("entry 3 was deleted in MLflow (run ")
    assert history.accept(tracker, model, "a slip")
    assert problems(tracker, model) == ()
    assert words(history.read(tracker, model))[:4] == words(four)


@pytest.mark.parametrize(
    ("gone", "told"),
    [([0], "entry 1 is gone"), ([1], "entry 2 is gone"), ([1, 2], "entries 2 to 3 are gone"), ([3], "entry 4 is gone")],
)
def test_an_entry_that_was_deleted_for_good_is_named_and_the_history_continues(
    tracker: Tracker, model: str, four: History, store: Path, gone: list[int], told: str
) -> None:
    for number in gone:
        run = four.entries[number].run_id
        for table in ("params", "tags", "metrics", "latest_metrics"):
            with sqlite3.connect(store / "mlflow.db") as opened:
                opened.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
        in_database(store, "DELETE FROM runs WHERE run_uuid = ?", run)
    [problem] = problems(tracker, model)
    assert problem.startswith(told)
    add(tracker, model, "moved", "1", "2")
    add(tracker, model, "verified", "1", "2")
    assert [problem] == list(problems(tracker, model))
    kept = [entry for number, entry in enumerate(words(four)) if number not in gone]
    assert words(history.read(tracker, model)) == [*kept, (5, "moved", "1", "2"), (6, "verified", "1", "2")]
    assert history.accept(tracker, model, "a disk broke")
    found = history.read(tracker, model)
    assert (found.problems, len(found.accepted)) == ((), 1)
    assert "a disk broke" in found.entries[-1].reason


def test_entries_cut_off_at_the_end_are_seen_by_the_tag_of_the_model(
    tracker: Tracker, model: str, four: History, store: Path
) -> None:
    in_database(store, "DELETE FROM params WHERE run_uuid = ? AND key = 'next'", four.entries[1].run_id)
    for entry in four.entries[2:]:
        mlflow.MlflowClient().delete_run(entry.run_id)
        in_database(store, "UPDATE params SET value = '0' WHERE run_uuid = ? AND key = 'sha256'", entry.run_id)
    [problem] = problems(tracker, model)
    assert problem.startswith("entries 3 to 4 are gone")
    add(tracker, model, "verified", "1", "2")
    assert [problem] == list(problems(tracker, model))
    assert [entry.number for entry in history.read(tracker, model).entries] == [1, 2, 5]


def test_a_changed_or_missing_file_of_an_entry_is_named(tracker: Tracker, model: str, store: Path) -> None:
    for name in ("claim.jsonl", "checks.json"):
        history.append(tracker, model, action="reproduced", after="1", evidence={name: b"{}"})
    first, second = (store / "artifacts" / entry.run_id / "artifacts" for entry in history.read(tracker, model).entries)
    (first / "claim.jsonl").write_bytes(b"{} ")
    (second / "checks.json").unlink()
    found = problems(tracker, model)
    assert [problem.split(" in the artifacts")[0] for problem in found] == [
        "entry 1: its file claim.jsonl was changed",
        "entry 2: its file checks.json is missing",
    ]


def test_a_deleted_experiment_is_named_and_restored_by_the_next_entry(
    tracker: Tracker, model: str, four: History
) -> None:
    experiment = mlflow.get_experiment_by_name(f"{model}-history")
    assert experiment
    mlflow.delete_experiment(experiment.experiment_id)
    [problem] = problems(tracker, model)
    assert problem.startswith(f"the experiment {model}-history, which holds the history, was deleted in MLflow")
    add(tracker, model, "verified", "1", "2")
    found = history.read(tracker, model, evidence=True)
    assert (found.problems, len(found.entries)) == ((), 5)


def test_a_renamed_model_keeps_its_history(tracker: Tracker, model: str, four: History) -> None:
    mlflow.MlflowClient().rename_registered_model(model, f"{model}-new")
    assert words(history.read(tracker, f"{model}-new")) == words(four)
    add(tracker, f"{model}-new", "verified", "1", "2")
    assert mlflow.get_experiment_by_name(f"{model}-history") is None
    assert mlflow.get_experiment_by_name(f"{model}-new-history") is not None
    found = history.read(tracker, f"{model}-new")
    assert (found.problems, len(found.entries)) == ((), 5)


def test_an_entry_that_a_killed_process_left_is_counted_and_removed(
    tracker: Tracker, model: str, four: History
) -> None:
    log = history._find(tracker, model)
    assert log
    ended = '{"host": "here", "machine": "%s", "pid": 1, "started": 0.0}'
    from tuneline import processes

    tracker.begin_log_run(log.id, "5 verified", {"tuneline.maker": ended % processes._machine()})
    tracker.begin_log_run(log.id, "5 moved", {"tuneline.maker": history._maker()})
    assert history.read(tracker, model).unfinished == 2
    add(tracker, model, "verified", "1", "2")
    # The second process still runs.
    assert history.read(tracker, model).unfinished == 1


def test_who_had_the_alias_when(tracker: Tracker, model: str) -> None:
    for action, before, after in (
        ("verified", None, "1"),
        ("moved", "1", "2"),
        ("undone", "2", "1"),
        ("overridden", "1", "3"),
        ("rolled back", "3", "1"),
        ("removed", "1", None),
    ):
        add(tracker, model, action, before, after)
    found = history.read(tracker, model)
    times = [entry.time for entry in found.entries]
    standings = [history.champion_at(found, "champion", time) for time in times]
    assert [(one.version, one.state) for one in standings] == [
        ("1", "verified"),
        ("2", "moved"),
        ("1", "undone"),
        ("3", "overridden"),
        ("1", "rolled back"),
        (None, "removed"),
    ]
    assert history.champion_at(found, "champion", "2020-01-01T00:00:00.000+00:00").version is None
    assert history.champion_at(found, "challenger", times[-1]).version is None


def test_a_rollback_takes_away_what_came_after(tracker: Tracker, model: str) -> None:
    for action, before, after in (("verified", None, "1"), ("verified", "1", "2"), ("verified", "2", "3")):
        add(tracker, model, action, before, after)
    assert history.earlier_versions(history.read(tracker, model), "champion") == ["1", "2"]
    add(tracker, model, "rolled back", "3", "2")
    assert history.earlier_versions(history.read(tracker, model), "champion") == ["1"]
    add(tracker, model, "rolled back", "2", "1")
    assert history.earlier_versions(history.read(tracker, model), "champion") == []
