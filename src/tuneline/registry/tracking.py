"""MLflow: runs with their curves, logged models, versions, aliases. The only file that imports it.

A run is found by its tag `tuneline.fingerprint`, never by an id kept elsewhere: a model restored from DVC's cache, or a
registry that is empty, leads to the same run again.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
import mlflow.artifacts
import requests
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from tuneline import processes
from tuneline.errors import RegistryError, TrackingError

FINGERPRINT = "tuneline.fingerprint"

P = ParamSpec("P")
R = TypeVar("R")

_SQLITE = "sqlite:///"
_DIGEST_LENGTH = 36  # the column of MLflow's store


@dataclass(frozen=True)
class Dataset:
    """What a run read: name, sha256 and where it lies; shown by MLflow as an input of the run."""

    name: str
    sha256: str
    path: str
    context: str


@dataclass(frozen=True)
class Subject:
    """What a training run is about; enough to find it or to make it anew."""

    fingerprint: str
    experiment: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    inputs: tuple[Dataset, ...]


def _translated(method: Callable[P, R]) -> Callable[P, R]:
    """MLflow's own errors as one message with the address."""

    @functools.wraps(method)
    def call(*arguments: P.args, **more: P.kwargs) -> R:
        try:
            return method(*arguments, **more)
        except (MlflowException, SQLAlchemyError) as error:
            address = mlflow.get_tracking_uri()
            raise TrackingError(f"MLflow at {address} failed: {str(error).splitlines()[0]}; run it again") from error

    return call


class Tracker:
    """A connection to one tracking address, checked when it is made."""

    def __init__(self, client: mlflow.MlflowClient, address: str) -> None:
        self._client = client
        self.address = address

    @contextmanager
    def training_run(self, subject: Subject) -> Iterator["LiveRun"]:
        """The run of `subject`, made or gone on with; its system metrics are kept while the block runs.

        A kill leaves the run RUNNING, and the next call goes on with it: steps that it holds already are not logged
        again.

        Args:
            subject: what is trained.

        Yields:
            The run to log to.
        """
        run = self.find_run(subject) or self._create_run(subject)
        mlflow.set_system_metrics_sampling_interval(5)
        with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=True):
            yield LiveRun(self._client, run.info.run_id)

    @_translated
    def ensure_run(self, subject: Subject, curve: list[tuple[int, dict[str, float]]]) -> str:
        """The id of the run of `subject`; where it is missing it is made, curve included.

        Args:
            subject: what was trained.
            curve: step and metrics, as the training report holds them.

        Returns:
            The run's id.
        """
        run = self.find_run(subject) or self._create_run(subject)
        live = LiveRun(self._client, run.info.run_id)
        for step, metrics in curve:
            live.add(step, metrics)
        if run.info.status != "FINISHED":
            self._client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id

    @_translated
    def find_run(self, subject: Subject) -> Run | None:
        """The newest run with the subject's fingerprint, or None."""
        found = self._client.search_runs(
            [self._experiment(subject.experiment)],
            f"tags.`{FINGERPRINT}` = '{subject.fingerprint}'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return found[0] if found else None

    def _create_run(self, subject: Subject) -> Run:
        tags = {FINGERPRINT: subject.fingerprint, **subject.tags}
        name = f"{subject.experiment}-{subject.fingerprint[:8]}"
        run = self._client.create_run(self._experiment(subject.experiment), tags=tags, run_name=name)
        params = [Param(name, str(value)) for name, value in subject.params.items()]
        self._client.log_batch(run.info.run_id, params=params)
        with mlflow.start_run(run_id=run.info.run_id):
            for dataset in subject.inputs:
                source = CodeDatasetSource({"path": dataset.path, "sha256": dataset.sha256})
                meta = MetaDataset(source, name=dataset.name, digest=dataset.sha256[:_DIGEST_LENGTH])
                mlflow.log_input(meta, context=dataset.context)
        return run

    @_translated
    def describe_run(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add final metrics and tags to a run."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    @_translated
    def attach(self, run_id: str, files: Mapping[Path, str]) -> None:
        """Keep files with a run: local path -> folder among the run's artifacts ("" for the top)."""
        for path, folder in files.items():
            self._client.log_artifact(run_id, str(path), folder or None)

    def _experiment(self, name: str) -> str:
        location = None
        if self.address.startswith(_SQLITE):
            # Without a location, a direct SQLite store keeps artifacts in ./mlruns, wherever the process stands.
            store = Path(self.address.removeprefix(_SQLITE)).resolve().parent
            location = (store / "artifacts").as_uri()
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            if (
                location
                and str(experiment.artifact_location).startswith("file:")
                and (experiment.artifact_location != location)
            ):
                raise TrackingError(
                    f"{self.address}: was moved or copied: experiment {name} keeps its files in "
                    f"{experiment.artifact_location}, not in {location}; move the project back, or begin a new store "
                    "by moving this one away"
                )
            return experiment.experiment_id
        try:
            return self._client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            existing = self._client.get_experiment_by_name(name)
            if existing is None:
                raise TrackingError(f"{self.address}: experiment {name} cannot be made: {error.message}") from None
            return existing.experiment_id

    @_translated
    def create_version(
        self, model: str, experiment: str, run_id: str, folder: Path, tags: Mapping[str, str], description: str
    ) -> str:
        """Register a folder as the next version of `model`.

        Args:
            model: the registered model's name.
            experiment: where its logged model is kept.
            run_id: the run that made it.
            folder: a plain folder that `from_pretrained` loads.
            tags: of the version.
            description: of the version, in Markdown.

        Returns:
            The version's number.
        """
        logged = self._client.create_logged_model(self._experiment(experiment), name=model, source_run_id=run_id)
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        version = mlflow.register_model(f"models:/{logged.model_id}", model, tags=dict(tags))
        self._client.update_model_version(model, str(version.version), description)
        return str(version.version)

    @_translated
    def find_versions(self, model: str, tags: Mapping[str, str]) -> list[str]:
        """Numbers of the versions of `model` that carry all of `tags`, oldest first."""
        wanted = " and ".join([f"name = '{model}'", *(f"tags.`{name}` = '{value}'" for name, value in tags.items())])
        return sorted((str(found.version) for found in self._client.search_model_versions(wanted)), key=int)

    @_translated
    def tag_version(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of one version."""
        for name, value in tags.items():
            self._client.set_model_version_tag(model, version, name, value)

    @_translated
    def version_tags(self, model: str, version: str) -> dict[str, str]:
        """The tags of one version.

        Raises:
            RegistryError: there is no such version; names those there are.
        """
        return dict(self._version(model, version).tags)

    @_translated
    def version_by_alias(self, model: str, alias: str) -> str | None:
        """The version that `alias` names, or None."""
        try:
            return str(self._client.get_model_version_by_alias(model, alias).version)
        except MlflowException as error:
            # An absent alias is the first of these codes, an absent model the second.
            if error.error_code in (ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)):
                return None
            raise

    @_translated
    def download(self, model: str, version: str, folder: Path) -> None:
        """Copy the files of a version into `folder`, which is made."""
        source = self._version(model, version).source
        if source is None:
            raise RegistryError(f"{model} version {version}: has no source in {self.address}; register it again")
        mlflow.artifacts.download_artifacts(source, dst_path=str(folder))

    def _version(self, model: str, version: str) -> ModelVersion:
        try:
            return self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
        known = self.find_versions(model, {})
        there_are = f"there are versions {', '.join(known)}" if known else "there is none yet; make one with: make run"
        raise RegistryError(f"{model} version {version}: not in the registry at {self.address}; {there_are}")


class LiveRun:
    """A run that takes a curve; a step that it holds already is passed over.

    It observes: where MLflow fails in between, training goes on, and `ensure_run` adds what is missing.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        self._last: dict[str, int] = {}
        self._fails = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log `metrics` at `step`, as far as the run does not hold them yet; a failure is said once."""
        if self._fails:
            return
        try:
            self.add(step, metrics)
        except (MlflowException, SQLAlchemyError) as error:
            self._fails = True
            print(f"MLflow failed, so this curve is completed at the gate: {str(error).splitlines()[0]}", flush=True)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log `metrics` at `step`, as far as the run does not hold them yet."""
        new = {name: value for name, value in metrics.items() if step > self._last_step(name)}
        if new:
            now = int(time.time() * 1000)
            self._client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in new.items()])
            self._last.update(dict.fromkeys(new, step))

    def _last_step(self, name: str) -> int:
        if name not in self._last:
            history = self._client.get_metric_history(self.run_id, name)
            self._last[name] = max((metric.step for metric in history), default=-1)
        return self._last[name]


def connect() -> Tracker:
    """Connect to the address in MLFLOW_TRACKING_URI and ask it for one thing.

    Raises:
        TrackingError: the address does not answer, or answers as no MLflow does.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    address = mlflow.get_tracking_uri()
    remedy = "start it, or set MLFLOW_TRACKING_URI in mlflow/tuneline.env; then run the same command again"
    if address.startswith(("http://", "https://")):
        # The client would retry for minutes before it says the same.
        try:
            answer = requests.get(f"{address.rstrip('/')}/health", timeout=10)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise TrackingError(f"MLflow at {address} does not answer ({type(error).__name__}): {remedy}") from None
        return _checked(address, remedy)
    if address.startswith(_SQLITE):
        store = Path(address.removeprefix(_SQLITE))
        store.parent.mkdir(parents=True, exist_ok=True)
        # Two processes on a fresh store race in its migration.
        with processes.exclusive(store.with_suffix(".lock"), "the making of MLflow's store", wait=True):
            return _checked(address, remedy)
    return _checked(address, remedy)


def _checked(address: str, remedy: str) -> Tracker:
    try:
        client = mlflow.MlflowClient(address)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TrackingError(f"MLflow at {address} cannot be used: {reason}: {remedy}") from None
    return Tracker(client, address)
