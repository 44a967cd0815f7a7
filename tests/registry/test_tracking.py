import shutil
import time
from pathlib import Path

import mlflow
import pytest

from tuneline.errors import TrackingError
from tuneline.registry import runs, tracking
from tuneline.registry.runs import Dataset, Subject
from tuneline.registry.tracking import Tracker


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(
        fingerprint=tmp_path.name,
        experiment="writer",
        params={"learning_rate": 0.001},
        tags={"tuneline.data_sha256": "b" * 64},
        inputs=(Dataset("clean", "b" * 64, "data/clean", "training"),),
    )


def curve(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in mlflow.MlflowClient().get_metric_history(run_id, name)]


def test_a_run_holds_params_inputs_curve_and_system_metrics(tracker: Tracker, subject: Subject) -> None:
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        run.log(20, {"loss": 1.0, "eval_loss": 1.5})
    found = mlflow.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"learning_rate": "0.001"}
    assert curve(run.run_id, "loss") == [(10, 2.0), (20, 1.0)]
    assert found.inputs is not None
    assert [(one.dataset.name, one.dataset.digest) for one in found.inputs.dataset_inputs] == [("clean", "b" * 36)]


def test_a_killed_run_is_continued_without_duplicate_steps(tracker: Tracker, subject: Subject) -> None:
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        run.log(20, {"loss": 1.0})
    mlflow.MlflowClient().set_terminated(run.run_id, "RUNNING")
    with tracker.training_run(subject) as again:
        again.log(20, {"loss": 1.0})
        again.log(30, {"loss": 0.5})
    assert again.run_id == run.run_id
    assert curve(run.run_id, "loss") == [(10, 2.0), (20, 1.0), (30, 0.5)]


def test_a_missing_run_is_made_once_from_the_report(tracker: Tracker, subject: Subject) -> None:
    report = [(10, {"loss": 2.0}), (20, {"loss": 1.0, "eval_loss": 1.5})]
    run_id = tracker.ensure_run(subject, report)
    assert tracker.ensure_run(subject, report) == run_id
    assert curve(run_id, "loss") == [(10, 2.0), (20, 1.0)]
    assert curve(run_id, "eval_loss") == [(20, 1.5)]
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_artifacts_are_kept_in_the_folder_of_the_store(
    tracker: Tracker, subject: Subject, store: Path, tmp_path: Path
) -> None:
    run_id = tracker.ensure_run(subject, [])
    (tmp_path / "page.html").write_text("<p>")
    tracker.attach(run_id, {tmp_path / "page.html": "reports"})
    assert (store / "artifacts" / run_id / "artifacts" / "reports" / "page.html").read_text() == "<p>"


def test_an_address_that_does_not_answer_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 does not answer .*set MLFLOW_TRACKING_URI"):
        tracking.connect()


def test_a_store_that_is_not_a_database_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(TrackingError, match=r"mlflow\.db is damaged \(file is not a database\); put a copy of it back"):
        tracking.connect()


def test_a_lost_store_does_not_delay_training_and_gets_all_metrics_later_once(
    tracker: Tracker, subject: Subject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RETRY", 0.2)
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        while curve(run.run_id, "loss") == []:
            time.sleep(0.05)
        # A deleted run takes nothing, as a server that is away.
        mlflow.MlflowClient().delete_run(run.run_id)
        began = time.monotonic()
        run.log(20, {"loss": 1.0})
        run.log(30, {"loss": 0.5, "eval_loss": 0.7})
        assert time.monotonic() - began < 0.1
        time.sleep(1.0)
        mlflow.MlflowClient().restore_run(run.run_id)
    assert capsys.readouterr().out.count("MLflow does not answer") == 1
    assert curve(run.run_id, "loss") == [(10, 2.0), (20, 1.0), (30, 0.5)]
    assert curve(run.run_id, "eval_loss") == [(30, 0.7)]
    assert mlflow.get_run(run.run_id).info.status == "FINISHED"


def test_undelivered_metrics_are_added_at_the_gate(
    tracker: Tracker, subject: Subject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RETRY", 0.1)
    monkeypatch.setattr(runs, "_LAST_WAIT", 0.5)
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        while curve(run.run_id, "loss") == []:
            time.sleep(0.05)
        mlflow.MlflowClient().delete_run(run.run_id)
        run.log(20, {"loss": 1.0})
        run.log(30, {"loss": 0.5})
    assert "the gate will add 2 lines of the curve" in capsys.readouterr().out
    mlflow.MlflowClient().restore_run(run.run_id)
    # A line in the middle may lack too, as when a process was killed before it had told all.
    run_id = tracker.ensure_run(subject, [(10, {"loss": 2.0}), (20, {"loss": 1.0}), (30, {"loss": 0.5})])
    assert run_id == run.run_id
    assert sorted(curve(run.run_id, "loss")) == [(10, 2.0), (20, 1.0), (30, 0.5)]


def test_missing_steps_of_a_curve_are_added(tracker: Tracker, subject: Subject) -> None:
    with tracker.training_run(subject) as run:
        run.log(30, {"loss": 0.5})
    with tracker.training_run(subject) as again:
        for step, loss in ((10, 2.0), (20, 1.0), (30, 0.5)):
            again.log(step, {"loss": loss})
    assert sorted(curve(run.run_id, "loss")) == [(10, 2.0), (20, 1.0), (30, 0.5)]


def test_a_copied_store_is_refused_before_it_writes_into_the_other(
    tracker: Tracker, subject: Subject, store: Path, tmp_path: Path
) -> None:
    tracker.ensure_run(subject, [])
    (tmp_path / "copy").mkdir()
    shutil.copyfile(store / "mlflow.db", tmp_path / "copy" / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/copy/mlflow.db")
    with pytest.raises(TrackingError, match=r"was moved or copied: experiment writer keeps its files in file://"):
        tracking.connect().find_run(subject)
