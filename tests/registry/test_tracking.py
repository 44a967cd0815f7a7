import shutil
from pathlib import Path

import mlflow
import pytest

from tuneline.errors import TrackingError
from tuneline.registry import tracking
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


def test_a_killed_run_is_gone_on_with_and_no_step_is_doubled(tracker: Tracker, subject: Subject) -> None:
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        run.log(20, {"loss": 1.0})
    mlflow.MlflowClient().set_terminated(run.run_id, "RUNNING")
    with tracker.training_run(subject) as again:
        again.log(20, {"loss": 1.0})
        again.log(30, {"loss": 0.5})
    assert again.run_id == run.run_id
    assert curve(run.run_id, "loss") == [(10, 2.0), (20, 1.0), (30, 0.5)]


def test_a_run_that_is_missing_is_made_from_the_report_and_only_once(tracker: Tracker, subject: Subject) -> None:
    report = [(10, {"loss": 2.0}), (20, {"loss": 1.0, "eval_loss": 1.5})]
    run_id = tracker.ensure_run(subject, report)
    assert tracker.ensure_run(subject, report) == run_id
    assert curve(run_id, "loss") == [(10, 2.0), (20, 1.0)]
    assert curve(run_id, "eval_loss") == [(20, 1.5)]
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_artifacts_stay_beside_the_store(tracker: Tracker, subject: Subject, store: Path, tmp_path: Path) -> None:
    run_id = tracker.ensure_run(subject, [])
    (tmp_path / "page.html").write_text("<p>")
    tracker.attach(run_id, {tmp_path / "page.html": "reports"})
    assert (store / "artifacts" / run_id / "artifacts" / "reports" / "page.html").read_text() == "<p>"


def test_an_address_that_does_not_answer_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 does not answer .*set MLFLOW_TRACKING_URI"):
        tracking.connect()


def test_a_store_that_is_no_database_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(TrackingError, match="cannot be used"):
        tracking.connect()


def test_a_failure_in_the_middle_stops_no_training_and_is_mended_later(
    tracker: Tracker, subject: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracker.training_run(subject) as run:
        run.log(10, {"loss": 2.0})
        mlflow.MlflowClient().delete_run(run.run_id)
        run.log(20, {"loss": 1.0})
        run.log(30, {"loss": 0.5})
        mlflow.MlflowClient().restore_run(run.run_id)
    assert capsys.readouterr().out.count("MLflow failed") == 1
    tracker.ensure_run(subject, [(10, {"loss": 2.0}), (20, {"loss": 1.0}), (30, {"loss": 0.5})])
    assert curve(run.run_id, "loss") == [(10, 2.0), (20, 1.0), (30, 0.5)]


def test_a_copied_store_is_refused_before_it_writes_into_the_other(
    tracker: Tracker, subject: Subject, store: Path, tmp_path: Path
) -> None:
    tracker.ensure_run(subject, [])
    (tmp_path / "copy").mkdir()
    shutil.copyfile(store / "mlflow.db", tmp_path / "copy" / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/copy/mlflow.db")
    with pytest.raises(TrackingError, match=r"was moved or copied: experiment writer keeps its files in file://"):
        tracking.connect().find_run(subject)
