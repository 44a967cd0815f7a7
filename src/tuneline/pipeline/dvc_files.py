"""DVC's own files, which it writes in place: what a kill in the middle of a write leaves is mended here.

work/kept/dvc.lock, work/kept/.dvc/config, work/kept/data/raw/mine.dvc     the last good copies
.dvc/tmp/rwlock                                                            what running dvc processes hold
work/dvc/repo/…/cache.db                                                   what DVC remembers of hashes
"""

import json
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tuneline import git, terminal
from tuneline.core import files
from tuneline.errors import PipelineError, one_line
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


# Options of a DVC remote that are passwords, whatever its kind.
_SECRETS = frozenset(
    {
        "account_key",
        "client_secret",
        "connection_string",
        "gdrive_client_secret",
        "oss_key_secret",
        "passphrase",
        "password",
        "sas_token",
        "secret_access_key",
        "session_token",
        "sse_customer_key",
        "token",
    }
)


@dataclass(frozen=True)
class _Fault:
    """What keeps one of DVC's files from being whole."""

    said: str = ""
    """What a parser or DVC's schema says of it; empty where what is there is sound, and something is missing."""
    line: int | None = None
    """Where, from 1."""
    is_at_end: bool = False
    """Whether it is in the last stage of dvc.lock: what stands before it may be what a kill has left."""


def keep() -> None:
    """Keep a copy of each of DVC's files that is whole and has changed."""
    for path in _written():
        content = path.read_bytes()
        if content != _kept(path) and not _fault(path, content):
            with files.atomic_file(KEPT / path) as beside:
                beside.write_bytes(content)


def mend() -> list[str]:
    """Mend what a killed dvc has left of its files, while the caller holds the project.

    A file that a write has left unfinished is replaced by its last good copy, or by the last commit's; one with a
    person's mistake is left to the person. What dead processes hold is freed; a process is known by its id, its start
    and its command, as an id is given to others after a while.

    Returns:
        What was mended, one line each; nothing where all is sound, or where another dvc is at work.

    Raises:
        GitError: the last commit would be needed, and git refuses.
        PipelineError: files that only a person can mend, each with the line to look at.
    """
    broken = _broken()
    if not broken and not (_RWLOCK.is_file() and _is_held()):
        return []
    from dvc.lock import LockError, make_lock

    # Without a configuration dvc cannot hold its lock.
    mended = _restored({path: fault for path, fault in broken.items() if path == _CONFIG})
    _TEMPORARY.mkdir(exist_ok=True)
    try:
        # Whoever holds it writes the other files, and ends what it has begun.
        with make_lock(str(_TEMPORARY / "lock"), str(_TEMPORARY), hardlink_lock=_links_locks()):
            return [*mended, *_restored(_broken()), *_freed()]
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


def _broken() -> dict[Path, _Fault]:
    """Those that are not whole."""
    found = {}
    for path in _written():
        content = path.read_bytes()
        if content != _kept(path) and (fault := _fault(path, content)):
            found[path] = fault
    return found


def _kept(path: Path) -> bytes | None:
    return (KEPT / path).read_bytes() if (KEPT / path).is_file() else None


def _fault(path: Path, content: bytes) -> _Fault | None:
    if path == _CONFIG:
        return _fault_of_config(path) or (
            # Nothing is a valid configuration, but not what is left of one.
            _Fault() if not content.strip() and _last_good(path)[0] else None
        )
    from dvc import schema
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    value: Any = None
    try:
        text = content.decode("utf-8")
        value = parse_yaml(text, path)
        (schema.COMPILED_LOCKFILE_SCHEMA if path == _LOCK else schema.COMPILED_SINGLE_STAGE_SCHEMA)(value)
    except UnicodeDecodeError as error:
        return _Fault("is not UTF-8", content[: error.start].count(b"\n") + 1)
    except ParseError as error:
        mark = getattr(error.__cause__, "problem_mark", None)
        said = getattr(error.__cause__, "problem", None) or one_line(error)
        return _Fault(said, mark and min(mark.line + 1, len(content.splitlines())))
    except Invalid as error:
        stages = value.get("stages") if isinstance(value, dict) else None
        last = list(stages)[-1:] if isinstance(stages, dict) else []
        return _Fault(one_line(error), is_at_end=path == _LOCK and error.path[:2] in (["stages"], ["stages", *last]))
    if path != _LOCK:
        outs = value.get("outs") or []
        return None if outs and all("path" in out for out in outs) else _Fault()
    # It is written in several steps, and what stands before a cut may be readable.
    kept = _kept(path) or b""
    stages = value.get("stages") or {}
    before = parse_yaml(kept.decode("utf-8"), path).get("stages", {}) if kept.startswith(content) else stages
    is_whole = text.endswith("\n") and bool(stages) and all(stages[name] == before[name] for name in stages)
    return None if is_whole else _Fault()


def _fault_of_config(path: Path) -> _Fault | None:
    from dvc.config import Config, ConfigError

    try:
        Config.load_file(path)
    except ConfigError as error:
        # The first of several knows its line, all together do not.
        first = (getattr(error.__cause__, "errors", None) or [error.__cause__])[0]
        return _Fault(one_line(first or error), getattr(first, "line_number", None))
    return None


def _is_cut(path: Path, content: bytes, fault: _Fault) -> bool:
    """Whether it is what an interrupted write leaves, and not a person's mistake."""
    if not content.strip() or b"\0" in content or (_kept(path) or b"").startswith(content):
        return True
    if fault.line is not None and fault.line < len(content.splitlines()):
        return False
    return not content.endswith(b"\n") or fault.is_at_end or not fault.said


def _for_a_person(path: Path, content: bytes, fault: _Fault) -> str | None:
    """What to say of a file that a write has not left so; None where one has."""
    if b"<<<<<<< " in content:
        return f"{path}: holds a conflict of a merge; take one side with `git checkout --ours -- {path}` or `--theirs`"
    if _is_cut(path, content, fault):
        return None
    name, kept = shlex.quote(str(path)), shlex.quote(str(KEPT / path))
    good = f"cp {kept} {name}" if _kept(path) else f"git checkout -- {name}"
    place = f"line {fault.line}: " if fault.line else ""
    return f"{path}: {place}{fault.said}; correct it, or take back what it was with: {good}"


def config() -> Any:
    """What DVC is told by its files of configuration, of this project and of this machine, as nested dicts.

    Raises:
        PipelineError: a file cannot be read as such, or has an option that DVC does not know.
    """
    from dvc.config import Config, ConfigError

    try:
        return Config(dvc_dir=".dvc")
    except ConfigError as error:
        raise PipelineError(_of_configuration(one_line(error).removeprefix("config file error: "))) from None


def has_remote() -> bool:
    """Whether DVC knows somewhere to push to and to pull from, without being told its name."""
    return bool(config()["core"].get("remote"))


def shared_secrets() -> list[tuple[str, str]]:
    """What gives a password away in .dvc/config, which git is to hold: the remote's name, and the option."""
    from dvc.config import Config

    file = Path(".dvc/config")
    remotes = Config.load_file(file).get("remote", {}) if file.is_file() else {}
    return [
        (name, option)
        for name, options in remotes.items()
        for option, value in options.items()
        if option in _SECRETS or terminal.masked(str(value)) != str(value)
    ]


def cache_folder() -> Path:
    """Where DVC keeps its objects on this machine, each in a file named by its md5."""
    place = config()["cache"].get("dir", ".dvc/cache")
    return Path(place) / "files" / "md5"


def _of_configuration(said: str) -> str:
    """What to say where DVC does not take its configuration: the file and the line, as far as DVC tells them."""
    from dvc.config import Config

    folders = filter(None, map(Config.get_dir, ("system", "global")))
    places = [Path(".dvc/config.local"), _CONFIG, *(Path(folder) / Config.CONFIG for folder in folders)]
    there = [path for path in places if path.is_file()]
    for path in there:
        if fault := _fault_of_config(path):
            return f"{path}: {f'line {fault.line}: ' if fault.line else ''}{fault.said}; correct it"
    # As in: extra keys not allowed @ data['core']['remot']
    keys = re.findall(r"\['([^']+)'\]", said)
    for path in there:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if keys and re.match(rf"\s*(\[.*)?{re.escape(keys[-1])}\b", line, re.IGNORECASE):
                return f"{path}: line {number}: {said}; correct it"
    return f"{' or '.join(map(str, there))}: {said}; correct it"


def _last_good(path: Path) -> tuple[bytes | None, str]:
    """The newest content that was good, and where it is from."""
    kept = _kept(path)
    if kept is not None and not (_fault_of_config(KEPT / path) if path == _CONFIG else _fault(path, kept)):
        return kept, "the last good copy"
    committed = git.committed_text(path)
    return (f"{committed}\n".encode() if committed else None), "the last commit"


def _restored(broken: Mapping[Path, _Fault]) -> list[str]:
    """Restore files that a write has left unfinished, and say so, a line each; refuse all where a person must look."""
    problems = (_for_a_person(path, path.read_bytes(), fault) for path, fault in broken.items())
    if found := list(filter(None, problems)):
        raise PipelineError(*found, "then run the same command again")
    return [_restored_from_copy(path) for path in broken]


def _restored_from_copy(path: Path) -> str:
    content = path.read_bytes()
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
