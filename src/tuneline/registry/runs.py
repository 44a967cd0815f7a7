"""MLflow's runs: finds them or makes them, and writes their curves, inputs, tags and artifacts.

A run is found by its tag `tuneline.fingerprint`, never by a stored id: a model that DVC's cache restores finds its run
again.
"""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
import requests
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from tuneline.errors import TrackingError, first_line
from tuneline.registry import addresses
from tuneline.registry.addresses import CLASSIC_VIEW, without_login
from tuneline.registry.names import quoted

FINGERPRINT = "tuneline.fingerprint"

P = ParamSpec("P")
R = TypeVar("R")

_DIGEST_LENGTH = 36  # the column of MLflow's store
_AWAY = (MlflowException, SQLAlchemyError, requests.RequestException)
# Seconds between two tries, and seconds to wait at the end of a training for the lines that MLflow does not have yet.
_RETRY = 5.0
_LAST_WAIT = 30.0


@dataclass(frozen=True)
class Dataset:
    """An input of a run, as MLflow shows it: name, sha256 and path."""

    name: str
    sha256: str
    path: str
    context: str

    @property
    def short_digest(self) -> str:
        """The digest as MLflow stores it."""
        return self.sha256[:_DIGEST_LENGTH]


@dataclass(frozen=True)
class Subject:
    """What identifies a training run: enough to find the run or to make it anew."""

    fingerprint: str
    experiment: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    inputs: tuple[Dataset, ...]


@dataclass(frozen=True)
class LogExperiment:
    """An experiment whose runs are the entries of a log."""

    id: str
    name: str
    is_deleted: bool


@dataclass(frozen=True)
class LogRun:
    """A run that is an entry of a log, or is to become one."""

    id: str
    params: Mapping[str, str]
    """MLflow changes no param of a run once it is written."""
    tags: Mapping[str, str]
    is_deleted: bool
    began: float
    """When it was begun, in seconds since 1970."""


def translate_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method raise MLflow's errors as a TrackingError with the address."""

    @functools.wraps(method)
    def call(*arguments: P.args, **more: P.kwargs) -> R:
        try:
            return method(*arguments, **more)
        except _AWAY as error:
            address = mlflow.get_tracking_uri()
            if addresses.FULL in str(error):
                raise TrackingError(
                    f"MLflow at {address}: the disk with the store is full; free some space, then run the same command "
                    "again"
                ) from error
            raise TrackingError(
                f"MLflow at {address} failed: {first_line(error)}; run the same command again"
            ) from error

    return call


class Runs:
    """The runs at a tracking address."""

    def __init__(self, client: mlflow.MlflowClient, address: str) -> None:
        self._client = client
        self.address = address

    @contextmanager
    def training_run(self, subject: Subject) -> Iterator["LiveRun"]:
        """The run of `subject`, new or continued; MLflow records system metrics while the block runs.

        A kill leaves the run RUNNING, and the next call continues it: steps that it holds already are not logged again.

        Args:
            subject: what is trained.

        Yields:
            The run to log to.
        """
        live = LiveRun(self._client, self._begin(subject))
        status = "FAILED"
        try:
            yield live
            status = "FINISHED"
        finally:
            live.close(_LAST_WAIT)
            try:
                mlflow.end_run(status)
            except _AWAY as error:
                print(f"MLflow does not answer: {first_line(error)}; the gate will end its run", flush=True)

    @translate_errors
    def _begin(self, subject: Subject) -> str:
        run = self.find_run(subject) or self._create_run(subject)
        mlflow.set_system_metrics_sampling_interval(5)
        mlflow.start_run(run_id=run.info.run_id, log_system_metrics=True)
        return run.info.run_id

    @translate_errors
    def ensure_run(self, subject: Subject, curve: list[tuple[int, dict[str, float]]]) -> str:
        """The id of the run of `subject`; a missing run is made, with its curve.

        Args:
            subject: what was trained.
            curve: step and metrics, as the training report holds them.

        Returns:
            The run's id.
        """
        run = self.find_run(subject) or self._create_run(subject)
        held = Curve(self._client, run.info.run_id)
        for step, metrics in curve:
            held.log(step, metrics)
        if run.info.status != "FINISHED":
            self._client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id

    @translate_errors
    def find_run(self, subject: Subject) -> Run | None:
        """The newest run with the subject's fingerprint, or None."""
        found = self._client.search_runs(
            [self._experiment(subject.experiment)],
            f"tags.`{FINGERPRINT}` = {quoted(subject.fingerprint)}",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return found[0] if found else None

    @translate_errors
    def has_run(self, run_id: str) -> bool:
        """Whether the run exists and is not deleted."""
        try:
            return self._client.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            return False

    def _create_run(self, subject: Subject) -> Run:
        tags = {FINGERPRINT: subject.fingerprint, **subject.tags}
        name = f"{subject.experiment}-{subject.fingerprint[:8]}"
        run = self._client.create_run(self._experiment(subject.experiment), tags=tags, run_name=name)
        params = [Param(name, str(value)) for name, value in subject.params.items()]
        self._client.log_batch(run.info.run_id, params=params)
        with mlflow.start_run(run_id=run.info.run_id):
            for dataset in subject.inputs:
                source = CodeDatasetSource({"path": dataset.path, "sha256": dataset.sha256})
                meta = MetaDataset(source, name=dataset.name, digest=dataset.short_digest)
                mlflow.log_input(meta, context=dataset.context)
        return run

    @translate_errors
    def describe_run(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add final metrics and tags to a run."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    @translate_errors
    def run_tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        return dict(self._client.get_run(run_id).data.tags)

    @translate_errors
    def run_times(self, run_id: str) -> tuple[str, str]:
        """When a run started and finished, in UTC as RFC 3339; empty where MLflow holds no time."""
        info = self._client.get_run(run_id).info
        started, finished = (
            datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            if time
            else ""
            for time in (info.start_time, info.end_time)
        )
        return started, finished

    @translate_errors
    def run_metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each metric of a run; empty if the run does not exist."""
        return dict(self._client.get_run(run_id).data.metrics) if self.has_run(run_id) else {}

    @translate_errors
    def attach(self, run_id: str, files: Mapping[Path, str]) -> None:
        """Copy files to the artifacts of a run: local path -> folder of the artifacts ("" for the top)."""
        for path, folder in files.items():
            self._client.log_artifact(run_id, str(path), folder or None)

    @translate_errors
    def page_of(self, run_id: str, artifact: str) -> str | None:
        """The address of the MLflow UI for an artifact of a run; None without a server."""
        if not self.address.startswith(("http://", "https://")):
            return None
        experiment = self._client.get_run(run_id).info.experiment_id
        server = without_login(self.address).rstrip("/")
        return f"{server}/#/experiments/{experiment}/runs/{run_id}/artifacts/{artifact}{CLASSIC_VIEW}"

    @translate_errors
    def find_log(self, name: str) -> LogExperiment | None:
        """The experiment of a log by its name, deleted or not; None if MLflow does not have it (any more)."""
        return _as_log(self._client.get_experiment_by_name(name))

    @translate_errors
    def find_log_by_id(self, number: str) -> LogExperiment | None:
        """The experiment of a log by its id, which stays when it is renamed; None if MLflow does not have it."""
        try:
            return _as_log(self._client.get_experiment(number))
        except MlflowException as error:
            # A number that was written by hand may be no number.
            if error.error_code not in (
                ErrorCode.Name(RESOURCE_DOES_NOT_EXIST),
                ErrorCode.Name(INVALID_PARAMETER_VALUE),
            ):
                raise
            return None

    @translate_errors
    def make_log(self, name: str, temporary: str, start: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Make the experiment `name` with one run in it, in one step; nothing is made if it exists meanwhile.

        MLflow makes an experiment and its first run in two steps, but renames an experiment in one step and only to a
        name that is free. So processes that make the same experiment at the same time get the same first run.

        Args:
            name: of the experiment.
            temporary: the name that it has until its run is complete.
            start: the params of the run.
            tags: of the run and of the experiment.
        """
        made = self._client.create_experiment(temporary, self._location(), tags=dict(tags))
        run = self._client.create_run(made, tags=dict(tags), run_name="start")
        self._client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in start.items()])
        self._client.set_terminated(run.info.run_id, "FINISHED")
        try:
            self._client.rename_experiment(made, name)
        except MlflowException:
            if self._client.get_experiment_by_name(name) is None:
                raise
            self._client.delete_experiment(made)

    @translate_errors
    def unfinished_logs(self, prefix: str) -> dict[str, dict[str, str]]:
        """Id -> tags of the experiments whose names begin with `prefix`."""
        found = self._client.search_experiments(filter_string=f"name LIKE {quoted(f'{prefix}%')}", max_results=100)
        return {one.experiment_id: dict(one.tags) for one in found if one.name.startswith(prefix)}

    @translate_errors
    def delete_log(self, number: str) -> None:
        """Delete an experiment; `mlflow gc` frees it."""
        self._client.delete_experiment(number)

    @translate_errors
    def restore_log(self, log: LogExperiment, name: str) -> None:
        """Restore the experiment of a log if it was deleted, and rename it to `name` if that is free."""
        if log.is_deleted:
            self._client.restore_experiment(log.id)
        if log.name != name and self._client.get_experiment_by_name(name) is None:
            self._client.rename_experiment(log.id, name)

    @translate_errors
    def log_runs(self, number: str) -> list[LogRun]:
        """All runs of an experiment, deleted or not, the oldest first."""
        found, token = [], None
        while True:
            page = self._client.search_runs(
                [number],
                run_view_type=ViewType.ALL,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += [_as_log_run(run) for run in page]
            token = page.token
            if not token:
                return found

    @translate_errors
    def begin_log_run(self, number: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that is not part of the log yet, and return its id."""
        return self._client.create_run(number, tags=dict(tags), run_name=name).info.run_id

    @translate_errors
    def complete_log_run(self, run_id: str, values: Mapping[str, str]) -> None:
        """Write the params of a run and finish it."""
        self._client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])
        self._client.set_terminated(run_id, "FINISHED")

    @translate_errors
    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        """Write a param, unless another process has written another value: MLflow's only compare-and-set.

        Returns:
            Whether the param has this value now.
        """
        try:
            self._client.log_param(run_id, key, value)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
            if self._client.get_run(run_id).data.params.get(key) in (None, value):
                raise
            return False
        return True

    @translate_errors
    def delete_log_run(self, run_id: str) -> None:
        """Delete a run; `mlflow gc` frees it."""
        self._client.delete_run(run_id)

    @translate_errors
    def restore_log_run(self, run_id: str) -> None:
        """Bring back a deleted run."""
        self._client.restore_run(run_id)

    @translate_errors
    def artifact_names(self, run_id: str) -> list[str]:
        """The names of the files and folders at the top of a run's artifacts."""
        return [one.path for one in self._client.list_artifacts(run_id)]

    @translate_errors
    def fetch_artifact(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Copy an artifact of a run into a folder; None if MLflow does not have the artifact."""
        if name not in self.artifact_names(run_id):
            return None
        return Path(self._client.download_artifacts(run_id, name, str(folder)))

    def _location(self) -> str | None:
        if store := addresses.database_of(self.address):
            # Without a location, MLflow with SQLite keeps artifacts in ./mlruns of the working directory.
            return (store.resolve().parent / "artifacts").as_uri()
        return None

    def _experiment(self, name: str) -> str:
        location = self._location()
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            if (
                location
                and str(experiment.artifact_location).startswith("file:")
                and (experiment.artifact_location != location)
            ):
                raise TrackingError(
                    f"{self.address}: was moved or copied: experiment {name} keeps its files in "
                    f"{experiment.artifact_location}, not in {location}; move the project back, or move this store "
                    "away, and the next run makes a new store"
                )
            return experiment.experiment_id
        try:
            return self._client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            existing = self._client.get_experiment_by_name(name)
            if existing is None:
                raise TrackingError(f"{self.address}: experiment {name} cannot be made: {error.message}") from None
            return existing.experiment_id


def _as_log(found: Experiment | None) -> LogExperiment | None:
    if found is None:
        return None
    return LogExperiment(found.experiment_id, found.name, found.lifecycle_stage != LifecycleStage.ACTIVE)


def _as_log_run(run: Run) -> LogRun:
    return LogRun(
        id=run.info.run_id,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        is_deleted=run.info.lifecycle_stage != LifecycleStage.ACTIVE,
        began=run.info.start_time / 1000,
    )


class Curve:
    """The metrics of a run, each step written once."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._held: dict[str, set[int]] = {}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the `metrics` that the run does not hold yet at `step`."""
        new = {name: value for name, value in metrics.items() if step not in self._steps(name)}
        if not new:
            return
        now = int(time.time() * 1000)
        try:
            self._client.log_batch(self._run_id, [Metric(name, value, now, step) for name, value in new.items()])
        except _AWAY:
            # MLflow may have written the metrics although its answer was lost, so read again what the run holds.
            self._held.clear()
            raise
        for name in new:
            self._held[name].add(step)

    def _steps(self, name: str) -> set[int]:
        if name not in self._held:
            history = self._client.get_metric_history(self._run_id, name)
            self._held[name] = {metric.step for metric in history}
        return self._held[name]


class LiveRun:
    """A run that receives the curve of a training without making the training wait.

    A thread sends the lines in their order, and repeats a line until MLflow has it. Lines that MLflow does not have
    when the process ends are in the training's own log on disk: the next start and `ensure_run` send them.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self.run_id = run_id
        self._curve = Curve(client, run_id)
        self._waiting: deque[tuple[int, dict[str, float]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._send, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Have the thread log the `metrics` that the run does not hold yet at `step`."""
        with self._changed:
            self._waiting.append((step, dict(metrics)))
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Wait until MLflow has all lines, for `timeout` seconds at most, and print how many it lacks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            # From now on only the gate sends them.
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            print(f"MLflow does not answer: the gate will add {left} lines of the curve", flush=True)

    def _send(self) -> None:
        is_away = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                step, metrics = self._waiting[0]
            try:
                self._curve.log(step, metrics)
            except _AWAY as error:
                if not is_away:
                    print(
                        f"MLflow does not answer ({first_line(error)}); training goes on and sends metrics later",
                        flush=True,
                    )
                is_away = True
                time.sleep(_RETRY)
                continue
            is_away = False
            with self._changed:
                if self._waiting:
                    self._waiting.popleft()
