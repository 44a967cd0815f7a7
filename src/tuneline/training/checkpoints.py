"""Checkpoints that count only if they are complete: the manifest, written last, has the sha256 of every file.

    work/<fingerprint>/checkpoint-300/manifest.json

A checkpoint is written to a temporary folder, synced to disk and renamed. After a kill or a power cut it is complete
or can be seen to be broken.
"""

import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.core.identity import MANIFEST, is_complete
from tuneline.work import WORK

LOCK = WORK / "training.lock"
"""The lock file that the only trainer of a project holds."""
_PREFIX = "checkpoint-"


@contextmanager
def writing(folder: Path, step: int, keep: int, best: int | None = None) -> Iterator[Path]:
    """A temporary folder that becomes the checkpoint of `step` if the block succeeds.

    Args:
        folder: of all checkpoints of one training.
        step: optimizer steps taken.
        keep: checkpoints that are left in the end, with those that they need. At least one is left while the new one is
            written.
        best: the step with the best weights so far. The new checkpoint needs that checkpoint, so it is kept too.

    Yields:
        An empty folder.
    """
    # A checkpoint is several times as large as the model: the oldest is deleted before the new one is written. The
    # checkpoints that the others need are kept.
    _delete_old(folder, keep=max(keep - 1, 1))
    with files.atomic_folder(folder / f"{_PREFIX}{step}") as temporary, files.full_disk_as_os_error(temporary):
        yield temporary
        needed = [] if best in (None, step) else [best]
        manifest = {"step": step, "needs": needed, "files": files.sha256_tree(temporary)}
        files.write_json(temporary / MANIFEST, manifest)
    _delete_old(folder, keep)


def _delete_old(folder: Path, keep: int) -> None:
    """Delete all but the newest checkpoints and those that they need: any of them may turn out to be damaged."""
    found = _checkpoints(folder)
    staying = {needed for checkpoint in found[-keep:] for needed in _with_needed(checkpoint)}
    for checkpoint in found:
        if checkpoint not in staying:
            shutil.rmtree(checkpoint)


def save_weights(model: Any, folder: Path) -> None:
    """Write the weights of a model; of a model with adapters, only the adapters."""
    # Without this argument peft asks the hub for the base, to see whether its vocabulary has changed.
    known = inspect.signature(model.save_pretrained).parameters
    more = {"save_embedding_layers": False} if "save_embedding_layers" in known else {}
    model.save_pretrained(folder, **more)


def of_step(folder: Path, step: int | None) -> Path:
    """The path of the checkpoint of `step`, which may not exist."""
    return folder / f"{_PREFIX}{step}"


def newest_good(folder: Path) -> Path | None:
    """The newest complete checkpoint that has a complete checkpoint of the best weights. All others are deleted.

    Args:
        folder: of all checkpoints of one training; it may not exist.

    Returns:
        The folder of the checkpoint; None if the training must start from the beginning.
    """
    good = next((path for path in reversed(_checkpoints(folder)) if all(map(is_complete, _with_needed(path)))), None)
    kept = _with_needed(good) if good else []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return good


def newest(folder: Path) -> Path | None:
    """The checkpoint with the highest step; it may be incomplete."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def _with_needed(checkpoint: Path) -> list[Path]:
    """A checkpoint and the checkpoints that it needs; without a readable manifest, only the checkpoint."""
    try:
        needed = files.read_json(checkpoint / MANIFEST)["needs"]
        return [checkpoint, *(of_step(checkpoint.parent, int(step)) for step in needed)]
    except (OSError, ValueError, KeyError, TypeError):
        return [checkpoint]


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if path.is_dir() and path.name.startswith(_PREFIX)]
    numbered = [path for path in named if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix(_PREFIX)))
