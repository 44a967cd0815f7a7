"""What kills and changed params leave behind, and what `tuneline gc` frees of it.

It touches neither DVC's cache nor the registry nor what a stage has made: only files that no run will read again.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tuneline import params, pipeline, processes
from tuneline.training import checkpoints
from tuneline.work import WORK

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
MOST = 10 * 10**9
"""Bytes that work/ may hold before a run says so."""
_NAMED = 3
_PARTIAL = re.compile(r"\..+\.(\d+)\.partial")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs any more."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes."""
        return _size(self.path)


def collect(*, dry_run: bool) -> list[str]:
    """Remove what is left over, while no run and no training uses the project.

    Args:
        dry_run: only say what would be removed.

    Returns:
        A line for each leftover, and what was freed in all.

    Raises:
        BusyError: a run or a training holds the project.
    """
    with pipeline.alone(), processes.exclusive(checkpoints.LOCK, "this project's training"):
        p = params.load()
        # A training of which nothing is stale has ended: what lies in work/ is then of other params.
        stale = pipeline.stale()
        made = (p.paths.clean, p.paths.base, p.paths.finetuned, p.paths.reports)
        found = [*partials((p.data.raw, p.paths.mixture, *made, str(WORK)))]
        unfinished = list(trainings())
        lines = [
            f"{one.path}: kept, as a training may go on from it ({', '.join(stale)} is stale)"
            for one in unfinished
            if stale
        ]
        found += [] if stale else unfinished
        freed = 0
        for one in found:
            size = one.size
            freed += size
            lines.append(f"{one.path}: {size / 1e6:,.1f} MB, {one.why}")
            if not dry_run:
                shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()
        return [*lines, f"{'to free' if dry_run else 'freed'}: {freed / 1e6:,.1f} MB"]


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
            yield Leftover(path, "checkpoints of a training that the params do not name")


def partials(places: Sequence[str]) -> Iterator[Leftover]:
    """What killed processes were writing beside, and in, each of `places`."""
    seen: set[Path] = set()
    for place in map(Path, places):
        for path in sorted([*place.parent.glob(".*.partial"), *place.glob(".*.partial")]):
            owner = _PARTIAL.fullmatch(path.name)
            if owner and path not in seen and not psutil.pid_exists(int(owner[1])):
                seen.add(path)
                yield Leftover(path, "the half of a write that was killed")
