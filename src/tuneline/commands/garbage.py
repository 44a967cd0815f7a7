"""`tuneline gc`: delete what killed processes and changed params leave behind.

It deletes only files that no run reads again: no version, no output of a stage, nothing in DVC's cache.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuneline import git, params, processes
from tuneline.core import files
from tuneline.decisions import kept_trials
from tuneline.errors import TrackingError
from tuneline.pipeline import repro
from tuneline.registry import addresses
from tuneline.training import checkpoints
from tuneline.work import WORK

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
MOST = 10 * 10**9
"""A run prints a warning if work/ holds more bytes."""
_NAMED = 3


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no run needs any more."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes."""
        return _size(self.path)


@dataclass(frozen=True)
class Registered:
    """The leftovers in MLflow, and when the last training finished."""

    finished: float | None
    """When the newest finished training ended, in seconds since 1970. None: unknown."""
    lines: list[str]
    freed: int


def collect(*, dry_run: bool, other_branches: bool = False) -> list[str]:
    """Delete leftovers, if no run and no training uses the project.

    Args:
        dry_run: only list them.
        other_branches: also delete checkpoints that a training of another git branch could resume.

    Returns:
        A line for each leftover, and a line with the total.

    Raises:
        BusyError: a run or a training holds the project.
    """
    with repro.hold_project(), processes.exclusive(checkpoints.LOCK, "this project's training"):
        p = params.load()
        stale = list(repro.stale_stages())
        made = (p.paths.clean, p.paths.augmented, p.paths.base, p.paths.finetuned, p.paths.reports)
        registered = _of_registry(p.registry.model, dry_run=dry_run)
        branches = [] if other_branches else branches_with_other_params()
        found = [*partials((p.data.raw, p.paths.mixture, *made, str(WORK)))]
        lines = []
        for training in trainings():
            if reason := needed(_changed(training.path), stale, registered.finished, branches):
                lines.append(f"{training.path}: {training.size / 1e6:,.1f} MB, kept, {reason}")
            else:
                found.append(training)
        lines += kept_searches()
        freed = registered.freed
        for leftover in found:
            path, size = leftover.path, leftover.size
            freed += size
            lines.append(f"{path}: {size / 1e6:,.1f} MB, {leftover.why}")
            if not dry_run:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [*lines, *registered.lines, f"{'to free' if dry_run else 'freed'}: {freed / 1e6:,.1f} MB"]


def needed(changed: float, stale: Sequence[str], finished: float | None, branches: Sequence[str]) -> str | None:
    """The reason why checkpoints of a stopped training are kept. None if no training resumes from them.

    Args:
        changed: when they were last written, in seconds since 1970.
        stale: stages that are stale.
        finished: when the newest finished training ended. None: unknown.
        branches: other git branches of this project that have different params.
    """
    # If no stage is stale, the training of these params has finished, and the checkpoints belong to other params.
    if stale:
        return f"because a training may resume from it ({', '.join(stale)} is stale)"
    if finished is None or changed > finished:
        return "because it is newer than the newest training that has finished according to MLflow"
    if branches:
        more = f" and {len(branches) - _NAMED} more" if len(branches) > _NAMED else ""
        return (
            f"because a training of another git branch may resume from it ({', '.join(branches[:_NAMED])}{more} has a "
            "different params.yaml); to delete it, run: .venv/bin/tuneline gc --other-branches"
        )
    return None


def branches_with_other_params() -> list[str]:
    """Local and remote branches that are not merged into HEAD and have another params.yaml than the working tree."""
    if not git.ask("rev-parse", "--verify", "--quiet", "HEAD"):
        return []
    own = git.ask("hash-object", "--", params.PARAMS_FILE)
    places = ("refs/heads", "refs/remotes")
    names = git.ask("for-each-ref", "--format=%(refname)", "--no-merged=HEAD", *places).splitlines()
    theirs = {name: git.ask("rev-parse", "--verify", "--quiet", f"{name}:./{params.PARAMS_FILE}") for name in names}
    return [re.sub("^refs/(heads|remotes)/", "", name) for name, hash_ in theirs.items() if hash_ not in ("", own)]


def _of_registry(model: str, *, dry_run: bool) -> Registered:
    """List, and delete, what killed registers have left in MLflow."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    store = addresses.database_of(address)
    if store and not store.is_file():
        return Registered(None, [], 0)
    # Importing MLflow takes seconds.
    from tuneline.registry import abandoned, tracking

    lines, freed = [], 0
    try:
        tracker = tracking.connect()
        finished = tracker.last_finish_time(model)
        for one in abandoned.find_abandoned(tracker, model):
            size = _size(one.logged.folder) if one.logged.folder else tracker.logged_size(one.logged)
            place = one.logged.folder or f"{one.logged.id} in MLflow"
            if one.kept:
                lines.append(f"{_shown(place)}: {size / 1e6:,.1f} MB, kept: {one.kept}")
                continue
            later = "" if one.logged.folder else "; `mlflow gc` on the server deletes its files"
            lines.append(f"{_shown(place)}: {size / 1e6:,.1f} MB, from a killed register{later}")
            freed += size
            if not dry_run:
                tracker.discard(one.logged)
    except TrackingError as error:
        return Registered(
            None, [*lines, f"leftovers of killed registers in MLflow were not searched for: {error}"], freed
        )
    return Registered(finished, lines, freed)


def _shown(place: Path | str) -> Path | str:
    is_here = isinstance(place, Path) and place.is_relative_to(Path.cwd())
    return place.relative_to(Path.cwd()) if isinstance(place, Path) and is_here else place


def warning(most: int = MOST) -> str | None:
    """A warning with the largest parts of work/, if it holds more than `most` bytes. None if not."""
    sizes = {path: _size(path) for path in WORK.glob("*")}
    if (total := sum(sizes.values())) <= most:
        return None
    largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_NAMED]
    named = ", ".join(f"{path} {sizes[path] / 1e9:,.1f} GB" for path in largest)
    return (
        f"{WORK}/ holds {total / 1e9:,.1f} GB ({named}); to list what no run needs any more: "
        ".venv/bin/tuneline gc --dry-run"
    )


def _changed(path: Path) -> float:
    """When a folder or anything in it was last changed, in seconds since 1970."""
    return max(inner.lstat().st_mtime for inner in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    found = 0
    for file in [path] if path.is_symlink() or not path.is_dir() else path.rglob("*"):
        # Other processes may delete files meanwhile.
        with suppress(FileNotFoundError):
            if file.is_symlink() or file.is_file():
                found += file.lstat().st_size
    return found


def trainings() -> Iterator[Leftover]:
    """The checkpoints of trainings that did not finish."""
    for path in sorted(WORK.glob("*")):
        if path.is_dir() and not path.is_symlink() and _FINGERPRINT.fullmatch(path.name):
            day = datetime.fromtimestamp(_changed(path)).astimezone().strftime("%Y-%m-%d %H:%M")
            last = checkpoints.newest(path)
            yield Leftover(
                path,
                f"{last.name if last else 'no checkpoint'} of a training that stopped on {day}, with other "
                "params than now; the training would start again",
            )


def kept_searches() -> list[str]:
    """A line for each search: `gc` deletes none, because it can go on, and its trials are results."""
    return [
        f"{path}: {_size(path) / 1e6:,.1f} MB, kept, because the search can go on; to delete it with its trials and "
        f"their models in DVC's cache, run: .venv/bin/tuneline search --name {name} --delete"
        for name in kept_trials.names()
        for path in (kept_trials.FOLDER / name,)
    ]


def partials(places: Sequence[str]) -> Iterator[Leftover]:
    """Temporary files and folders of killed processes: next to each of `places`, in it, and in work/temporary."""
    seen: set[Path] = set()
    for place in map(Path, places):
        for path in [*files.find_temporary(place.parent), *files.find_temporary(place)]:
            if path not in seen and files.is_abandoned(path):
                seen.add(path)
                yield Leftover(path, "temporary file of a killed write")
    for path in sorted(files.TEMPORARY.glob("*")):
        if files.is_abandoned(path):
            yield Leftover(path, "temporary folder of a killed process")
