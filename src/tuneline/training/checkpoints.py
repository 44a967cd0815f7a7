"""Checkpoints that count only when they are whole: a manifest, written last, names the sha256 of every file.

    work/<fingerprint>/checkpoint-300/manifest.json

A checkpoint is written beside its place, synced to disk and renamed, so that a kill or a power cut at any instant
leaves either all of it or something that is seen to be broken.
"""

import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.core.identity import MANIFEST, is_complete
from tuneline.work import WORK

LOCK = WORK / "training.lock"
"""Held by the one trainer of a project."""
_PREFIX = "checkpoint-"


@contextmanager
def writing(folder: Path, step: int, keep: int, best: int | None = None) -> Iterator[Path]:
    """A folder to write the checkpoint of `step` into; on success it counts. The oldest ones go before, to make room.

    Args:
        folder: of all checkpoints of one training.
        step: optimizer steps taken.
        keep: checkpoints that there are in the end; one stays while another is written.
        best: the step whose weights are the best so far; its checkpoint stays too, as this one is of no use without it.

    Yields:
        An empty folder.
    """
    # Each is several times the model: the oldest goes before, and what those that stay are of no use without does not.
    staying = _checkpoints(folder)[-max(keep - 1, 1) :]
    _delete_all_but(folder, {needed for checkpoint in staying for needed in _with_needed(checkpoint)})
    with files.atomic_folder(folder / f"{_PREFIX}{step}") as beside, files.full_disk_as_os_error(beside):
        yield beside
        needed = [] if best in (None, step) else [best]
        manifest = {"step": step, "needs": needed, "files": files.sha256_tree(beside)}
        files.write_json(beside / MANIFEST, manifest)
    _delete_all_but(folder, {*_checkpoints(folder)[-keep:], of_step(folder, best)})


def _delete_all_but(folder: Path, staying: set[Path]) -> None:
    for checkpoint in _checkpoints(folder):
        if checkpoint not in staying:
            shutil.rmtree(checkpoint)


def save_weights(model: Any, folder: Path) -> None:
    """Write the weights, or of a model with adapters only those."""
    # peft would look for the base on the hub to see whether its vocabulary was changed.
    more = {"save_embedding_layers": False} if "save_embedding_layers" in _parameters(model.save_pretrained) else {}
    model.save_pretrained(folder, **more)


def of_step(folder: Path, step: int | None) -> Path:
    """Where the checkpoint of `step` lies, if there is one."""
    return folder / f"{_PREFIX}{step}"


def newest_good(folder: Path) -> Path | None:
    """The newest whole checkpoint whose best one is whole too; everything else in `folder` is deleted.

    Args:
        folder: of all checkpoints of one training; it may not exist.

    Returns:
        The checkpoint's folder, or None where training starts from the beginning.
    """
    good = next((path for path in reversed(_checkpoints(folder)) if all(map(is_complete, _with_needed(path)))), None)
    kept = _with_needed(good) if good else []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return good


def newest(folder: Path) -> Path | None:
    """The newest checkpoint as far as its name says, for a message."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def _with_needed(checkpoint: Path) -> list[Path]:
    """A checkpoint and those that it is of no use without; only itself where its manifest cannot be read."""
    try:
        needed = files.read_json(checkpoint / MANIFEST)["needs"]
        return [checkpoint, *(of_step(checkpoint.parent, int(step)) for step in needed)]
    except (OSError, ValueError, KeyError, TypeError):
        return [checkpoint]


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if path.is_dir() and path.name.startswith(_PREFIX)]
    numbered = [path for path in named if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix(_PREFIX)))


def _parameters(method: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(method).parameters)
