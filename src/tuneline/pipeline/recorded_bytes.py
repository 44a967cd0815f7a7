"""The bytes that a stage has made, from DVC's cache or remote and not from the workspace: also while a stage runs."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tuneline.errors import DataError, PipelineError
from tuneline.pipeline import dvc_files, graph, objects

# DVC writes dvc.lock in place, so for a moment it may be empty or end early.
_TRIES = 10
_SECONDS = 0.2


def read_record(stage: str) -> dict[str, Any]:
    """What dvc.lock records of a stage; while DVC writes the file, or where a kill has cut it, its last good copy.

    Args:
        stage: its name.

    Returns:
        `outs`, `deps` and `params`, as in dvc.lock.

    Raises:
        DataError: the stage has never run.
    """
    kept = dvc_files.KEPT / graph.LOCK
    content = _read_lock()
    for _ in range(_TRIES):
        time.sleep(_SECONDS)
        before, content = content, _read_lock()
        # What is the same after a moment is not being written.
        if content == before:
            break
    is_cut = kept.is_file() and content != kept.read_bytes() and kept.read_bytes().startswith(content)
    record = None if is_cut else _record(graph.LOCK, stage)
    record = record or _record(kept, stage)
    if not record:
        raise DataError(f"{graph.LOCK}: does not record the stage {stage}; run it with: make run")
    return record


def _read_lock() -> bytes:
    return graph.LOCK.read_bytes() if graph.LOCK.is_file() else b""


def _record(lock: Path, stage: str) -> dict[str, Any] | None:
    if not lock.is_file():
        return None
    try:
        stages = graph.read_yaml(lock).get("stages")
    except PipelineError:
        return None
    found = stages.get(stage) if isinstance(stages, dict) else None
    return found if isinstance(found, dict) else None


def locate(record: Mapping[str, Any], name: str, folder: Path) -> Path:
    """A file with the recorded bytes of an output of a stage; not to be changed.

    Args:
        record: what `read_record` returns.
        name: the file name of the output.
        folder: where a file from the remote is put.

    Returns:
        The object in DVC's cache if it is undamaged, else the object fetched from the remote.

    Raises:
        DataError: neither the cache nor the remote has it.
    """
    outs = {PurePosixPath(one["path"]).name: one for one in record.get("outs", [])}
    md5 = outs.get(name, {}).get("md5")
    if not isinstance(md5, str):
        raise DataError(f"{graph.LOCK}: records no {name}; make it with: make run")
    cached = objects.place(dvc_files.cache_folder(), md5)
    if _has_md5(cached, md5):
        return cached
    where = "not in DVC's cache, and DVC has no remote"
    if remote := objects.remote_name():
        where = f"neither in DVC's cache nor in its remote '{remote}'"
        fetched = folder / "files" / "md5"
        try:
            objects.pull_objects([md5], fetched)
        except PipelineError as error:
            where = f"not in DVC's cache, and {'; '.join(error.problems)}"
        if _has_md5(objects.place(fetched, md5), md5):
            return objects.place(fetched, md5)
    state = "is damaged in DVC's cache, and is" if cached.is_file() else "is"
    raise DataError(
        f"{outs[name]['path']} with the md5 {md5[:12]}…, which {graph.LOCK} records, {state} {where}; if the workspace "
        "has it, `make run` puts it back, else it evaluates again"
    )


def _has_md5(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
