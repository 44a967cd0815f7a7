"""MLflow's store as a file on this machine: found by its address, and seen to be unchanged without MLflow."""

import hashlib
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from tuneline import files

SQLITE = "sqlite:///"


def path_of(address: str) -> Path | None:
    """The database file of a tracking address; None where a server keeps the store."""
    return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None


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
