"""What an address of MLflow leads to, found without loading MLflow: a database file here, or the pages of a server."""

import hashlib
import http.client
import json
import sqlite3
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuneline import processes
from tuneline.core import files
from tuneline.errors import TrackingError

SQLITE = "sqlite:///"
LOCKED = "database is locked"
"""SQLite's message where another program writes to the database for too long."""
CLASSIC_VIEW = "?workflowType=machine_learning"
"""Without it the UI opens in its view of GenAI applications, which has no entry for models."""
FULL = "database or disk is full"
"""SQLite's message where the disk is full."""
_SECONDS_TO_ANSWER = 20.0
_ELSEWHERE = "set MLFLOW_TRACKING_URI in mlflow/tuneline.env to another path; then run the same command again"


@dataclass(frozen=True)
class Pages:
    """Links to pages of the MLflow UI that work wherever it is served; they are relative to its address."""

    files: str
    """The files of a version."""
    run: str
    """Its training run, with the inputs of the training."""


def database_of(address: str) -> Path | None:
    """The database file of a tracking address; None where a server keeps the store."""
    return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None


@contextmanager
def hold_store(address: str, store: Path) -> Iterator[None]:
    """Hold a store that can be used while MLflow makes or migrates it: two processes on a new store would race.

    MLflow itself tries for minutes to open what it cannot open.

    Args:
        address: of MLflow.
        store: its database file; MLflow makes it where it is missing.

    Raises:
        TrackingError: why the file cannot be used, and the remedy.
    """
    if problem := _problem_of_name(store):
        raise TrackingError(f"MLflow's store {address}: {problem}")
    with ExitStack() as stack:
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            lock = store.with_suffix(".lock")
            stack.enter_context(processes.exclusive(lock, "the making of MLflow's store", wait=True))
        except OSError as error:
            raise TrackingError(
                f"MLflow's store {address}: nothing can be written to {store.parent} ({error.strerror}); make it "
                f"writable, or {_ELSEWHERE}"
            ) from None
        if problem := _problem_of_file(store):
            raise TrackingError(f"MLflow's store {address}: {problem}")
        yield


def _problem_of_name(store: Path) -> str | None:
    if str(store) in (".", ":memory:"):
        return f"it is in memory and would be lost when the process ends; {_ELSEWHERE}"
    # SQLAlchemy reads options after a ?, and decodes a %.
    if found := [character for character in "?%" if character in str(store)]:
        return f"SQLAlchemy reads a path with {' and '.join(found)} as another file; {_ELSEWHERE}"
    return None


def _problem_of_file(store: Path) -> str | None:
    if not store.exists():
        return None
    if not store.is_file():
        return f"{store} is a folder and not a database; {_ELSEWHERE}"
    try:
        with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(store))}?mode=rw", uri=True, timeout=0)) as opened:
            # A write that is rolled back at once finds a file, or a folder, that is read-only.
            opened.execute("BEGIN IMMEDIATE")
            opened.execute("PRAGMA user_version = 1")
            opened.rollback()
    except sqlite3.OperationalError as error:
        # Another process writes to the store now, and MLflow waits for it.
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return None
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            return f"the disk with {store} is full; free some space, then run the same command again"
        return f"{store} cannot be written to ({error}); make it writable, or {_ELSEWHERE}"
    except sqlite3.DatabaseError as error:
        return (
            f"{store} is damaged ({error}); put a copy of it back, or move it away: the next run makes a new store and "
            "registers what is in the workspace"
        )
    return None


def store_digest(address: str) -> str | None:
    """The sha256 of all that the store holds now, in hex: the same digest means the same runs, versions and tags.

    Args:
        address: of MLflow, as in MLFLOW_TRACKING_URI.

    Returns:
        None where a server keeps the store, or the store does not exist yet.
    """
    store = database_of(address)
    if store is None or not store.is_file():
        return None
    # SQLite keeps what is not yet in the database in files next to it.
    parts = [store, *(store.with_name(f"{store.name}{end}") for end in ("-wal", "-journal"))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update((files.sha256_file(part) if part.is_file() else "none").encode())
    return digest.hexdigest()


def ui_pages(address: str, model: str | None) -> dict[str, str]:
    """The pages of the MLflow UI that people look for.

    Args:
        address: of an MLflow server that answers.
        model: the name of the registered model and of its experiment; None where it is not known.

    Returns:
        What a page shows -> its address; the pages of the model and its runs only where the server has them.
    """
    found = {}
    if model and _get(address, "registered-models/get", ("registered_model", "name"), name=model):
        found[f"model {model}"] = f"{address}/#/models/{urllib.parse.quote(model)}{CLASSIC_VIEW}"
    found["all models"] = f"{address}/#/models{CLASSIC_VIEW}"
    keys = ("experiment", "experiment_id")
    if model and (number := _get(address, "experiments/get-by-name", keys, experiment_name=model)):
        found["training runs"] = f"{address}/#/experiments/{number}/runs{CLASSIC_VIEW}"
    return found


def without_login(address: str) -> str:
    """The address without user and password, for links that others see."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _get(address: str, method: str, keys: tuple[str, str], **values: str) -> str | None:
    """A value from an answer of MLflow's REST API; None where MLflow does not know it, or the server is not MLflow."""
    url = f"{address}/api/2.0/mlflow/{method}?{urllib.parse.urlencode(values)}"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS_TO_ANSWER) as answer:
            return json.load(answer)[keys[0]][keys[1]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        # URLError and TimeoutError are OSErrors; the page of a proxy is not JSON, or JSON of another shape.
        return None
