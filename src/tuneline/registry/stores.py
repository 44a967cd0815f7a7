"""MLflow's store as a file on this machine: found by its address, and seen to be sound or unchanged without MLflow."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlparse
from urllib.request import url2pathname

from tuneline import processes
from tuneline.core import files
from tuneline.errors import TrackingError

SQLITE = "sqlite:///"
LOCKED = "database is locked"
"""What SQLite says where another program has kept it waiting for too long."""


def path_of(address: str) -> Path | None:
    """The database file of a tracking address; None where a server keeps the store."""
    return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None


@contextmanager
def checked(address: str, store: Path) -> Iterator[None]:
    """Hold a store that can be used while MLflow makes or migrates it: two processes on a fresh one would race.

    MLflow itself tries for minutes to open what it cannot open.

    Args:
        address: of MLflow.
        store: its database file; made by MLflow where it is missing.

    Raises:
        TrackingError: with what keeps the file from being used, and the remedy.
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


_ELSEWHERE = "set MLFLOW_TRACKING_URI in mlflow/tuneline.env to another place; then run the same command again"


def _problem_of_name(store: Path) -> str | None:
    if str(store) in (".", ":memory:"):
        return f"it is in memory, where nothing lasts; {_ELSEWHERE}"
    # SQLAlchemy takes what follows for options, and decodes the other.
    if found := [character for character in "?%" if character in str(store)]:
        return f"a path with {' and '.join(found)} leads to another file; {_ELSEWHERE}"
    return None


def _problem_of_file(store: Path) -> str | None:
    if not store.exists():
        return None
    if not store.is_file():
        return f"{store} is a folder and not a database; {_ELSEWHERE}"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(store))}?mode=rw", uri=True, timeout=0)) as connection:
            # A write that is taken back at once: it shows a file, and a folder, that may only be read.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("PRAGMA user_version = 1")
            connection.rollback()
    except sqlite3.OperationalError as error:
        # Somebody writes to it now, and MLflow waits for that.
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return None
        return f"{store} cannot be written to ({error}); make it writable, or {_ELSEWHERE}"
    except sqlite3.DatabaseError as error:
        return (
            f"{store} is damaged ({error}); put a copy of it back, or move it away, and a new store begins: the next "
            "run registers what is in the workspace"
        )
    return None


def local(location: str) -> Path | None:
    """The folder that an artifact location names, if it is one of this machine."""
    parts = urlparse(location)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def digest(address: str) -> str | None:
    """The sha256 of all that the store holds now, in hex: the same digest, the same runs, versions, aliases and tags.

    Args:
        address: of MLflow, as in MLFLOW_TRACKING_URI.

    Returns:
        None where it cannot be told: the store is a server's, or there is none yet.
    """
    store = path_of(address)
    if store is None or not store.is_file():
        return None
    # SQLite keeps what is not yet in the database beside it.
    parts = [store, *(store.with_name(f"{store.name}{end}") for end in ("-wal", "-journal"))]
    whole = hashlib.sha256()
    for part in parts:
        whole.update((files.sha256_file(part) if part.is_file() else "none").encode())
    return whole.hexdigest()
