"""What kills and changed params leave behind, and what `tuneline gc` frees of it.

It touches neither DVC's cache nor a version nor what a stage has made: only files that no run will read again.
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
from tuneline.errors import TrackingError
from tuneline.pipeline import repro
from tuneline.registry import addresses
from tuneline.training import checkpoints
from tuneline.work import WORK

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
MOST = 10 * 10**9
"""Bytes that work/ may hold before a run says so."""
_NAMED = 3


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs any more."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes."""
        return _size(self.path)


@dataclass(frozen=True)
class Registered:
    """What MLflow tells of leftovers."""

    finished: float | None
    """When the newest training that has ended well has ended, in seconds since 1970."""
    lines: list[str]
    freed: int


def collect(*, dry_run: bool, other_branches: bool = False) -> list[str]:
    """Remove what is left over, while no run and no training uses the project.

    Args:
        dry_run: only say what would be removed.
        other_branches: remove checkpoints, too, that a training of another git branch may go on from.

    Returns:
        A line for each leftover, and what was freed in all.

    Raises:
        BusyError: a run or a training holds the project.
    """
    with repro.hold_project(), processes.exclusive(checkpoints.LOCK, "this project's training"):
        p = params.load()
        stale = list(repro.stale_stages())
        made = (p.paths.clean, p.paths.base, p.paths.finetuned, p.paths.reports)
        registered = _of_registry(p.registry.model, dry_run=dry_run)
        branches = [] if other_branches else branches_with_other_params()
        found = [*partials((p.data.raw, p.paths.mixture, *made, str(WORK)))]
        lines = []
        for one in trainings():
            if reason := needed(_changed(one.path), stale, registered.finished, branches):
                lines.append(f"{one.path}: {one.size / 1e6:,.1f} MB, kept, {reason}")
            else:
                found.append(one)
        freed = registered.freed
        for one in found:
            size = one.size
            freed += size
            lines.append(f"{one.path}: {size / 1e6:,.1f} MB, {one.why}")
            if not dry_run:
                shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()
        return [*lines, *registered.lines, f"{'to free' if dry_run else 'freed'}: {freed / 1e6:,.1f} MB"]


def needed(changed: float, stale: Sequence[str], finished: float | None, branches: Sequence[str]) -> str | None:
    """Why the checkpoints of a training that was stopped are kept, in words; None where no training goes on from them.

    Args:
        changed: when they were written last, in seconds since 1970.
        stale: stages that are stale.
        finished: when the newest training that has ended well has ended; None where that is not known.
        branches: other git branches of this project with params of their own.
    """
    # A training of which nothing is stale has ended: what lies in work/ is then of other params.
    if stale:
        return f"as a training may go on from it ({', '.join(stale)} is stale)"
    if finished is None or changed > finished:
        return "as it is newer than the newest training that MLflow knows to have ended"
    if branches:
        more = f" and {len(branches) - _NAMED} more" if len(branches) > _NAMED else ""
        return (
            f"as a training of another git branch may go on from it ({', '.join(branches[:_NAMED])}{more} has another "
            "params.yaml); free it all the same with: .venv/bin/tuneline gc --other-branches"
        )
    return None


def branches_with_other_params() -> list[str]:
    """The branches, here and of remotes, that HEAD does not hold and whose params.yaml is not the working tree's."""
    if not git.ask("rev-parse", "--verify", "--quiet", "HEAD"):
        return []
    own = git.ask("hash-object", "--", params.PARAMS_FILE)
    places = ("refs/heads", "refs/remotes")
    names = git.ask("for-each-ref", "--format=%(refname)", "--no-merged=HEAD", *places).splitlines()
    theirs = {name: git.ask("rev-parse", "--verify", "--quiet", f"{name}:./{params.PARAMS_FILE}") for name in names}
    return [re.sub("^refs/(heads|remotes)/", "", name) for name, one in theirs.items() if one not in ("", own)]


def _of_registry(model: str, *, dry_run: bool) -> Registered:
    """Look at, and remove, what killed registers have left in MLflow."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    store = addresses.database_of(address)
    if store and not store.is_file():
        return Registered(None, [], 0)
    # Takes seconds, as it imports MLflow.
    from tuneline.registry import abandoned, tracking

    lines, freed = [], 0
    try:
        tracker = tracking.connect()
        finished = tracker.last_finished(model)
        for one in abandoned.find_abandoned(tracker, model):
            size = _size(one.logged.folder) if one.logged.folder else tracker.size_of(one.logged)
            place = one.logged.folder or f"{one.logged.id} in MLflow"
            if one.kept:
                lines.append(f"{_shown(place)}: {size / 1e6:,.1f} MB, kept: {one.kept}")
                continue
            later = "" if one.logged.folder else "; the server frees its files by `mlflow gc`"
            lines.append(f"{_shown(place)}: {size / 1e6:,.1f} MB, of a register that was killed{later}")
            freed += size
            if not dry_run:
                tracker.discard(one.logged)
    except TrackingError as error:
        return Registered(
            None, [*lines, f"what killed registers have left in MLflow was not looked for: {error}"], freed
        )
    return Registered(finished, lines, freed)


def _shown(place: Path | str) -> Path | str:
    is_here = isinstance(place, Path) and place.is_relative_to(Path.cwd())
    return place.relative_to(Path.cwd()) if isinstance(place, Path) and is_here else place


def warning(most: int = MOST) -> str | None:
    """A line that says what work/ holds, where it has grown too large; None where it has not.

    Args:
        most: bytes that it may hold.
    """
    sizes = {path: _size(path) for path in WORK.glob("*")}
    if (whole := sum(sizes.values())) <= most:
        return None
    largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_NAMED]
    named = ", ".join(f"{path} {sizes[path] / 1e9:,.1f} GB" for path in largest)
    return (
        f"{WORK}/ holds {whole / 1e9:,.1f} GB ({named}); what no run needs any more is named by: "
        ".venv/bin/tuneline gc --dry-run"
    )


def _changed(path: Path) -> float:
    """When a folder or anything in it has changed last, in seconds since 1970."""
    return max(one.lstat().st_mtime for one in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    found = 0
    for one in [path] if path.is_symlink() or not path.is_dir() else path.rglob("*"):
        # Others may be at work there.
        with suppress(FileNotFoundError):
            if one.is_symlink() or one.is_file():
                found += one.lstat().st_size
    return found


def trainings() -> Iterator[Leftover]:
    """The checkpoints of trainings that have not ended."""
    for path in sorted(WORK.glob("*")):
        if path.is_dir() and not path.is_symlink() and _FINGERPRINT.fullmatch(path.name):
            day = datetime.fromtimestamp(_changed(path)).astimezone().strftime("%Y-%m-%d %H:%M")
            last = checkpoints.newest(path)
            yield Leftover(
                path,
                f"{last.name if last else 'no checkpoint'} of a training that stopped on {day} and that the params do "
                "not name; with its params it would begin anew",
            )


def partials(places: Sequence[str]) -> Iterator[Leftover]:
    """What killed processes were writing beside, and in, each of `places`, and their temporary folders."""
    seen: set[Path] = set()
    for place in map(Path, places):
        for path in [*files.find_temporary(place.parent), *files.find_temporary(place)]:
            if path not in seen and files.is_abandoned(path):
                seen.add(path)
                yield Leftover(path, "the half of a write that was killed")
    for path in sorted(files.TEMPORARY.glob("*")):
        if files.is_abandoned(path):
            yield Leftover(path, "the temporary folder of a process that was killed")
