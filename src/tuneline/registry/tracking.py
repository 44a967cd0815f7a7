"""MLflow: the connection to it, and the model versions of its registry with their tags and aliases.

Only this file and runs.py import MLflow.
"""

import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.artifacts
import requests
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from mlflow.utils.uri import is_local_uri
from sqlalchemy.exc import SQLAlchemyError

from tuneline import processes, terminal
from tuneline.core import files
from tuneline.errors import BrokenVersionError, RegistryError, TrackingError, one_line
from tuneline.registry import addresses, version_files
from tuneline.registry.addresses import CLASSIC_VIEW, Pages
from tuneline.registry.names import quoted
from tuneline.registry.runs import Dataset, Runs, translate_errors

# The source of a version: this prefix and the id of the logged model.
_LOGGED = "models:/"
# The tag of a logged model with the process that makes a version of it.
_MAKER = "tuneline.maker"
_LOGGED_ID = re.compile("m-[0-9a-f]{32}")
_PAGE = 100
_MOST_DIGITS = 9


@dataclass(frozen=True)
class NewVersion:
    """What a version is made from."""

    model: str
    """The registered model's name, and that of its experiment."""
    run_id: str
    """The training run."""
    folder: Path
    """A plain folder that `from_pretrained` loads."""
    sha256: str
    """Of the folder, by `version_files.sha256`."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """Shown with the model, and searched by `search_logged_models`."""
    dataset: Dataset
    """What the metrics were measured on."""
    describe: Callable[[Pages], str]
    """The description in Markdown, which links to these pages."""


@dataclass(frozen=True)
class Logged:
    """A logged model that this package has made, with or without a version."""

    id: str
    maker: str
    """The `processes.Identity` of the process that made it, as JSON."""
    changed: float
    """The time of MLflow's last change to it, in seconds since 1970."""
    was: str | None
    """The number of the version that was made from it; None if MLflow knows none."""
    folder: Path | None
    """The folder of its files on this machine; None where a server keeps them."""


class Tracker(Runs):
    """A checked connection to a tracking address: its runs, and the versions in its registry."""

    @translate_errors
    def create_version(self, new: NewVersion) -> str:
        """Register a folder as the next version of a model.

        Args:
            new: the folder, and what MLflow shows with it.

        Returns:
            The version's number.

        Raises:
            RegistryError: the folder or its copy has another digest, so no version is made.
        """
        model = new.model
        maker = processes.Identity.of_process().as_json()
        logged = self._client.create_logged_model(
            self._experiment(model), name=model, source_run_id=new.run_id, tags={_MAKER: maker}
        )
        place = self._on_this_machine(logged)
        try:
            if place:
                # MLflow's own copy would take new space where the file system can share blocks.
                files.copy_tree(new.folder, place)
            else:
                self._client.log_model_artifacts(logged.model_id, str(new.folder))
            # A server's copy cannot be hashed, but the folder that was sent to it can.
            if version_files.sha256(place or new.folder) != new.sha256:
                raise RegistryError(
                    f"{model}: the files have changed while they were copied to MLflow, so nothing is registered; run "
                    "the same command again"
                )
            now = int(time.time() * 1000)
            measured_on = {"dataset_name": new.dataset.name, "dataset_digest": new.dataset.short_digest}
            self._client.log_batch(
                new.run_id,
                [
                    Metric(name, value, now, 0, model_id=logged.model_id, **measured_on)
                    for name, value in new.metrics.items()
                ],
            )
        except BaseException:
            # Free the space, because the disk may be full.
            self._discard(logged.model_id, place)
            raise
        self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        # With tags and description in one step, so that no version is ever seen without them.
        made = self._client.create_model_version(
            model,
            f"{_LOGGED}{logged.model_id}",
            new.run_id,
            tags=dict(new.tags),
            description=new.describe(_pages(logged, new.run_id)),
            model_id=logged.model_id,
        )
        version = str(made.version)
        # As mlflow.register_model does: the UI shows it on the page of the logged model.
        of_version = json.dumps([{"name": model, "version": version}])
        self._client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: of_version})
        return version

    @translate_errors
    def delete_version(self, model: str, version: str) -> bool:
        """Delete a version with its files; those that a server keeps are freed by `mlflow gc`.

        Returns:
            Whether it was deleted; a version with an alias is in use and stays.
        """
        if version in self.aliases(model).values():
            return False
        source = self._version(model, version).source or ""
        logged = self._client.get_logged_model(source.removeprefix(_LOGGED)) if source.startswith(_LOGGED) else None
        place = self._on_this_machine(logged) if logged else None
        if logged and MLFLOW_MODEL_VERSIONS in logged.tags:
            # If a kill comes now, the logged model looks like the remains of a killed register and is removed later.
            self._client.delete_logged_model_tag(logged.model_id, MLFLOW_MODEL_VERSIONS)
        self._client.delete_model_version(model, version)
        if logged:
            self._discard(logged.model_id, place)
        return True

    @translate_errors
    def logged_models(self, experiment: str, model: str) -> list[Logged]:
        """The logged models of `model` that this package has made, the oldest first.

        Args:
            experiment: the experiment that they belong to.
            model: the registered model's name.

        Raises:
            TrackingError: the store is a copy that names files of its original.
        """
        if self._client.get_experiment_by_name(experiment) is None:
            return []
        kept = self._experiment(experiment)
        found, token = [], None
        while True:
            page = self._client.search_logged_models(
                [kept], f"name = {quoted(model)}", max_results=_PAGE, page_token=token
            )
            found += [self._as_logged(one) for one in page if _MAKER in one.tags]
            token = page.token
            if not token:
                return sorted(found, key=lambda one: (one.changed, one.id))

    def _as_logged(self, logged: LoggedModel) -> Logged:
        return Logged(
            id=logged.model_id,
            maker=logged.tags[_MAKER],
            changed=logged.last_updated_timestamp / 1000,
            was=_versions_of(logged.tags.get(MLFLOW_MODEL_VERSIONS, "[]")),
            folder=self._on_this_machine(logged),
        )

    @translate_errors
    def used_sources(self) -> set[str]:
        """The source of the files of every version of every registered model, one text per version."""
        found, token = set(), None
        while True:
            page = self._client.search_model_versions(max_results=_PAGE, page_token=token)
            for version in page:
                found.add(f"{version.source} {version.model_id}")
                if not f"{version.source}".startswith(f"{_LOGGED}m-"):
                    # A version that was copied from another version.
                    found.add(self._client.get_model_version_download_uri(version.name, version.version))
            token = page.token
            if not token:
                return found

    @translate_errors
    def logged_size(self, logged: Logged) -> int:
        """Bytes of the files of a logged model that a server keeps."""
        size, waiting = 0, [""]
        while waiting:
            for one in self._client.list_logged_model_artifacts(logged.id, waiting.pop() or None):
                waiting += [one.path] if one.is_dir else []
                size += one.file_size or 0
        return size

    @translate_errors
    def discard(self, logged: Logged) -> None:
        """Delete a logged model with its files; those that a server keeps are freed by `mlflow gc`."""
        self._discard(logged.id, logged.folder)

    def _discard(self, number: str, place: Path | None) -> None:
        # Once it is deleted in MLflow nothing leads to its files any more.
        if place and place.exists():
            shutil.rmtree(place)
        self._client.delete_logged_model(number)

    @translate_errors
    def erase_version_files(self, model: str, version: str) -> str | None:
        """Delete the files of a version, which itself stays with its tags; it is not an error if they are gone.

        Returns:
            Where the files are, if they are no logged model of MLflow: then they stay. Else None.
        """
        source = self._version(model, version).source or ""
        if not source.startswith(_LOGGED):
            return source or "an unknown place"
        try:
            logged = self._logged(model, version, source)
        except BrokenVersionError:
            # Its logged model was deleted by a person, and MLflow keeps the files until `mlflow gc`.
            if left := self._folder_of_deleted(source.removeprefix(_LOGGED)):
                shutil.rmtree(left)
            return None
        self._delete_artifacts(logged.artifact_location)
        return None

    @translate_errors
    def erase_logged(self, logged: Logged) -> None:
        """Delete a logged model with its files, those that a server keeps included."""
        self._delete_artifacts(self._client.get_logged_model(logged.id).artifact_location)
        self._discard(logged.id, logged.folder)

    @translate_errors
    def deleted_folders(self) -> list[Path]:
        """The folders in the store on this machine whose logged models a person has deleted, of whatever model."""
        home = _local_folder(self._location() or "") if addresses.database_of(self.address) else None
        found = sorted(home.glob("models/m-*")) if home else []
        return [path for path in found if self._folder_of_deleted(path.name)]

    def _folder_of_deleted(self, number: str) -> Path | None:
        home = _local_folder(self._location() or "") if addresses.database_of(self.address) else None
        if home is None or not _LOGGED_ID.fullmatch(number) or not (home / "models" / number).is_dir():
            return None
        try:
            self._client.get_logged_model(number)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return home / "models" / number
            raise
        return None

    @translate_errors
    def has_files(self, model: str, version: str) -> bool:
        """Whether any file of a version is left."""
        source = self._version(model, version).source or ""
        try:
            logged = self._logged(model, version, source) if source.startswith(_LOGGED) else None
        except BrokenVersionError:
            return False
        return logged is not None and bool(get_artifact_repository(logged.artifact_location).list_artifacts())

    @translate_errors
    def all_runs(self, experiment: str) -> list[str]:
        """The ids of all runs of an experiment, deleted or not."""
        kept = self._client.get_experiment_by_name(experiment)
        return [run.id for run in self.log_runs(kept.experiment_id)] if kept else []

    @translate_errors
    def erase_run_files(self, run_id: str) -> None:
        """Delete the artifacts of a run, which itself stays with its numbers."""
        self._delete_artifacts(self._client.get_run(run_id).info.artifact_uri)

    def _delete_artifacts(self, address: str | None) -> None:
        if not address:
            return
        owner = "a run or a model"
        place = _local_folder(address)
        if self._in_store(address, owner) is None and place and place.exists():
            raise TrackingError(
                f"{self.address}: {owner} keeps its files in {place}, says the server, and this folder of this machine "
                "may be another one; nothing is deleted; delete its files by hand, and run the same command again"
            )
        repository = get_artifact_repository(address)
        # A server refuses to delete what does not exist.
        if repository.list_artifacts():
            repository.delete_artifacts()

    @translate_errors
    def last_finish_time(self, experiment: str) -> float | None:
        """When the newest finished run ended, in seconds since 1970; None if no run has finished."""
        kept = self._client.get_experiment_by_name(experiment)
        found = (
            self._client.search_runs(
                [kept.experiment_id],
                "attributes.status = 'FINISHED'",
                max_results=1,
                order_by=["attributes.end_time DESC"],
            )
            if kept
            else []
        )
        return found[0].info.end_time / 1000 if found and found[0].info.end_time else None

    @translate_errors
    def find_versions(self, model: str, tags: Mapping[str, str]) -> list[str]:
        """The numbers of the versions of `model` with all of `tags`, the oldest first."""
        # Tags are compared here and not in MLflow's filter, in which their values could say something else.
        found = self.all_version_tags(model).items()
        return sorted((version for version, own in found if tags.items() <= own.items()), key=int)

    @translate_errors
    def update_version(self, model: str, version: str, tags: Mapping[str, str], description: str | None = None) -> None:
        """Set tags of a version and, if given, its description in Markdown."""
        if description is not None:
            self._client.update_model_version(model, version, description)
        for name, value in tags.items():
            self._client.set_model_version_tag(model, version, name, value)

    @translate_errors
    def version_tags(self, model: str, version: str) -> dict[str, str]:
        """The tags of a version.

        Raises:
            RegistryError: the registry does not have the version; names those that it has.
        """
        return dict(self._version(model, version).tags)

    @translate_errors
    def all_version_tags(self, model: str) -> dict[str, dict[str, str]]:
        """Number -> tags of all versions of a model."""
        return {str(version.version): dict(version.tags) for version in self._versions(model)}

    @translate_errors
    def version_sources(self, model: str) -> dict[str, str]:
        """Number -> source of all versions of a model: where their files are, which no two versions share."""
        return {str(version.version): version.source or "" for version in self._versions(model)}

    def _versions(self, model: str) -> list[ModelVersion]:
        found, token = [], None
        while True:
            page = self._client.search_model_versions(f"name = {quoted(model)}", max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    @translate_errors
    def registered_tags(self, model: str) -> dict[str, str] | None:
        """The tags of a registered model itself; None if the registry does not have the model."""
        found = self._model(model)
        return dict(found.tags) if found else None

    @translate_errors
    def version_metrics(self, model: str, version: str) -> dict[str, float]:
        """The metrics of a version from its registration; empty where its logged model was deleted."""
        source = self._version(model, version).source or ""
        try:
            logged = self._logged(model, version, source) if source.startswith(_LOGGED) else None
        except BrokenVersionError:
            return {}
        return {metric.key: metric.value for metric in (logged.metrics if logged else None) or []}

    @translate_errors
    def version_time(self, model: str, version: str) -> float:
        """When a version was registered, in seconds since 1970."""
        return self._version(model, version).creation_timestamp / 1000

    @translate_errors
    def read_file(self, model: str, version: str, name: str) -> bytes | None:
        """The bytes of a small file of a version, not checked against its digest; None if the version lacks it.

        Args:
            model: the registered model's name.
            version: its number.
            name: of a file at the top of the version's folder.

        Raises:
            BrokenVersionError: the version has no source, or its logged model was deleted.
        """
        source = self._version(model, version).source or ""
        if not source.startswith(_LOGGED):
            raise BrokenVersionError(f"{model} version {version}", "it has no logged model in MLflow")
        logged = self._logged(model, version, source)
        if place := self._on_this_machine(logged):
            return (place / name).read_bytes() if (place / name).is_file() else None
        if name not in {one.path for one in self._client.list_logged_model_artifacts(logged.model_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            place = mlflow.artifacts.download_artifacts(f"{_LOGGED}{model}/{version}/{name}", dst_path=folder)
            return Path(place).read_bytes()

    @translate_errors
    def version_description(self, model: str, version: str) -> str:
        """The description of a version; may be empty.

        Raises:
            RegistryError: the registry does not have the version; names those that it has.
        """
        return self._version(model, version).description or ""

    @translate_errors
    def version_by_alias(self, model: str, alias: str) -> str | None:
        """The version that has the alias, or None; `latest` stands for the newest version."""
        try:
            return str(self._client.get_model_version_by_alias(model, alias).version)
        except MlflowException as error:
            # The first code stands for a missing alias, the second for a missing model.
            if error.error_code in (ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)):
                return None
            raise

    @translate_errors
    def aliases(self, model: str) -> dict[str, str]:
        """Alias -> version of a model; empty if the registry does not have the model."""
        found = self._model(model)
        return {name: str(version) for name, version in found.aliases.items()} if found else {}

    @translate_errors
    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Give a version an alias, which another version may have: MLflow replaces it in one step."""
        self._client.set_registered_model_alias(model, alias, version)

    @translate_errors
    def remove_alias(self, model: str, alias: str) -> None:
        """Take an alias away from the version that has it; it is not an error if no version has it."""
        self._client.delete_registered_model_alias(model, alias)

    @translate_errors
    def find_webhooks(self, name: str) -> list[str]:
        """The ids of the webhooks with this name."""
        found, token = [], None
        while True:
            page = self._client.list_webhooks(page_token=token)
            found += [str(one.webhook_id) for one in page if one.name == name]
            token = page.token
            if not token:
                return found

    @translate_errors
    def create_webhook(self, name: str, url: str, secret: str) -> str:
        """Have MLflow send a signed request to `url` when an alias of any model is set or removed; returns the id."""
        events: list[Any] = ["model_version_alias.created", "model_version_alias.deleted"]
        return str(self._client.create_webhook(name, url, events, secret=secret).webhook_id)

    @translate_errors
    def delete_webhook(self, number: str) -> None:
        """Delete a webhook by its id."""
        self._client.delete_webhook(number)

    @translate_errors
    def model_tags(self, model: str) -> dict[str, str]:
        """The tags of a registered model itself; empty if the registry does not have the model."""
        return self.registered_tags(model) or {}

    @translate_errors
    def tag_model(self, model: str, tags: Mapping[str, str]) -> None:
        """Set tags of a registered model itself."""
        for name, value in tags.items():
            self._client.set_registered_model_tag(model, name, value)

    @translate_errors
    def download(self, model: str, version: str, folder: Path) -> None:
        """Copy the files of a version into `folder`, which is made.

        Raises:
            BrokenVersionError: the version has no source, or its logged model was deleted, or its files are elsewhere.
        """
        source = self._version(model, version).source
        if not source:
            raise BrokenVersionError(f"{model} version {version}", "it has no source in MLflow")
        if not source.startswith(_LOGGED):
            # Whoever can write to the registry can name any folder or address there.
            raise BrokenVersionError(
                f"{model} version {version}",
                "its source is not a logged model of MLflow, so tuneline did not register it",
            )
        self._logged(model, version, source)
        mlflow.artifacts.download_artifacts(source, dst_path=str(folder))

    @translate_errors
    def local_folder(self, model: str, version: str) -> Path | None:
        """The folder of a version's files on this machine, not to be changed; None where a server keeps them.

        Raises:
            BrokenVersionError: the logged model that holds them was deleted.
        """
        source = self._version(model, version).source or ""
        if not source.startswith(_LOGGED):
            return None
        return self._on_this_machine(self._logged(model, version, source))

    def _logged(self, model: str, version: str, source: str) -> LoggedModel:
        try:
            return self._client.get_logged_model(source.removeprefix(_LOGGED))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
        reason = f"the logged model that holds its files ({source.removeprefix(_LOGGED)}) was deleted in MLflow"
        raise BrokenVersionError(f"{model} version {version}", reason)

    def _on_this_machine(self, logged: LoggedModel) -> Path | None:
        return self._in_store(logged.artifact_location, f"the logged model {logged.model_id}")

    def _in_store(self, location: str, owner: str) -> Path | None:
        """The folder of files in the store on this machine; None where a server keeps them.

        Raises:
            TrackingError: the folder is outside of the store.
        """
        # A path from a server may be a path of another machine.
        place = _local_folder(location) if addresses.database_of(self.address) else None
        if place is None:
            return None
        # Folders are deleted by this path, and whoever can write to the database can change it.
        home = _local_folder(self._location() or "")
        if home is None or home.resolve() not in place.resolve().parents:
            raise TrackingError(
                f"{self.address}: {owner} keeps its files in {place}, not below {home}: the store was moved or copied, "
                "or a person has changed it; move the project back, or move this store away, and the next run makes a "
                "new store"
            )
        return place

    def _model(self, model: str) -> RegisteredModel | None:
        try:
            return self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            return None

    def _version(self, model: str, version: str) -> ModelVersion:
        # MLflow's databases cannot even look for a longer number.
        if len(version) <= _MOST_DIGITS:
            try:
                return self._client.get_model_version(model, version)
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    raise
        known = self.find_versions(model, {})
        remedy = f"it has versions {', '.join(known)}" if known else "it has no version yet; make one with: make run"
        raise RegistryError(
            f"{model} version {terminal.shortened(version)}: is not in the registry at {self.address}; {remedy}"
        )


def _versions_of(tag: str) -> str | None:
    """The numbers in MLflow's tag of a logged model; None if it names no version."""
    try:
        return ", ".join(str(one["version"]) for one in json.loads(tag)) or None
    except (ValueError, TypeError, LookupError, RecursionError):
        # Edited by hand: whatever was made from it is not a version of ours.
        return "unknown"


def _local_folder(location: str) -> Path | None:
    """The folder of this machine that MLflow uses for an artifact location; None where it is elsewhere."""
    # A location without a scheme is a path too.
    is_here = bool(location) and is_local_uri(location, is_tracking_or_registry_uri=False)
    return Path(local_file_uri_to_path(location)) if is_here else None


def _pages(logged: LoggedModel, run_id: str) -> Pages:
    experiment = f"#/experiments/{logged.experiment_id}"
    return Pages(
        files=f"{experiment}/models/{logged.model_id}/artifacts{CLASSIC_VIEW}",
        run=f"{experiment}/runs/{run_id}{CLASSIC_VIEW}",
    )


def connect() -> Tracker:
    """Connect to the address in MLFLOW_TRACKING_URI and check that MLflow answers.

    Raises:
        TrackingError: the address does not answer, or is not an MLflow.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # Its tracebacks are about errors that are raised too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Otherwise the client prints the address of a run into the output of commands.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    address = mlflow.get_tracking_uri()
    remedy = "start it, or set MLFLOW_TRACKING_URI in mlflow/tuneline.env; then run the same command again"
    if address.startswith(("http://", "https://")):
        # MLflow's client would retry for minutes before it fails.
        try:
            answer = requests.get(f"{address.rstrip('/')}/health", timeout=10)
            answer.raise_for_status()
        # An address that cannot be one, such as http://a..b, is a ValueError of urllib3.
        except (requests.RequestException, ValueError) as error:
            raise TrackingError(f"MLflow at {address} does not answer ({type(error).__name__}): {remedy}") from None
        return _checked(address, remedy)
    if store := addresses.database_of(address):
        with addresses.hold_store(address, store):
            if not store.exists():
                _make(store, remedy)
            return _checked(address, remedy)
    return _checked(address, remedy)


def _make(store: Path, remedy: str) -> None:
    """Make a store whole or not at all: MLflow cannot go on with a migration in whose middle it was killed."""
    with files.atomic_file(store) as temporary:
        _checked(f"{addresses.SQLITE}{temporary}", remedy)


def _checked(address: str, remedy: str) -> Tracker:
    try:
        client = mlflow.MlflowClient(address)
        client.search_experiments(max_results=1)
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"MLflow at {address} cannot be used: the package {error.name}, which Python needs for this database, is "
            "not installed; add it to the dependencies in pyproject.toml (CONTRIBUTING.md says how), or set "
            "MLFLOW_TRACKING_URI in mlflow/tuneline.env to another address"
        ) from None
    except (MlflowException, SQLAlchemyError, OSError, ValueError) as error:
        # SQLAlchemy adds the complete statement.
        reason = one_line(error).split(" [SQL: ")[0].strip(" :.")
        if (store := addresses.database_of(address)) and addresses.LOCKED in reason:
            raise TrackingError(
                f"MLflow's store {address}: {store} is locked, because another program writes to it; wait until "
                "that program ends, or end it, then run the same command again"
            ) from None
        raise TrackingError(f"MLflow at {address} cannot be used: {reason}; {remedy}") from None
    return Tracker(client, address)
