"""DVC's own files, which it writes in place: what a kill in the middle of a write leaves is mended here.

work/kept/dvc.lock, work/kept/.dvc/config, work/kept/data/raw/mine.dvc     the last good copies
.dvc/tmp/rwlock                                                            what running dvc processes hold
work/dvc/repo/…/cache.db                                                   what DVC remembers of hashes
"""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tuneline import files, worktree
from tuneline.errors import PipelineError
from tuneline.work import WORK

KEPT = WORK / "kept"
"""The last good copies, each under its own path."""

_LOCK = Path("dvc.lock")
_CONFIG = Path(".dvc/config")
_TEMPORARY = Path(".dvc/tmp")
_RWLOCK = _TEMPORARY / "rwlock"
# Sets and bases lie at most so deep that these find their .dvc files without a walk through the data.
_POINTERS = ("*.dvc", "*/*.dvc", "*/*/*.dvc")
# How DVC writes the command of a process down: its program, then the arguments.
_COMMAND = re.compile(r".*?(?:dvc/__main__\.py|(?:^|/)dvc)(?P<arguments>(?: .*)?)$", re.DOTALL)
# Seconds by which the clock of the processes and that of the files may differ.
_CLOCKS = 2.0


def keep() -> None:
    """Keep a copy of each of DVC's files that is whole and has changed."""
    for path in _written():
        content = path.read_bytes()
        if content != _kept(path) and _is_whole(path, content):
            with files.atomic_file(KEPT / path) as beside:
                beside.write_bytes(content)


def mend() -> list[str]:
    """Mend what a killed dvc has left of its files, while the caller holds the project.

    A file that is not whole is replaced by its last good copy, or by the last commit's. What dead processes hold is
    freed; a process is known by its id, its start and its command, as an id is given to others after a while.

    Returns:
        What was mended, one line each; nothing where all is sound, or where another dvc is at work.

    Raises:
        GitError: the last commit would be needed, and git refuses.
        PipelineError: a file that only a person can mend.
    """
    broken = _broken()
    if not broken and not (_RWLOCK.is_file() and _is_held()):
        return []
    from dvc.lock import LockError, make_lock

    # Without a configuration dvc cannot hold its lock.
    mended = [_restored(path) for path in broken if path == _CONFIG]
    _TEMPORARY.mkdir(exist_ok=True)
    try:
        # Whoever holds it writes the other files, and ends what it has begun.
        with make_lock(str(_TEMPORARY / "lock"), str(_TEMPORARY), hardlink_lock=_links_locks()):
            return [*mended, *map(_restored, _broken()), *_freed()]
    except LockError:
        return mended


def mend_databases() -> list[str]:
    """Remove what DVC remembers of hashes where it cannot be read any more; DVC hashes the files again.

    Returns:
        What was removed, one line each.
    """
    site = os.environ.get("DVC_SITE_CACHE_DIR")
    removed = []
    for database in sorted(Path(site, "repo").rglob("*.db")) if site else []:
        if not _is_sound(database):
            shutil.rmtree(database.parent)
            removed.append(f"{_short(database)}: was damaged and is removed; DVC hashes the files again")
    return removed


def _is_sound(database: Path) -> bool:
    try:
        connection = sqlite3.connect(database)
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        finally:
            connection.close()
    except sqlite3.OperationalError:
        # Another dvc writes to it, or it may not be read: nothing is known of what it holds.
        return True
    except sqlite3.DatabaseError:
        return False


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path


def _links_locks() -> bool:
    from dvc.config import Config

    return bool(Config(dvc_dir=".dvc", validate=False).get("core", {}).get("hardlink_lock"))


def _written() -> Iterator[Path]:
    """The files that DVC writes in place and that are there."""
    if not _CONFIG.parent.is_dir():
        return
    yield from (path for path in (_CONFIG, _LOCK) if path.is_file())
    for pattern in _POINTERS:
        yield from (path for path in sorted(Path().glob(pattern)) if path.parts[0][:1] != "." and path.is_file())


def _broken() -> list[Path]:
    """Those that are not whole."""
    found = []
    for path in _written():
        content = path.read_bytes()
        if content != _kept(path) and not _is_whole(path, content):
            found.append(path)
    return found


def _kept(path: Path) -> bytes | None:
    return (KEPT / path).read_bytes() if (KEPT / path).is_file() else None


def _is_whole(path: Path, content: bytes) -> bool:
    from dvc import schema
    from dvc.config import Config, ConfigError
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    if path == _CONFIG:
        try:
            Config.load_file(path)
        except ConfigError:
            return False
        # Nothing is a valid configuration, but not what is left of one.
        return bool(content.strip()) or not _last_good(path)[0]
    try:
        text = content.decode("utf-8")
        value: Any = parse_yaml(text, path)
        (schema.COMPILED_LOCKFILE_SCHEMA if path == _LOCK else schema.COMPILED_SINGLE_STAGE_SCHEMA)(value)
    except (UnicodeDecodeError, ParseError, Invalid):
        return False
    if path != _LOCK:
        outs = value.get("outs") or []
        return bool(outs) and all("path" in out for out in outs)
    # It is written in several steps, and what stands before a cut may be readable.
    kept = _kept(path) or b""
    stages = value.get("stages") or {}
    before = parse_yaml(kept.decode("utf-8"), path).get("stages", {}) if kept.startswith(content) else stages
    return text.endswith("\n") and bool(stages) and all(stages[name] == before[name] for name in stages)


def _last_good(path: Path) -> tuple[bytes | None, str]:
    """The newest content that was good, and where it is from."""
    kept = _kept(path)
    if kept is not None:
        return kept, "the last good copy"
    committed = worktree.committed(path)
    return (f"{committed}\n".encode() if committed else None), "the last commit"


def _restored(path: Path) -> str:
    content = path.read_bytes()
    if b"<<<<<<< " in content:
        raise PipelineError(
            f"{path}: holds a conflict of a merge; take one side with `git checkout --ours -- {path}` or `--theirs`, "
            "then run the same command again"
        )
    aside = ""
    if content:
        broken = KEPT / f"{path}.broken"
        with files.atomic_file(broken) as beside:
            beside.write_bytes(content)
        aside = f"; what was left of it is {broken}"
    good, origin = _last_good(path)
    if good is None:
        path.unlink()
        remedy = {
            _LOCK: "stages are made again, or taken from DVC's cache",
            _CONFIG: "DVC's defaults hold; set again what you had set, as with `.venv/bin/dvc remote add`",
        }.get(path, f"put it under DVC again: .venv/bin/dvc add {path.with_suffix('')}")
        return f"{path}: a write of it was interrupted, and there is no copy; it is removed{aside}; {remedy}"
    with files.atomic_file(path) as beside:
        beside.write_bytes(good)
    return f"{path}: a write of it was interrupted; restored from {origin}{aside}"


def _is_held() -> bool:
    """Whether rwlock says that processes hold something, or says nothing that can be read."""
    try:
        return any(json.loads(_RWLOCK.read_bytes()).values())
    except (ValueError, AttributeError):
        return True


def _freed() -> list[str]:
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    if not _RWLOCK.is_file():
        return []
    try:
        held: Any = SCHEMA(json.loads(_RWLOCK.read_bytes()))
    except (ValueError, Invalid):
        _RWLOCK.unlink()
        return [f"{_RWLOCK}: a write of it was interrupted; it is removed, as no dvc is at work"]
    written = _RWLOCK.stat().st_mtime
    readers = {path: [one for one in infos if _lives(one, written)] for path, infos in held["read"].items()}
    writers = {path: one for path, one in held["write"].items() if not one or _lives(one, written)}
    before = [*held["write"].values(), *(one for infos in held["read"].values() for one in infos)]
    after = [*writers.values(), *(one for infos in readers.values() for one in infos)]
    dead = sorted({one["pid"] for one in before if one not in after})
    if not dead:
        return []
    files.write_json(_RWLOCK, {"write": writers, "read": {path: infos for path, infos in readers.items() if infos}})
    return [f"{_RWLOCK}: freed what a killed dvc held (pid {', '.join(map(str, dead))})"]


def _lives(info: dict[str, Any], written: float) -> bool:
    """Whether the process that an entry names is still the one that made it.

    Args:
        info: `pid` and `cmd`, the program and its arguments.
        written: when entries were last written, in seconds; the process must have started before.
    """
    if not info:
        return True
    try:
        process = psutil.Process(info["pid"])
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + _CLOCKS:
            return False
        command = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.AccessDenied:
        return True
    told = _COMMAND.match(info["cmd"])
    return told is None or command.endswith(f"dvc{told['arguments']}")
