"""DVC's own files: reads its configuration, and repairs files that a kill has interrupted, as DVC writes them in place.

work/kept/dvc.lock, work/kept/.dvc/config, work/kept/data/raw/mine.dvc     the last good copies
.dvc/tmp/rwlock                                                            the locks of running dvc processes
work/dvc/repo/…/cache.db                                                   DVC's database of hashes
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
POINTERS = ("*.dvc", "*/*.dvc", "*/*/*.dvc")
"""Patterns that find the .dvc files of sets and bases without a walk through the data."""
# How DVC records the command of a process: the program, then the arguments.
_COMMAND = re.compile(r".*?(?:dvc/__main__\.py|(?:^|/)dvc)(?P<arguments>(?: .*)?)$", re.DOTALL)
# Seconds by which start times of processes and change times of files may differ.
_CLOCKS = 2.0


# The options of DVC remotes that are passwords, for all types of remotes.
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
    """Why one of DVC's files is not complete and valid."""

    message: str = ""
    """The message of the parser or of DVC's schema; empty if the content is valid but something is missing."""
    line: int | None = None
    """The number of the line, from 1."""
    is_at_end: bool = False
    """Whether the fault is in the last stage of dvc.lock: then a kill may have cut the file there."""


def keep_copies() -> None:
    """Copy each of DVC's files that has changed and is valid."""
    for path in _written():
        content = path.read_bytes()
        if content != _kept(path) and not _fault(path, content):
            with files.atomic_file(KEPT / path) as beside:
                beside.write_bytes(content)


def repair() -> list[str]:
    """Repair the files that a killed dvc has left incomplete, while the caller holds the project.

    An incomplete file is replaced by its last good copy, or by that of the last commit; a file with a person's mistake
    is not changed. Locks of dead processes are removed; id, start time and command identify a process, because systems
    reuse ids.

    Returns:
        A line for each repaired file; empty if all are valid, or if another dvc is running.

    Raises:
        GitError: the file is needed from the last commit, but git fails.
        PipelineError: names the files that only a person can repair, with the line of each fault.
    """
    broken = _broken()
    if not broken and not (_RWLOCK.is_file() and _is_held()):
        return []
    from dvc.lock import LockError, make_lock

    # Without a configuration dvc cannot hold its lock.
    repaired = _restored({path: fault for path, fault in broken.items() if path == _CONFIG})
    _TEMPORARY.mkdir(exist_ok=True)
    try:
        # A running dvc holds this lock while it writes the other files, and will complete them.
        with make_lock(str(_TEMPORARY / "lock"), str(_TEMPORARY), hardlink_lock=_links_locks()):
            return [*repaired, *_restored(_broken()), *_freed()]
    except LockError:
        return repaired


def remove_damaged_databases() -> list[str]:
    """Remove the databases of hashes that are damaged; DVC then hashes the files again.

    Returns:
        A line for each removed database.
    """
    site = os.environ.get("DVC_SITE_CACHE_DIR")
    removed = []
    for database in sorted(Path(site, "repo").rglob("*.db")) if site else []:
        if not _is_sound(database):
            shutil.rmtree(database.parent)
            removed.append(f"{_short(database)}: was damaged and is now removed; DVC hashes the files again")
    return removed


def _is_sound(database: Path) -> bool:
    try:
        connection = sqlite3.connect(database)
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        finally:
            connection.close()
    except sqlite3.OperationalError:
        # Another dvc writes to it, or this user may not read it: its content stays unknown.
        return True
    except sqlite3.DatabaseError:
        return False


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path


def _links_locks() -> bool:
    from dvc.config import Config

    return bool(Config(dvc_dir=".dvc", validate=False).get("core", {}).get("hardlink_lock"))


def _written() -> Iterator[Path]:
    """The existing files that DVC writes in place."""
    if not _CONFIG.parent.is_dir():
        return
    yield from (path for path in (_CONFIG, _LOCK) if path.is_file())
    for pattern in POINTERS:
        yield from (path for path in sorted(Path().glob(pattern)) if path.parts[0][:1] != "." and path.is_file())


def _broken() -> dict[Path, _Fault]:
    """The files that are not complete and valid."""
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
            # An empty file is a valid configuration, but not if it held something before: where a person has removed
            # the last option, DVC writes a line break.
            _Fault() if not content and _last_good(path)[0] else None
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
        message = getattr(error.__cause__, "problem", None) or one_line(error)
        return _Fault(message, mark and min(mark.line + 1, len(content.splitlines())))
    except Invalid as error:
        stages = value.get("stages") if isinstance(value, dict) else None
        last = list(stages)[-1:] if isinstance(stages, dict) else []
        return _Fault(one_line(error), is_at_end=path == _LOCK and error.path[:2] in (["stages"], ["stages", *last]))
    if path != _LOCK:
        outs = value.get("outs") or []
        return None if outs and all("path" in out for out in outs) else _Fault()
    # DVC writes it in several steps, so the part before a cut may be valid YAML.
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
        # The first of several errors has a line number, their sum has none.
        first = (getattr(error.__cause__, "errors", None) or [error.__cause__])[0]
        return _Fault(one_line(first or error), getattr(first, "line_number", None))
    return None


def _is_cut(path: Path, content: bytes, fault: _Fault) -> bool:
    """Whether an interrupted write left the file so, rather than a person's mistake."""
    if not content.strip() or b"\0" in content or (_kept(path) or b"").startswith(content):
        return True
    if fault.line is not None and fault.line < len(content.splitlines()):
        return False
    return not content.endswith(b"\n") or fault.is_at_end or not fault.message


def _for_a_person(path: Path, content: bytes, fault: _Fault) -> str | None:
    """The message about a file that a person must repair; None if an interrupted write left it so."""
    if b"<<<<<<< " in content:
        return f"{path}: contains a merge conflict; take one side with `git checkout --ours -- {path}` or `--theirs`"
    if _is_cut(path, content, fault):
        return None
    name, kept = shlex.quote(str(path)), shlex.quote(str(KEPT / path))
    good = f"cp {kept} {name}" if _kept(path) else f"git checkout -- {name}"
    place = f"line {fault.line}: " if fault.line else ""
    return f"{path}: {place}{fault.message}; correct it, or restore the last good copy with: {good}"


def config() -> Any:
    """DVC's configuration from the files of this project and of this machine, as nested dicts.

    Raises:
        PipelineError: a file is not a configuration, or has an option that DVC does not know.
    """
    from dvc.config import Config, ConfigError

    try:
        return Config(dvc_dir=".dvc")
    except ConfigError as error:
        raise PipelineError(_configuration_problem(one_line(error).removeprefix("config file error: "))) from None


def has_remote() -> bool:
    """Whether DVC has a default remote."""
    return bool(config()["core"].get("remote"))


def shared_secrets() -> list[tuple[str, str]]:
    """The options in .dvc/config that contain a password, each with the remote's name; git would commit them."""
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
    """The folder of DVC's objects on this machine, each in a file named by its md5."""
    place = config()["cache"].get("dir", ".dvc/cache")
    return Path(place) / "files" / "md5"


def _configuration_problem(message: str) -> str:
    """The message about an invalid configuration, with file and line if DVC tells them."""
    from dvc.config import Config

    folders = filter(None, map(Config.get_dir, ("system", "global")))
    places = [Path(".dvc/config.local"), _CONFIG, *(Path(folder) / Config.CONFIG for folder in folders)]
    there = [path for path in places if path.is_file()]
    for path in there:
        if fault := _fault_of_config(path):
            return f"{path}: {f'line {fault.line}: ' if fault.line else ''}{fault.message}; correct it"
    # As in: extra keys not allowed @ data['core']['remot']
    keys = re.findall(r"\['([^']+)'\]", message)
    for path in there:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if keys and re.match(rf"\s*(\[.*)?{re.escape(keys[-1])}\b", line, re.IGNORECASE):
                return f"{path}: line {number}: {message}; correct it"
    return f"{' or '.join(map(str, there))}: {message}; correct it"


def _last_good(path: Path) -> tuple[bytes | None, str]:
    """The last good content, and its origin in words."""
    kept = _kept(path)
    if kept is not None and not (_fault_of_config(KEPT / path) if path == _CONFIG else _fault(path, kept)):
        return kept, "the last good copy"
    committed = git.committed_text(path)
    return (f"{committed}\n".encode() if committed else None), "the last commit"


def _restored(broken: Mapping[Path, _Fault]) -> list[str]:
    """Restore incomplete files and return a line for each; raise if a person must repair a file."""
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
        aside = f"; its incomplete content is in {broken}"
    good, origin = _last_good(path)
    if good is None:
        path.unlink()
        remedy = {
            _LOCK: "stages run again, or DVC takes their outputs from its cache",
            _CONFIG: "DVC uses its defaults; repeat your settings, such as `.venv/bin/dvc remote add`",
        }.get(path, f"put it under DVC again: .venv/bin/dvc add {path.with_suffix('')}")
        return f"{path}: a write was interrupted and no copy exists, so it is removed{aside}; {remedy}"
    with files.atomic_file(path) as beside:
        beside.write_bytes(good)
    return f"{path}: a write was interrupted; restored from {origin}{aside}"


def _is_held() -> bool:
    """Whether rwlock names processes, or cannot be read."""
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
        return [f"{_RWLOCK}: a write was interrupted; it is removed, because no dvc is running"]
    written = _RWLOCK.stat().st_mtime
    readers = {path: [one for one in infos if _lives(one, written)] for path, infos in held["read"].items()}
    writers = {path: one for path, one in held["write"].items() if not one or _lives(one, written)}
    before = [*held["write"].values(), *(one for infos in held["read"].values() for one in infos)]
    after = [*writers.values(), *(one for infos in readers.values() for one in infos)]
    dead = sorted({one["pid"] for one in before if one not in after})
    if not dead:
        return []
    files.write_json(_RWLOCK, {"write": writers, "read": {path: infos for path, infos in readers.items() if infos}})
    return [f"{_RWLOCK}: removed the locks of a killed dvc (pid {', '.join(map(str, dead))})"]


def _lives(info: dict[str, Any], written: float) -> bool:
    """Whether the process that made an entry is still running.

    Args:
        info: `pid` and `cmd`, the program and its arguments.
        written: time of the last write of entries, in seconds; the process must have started before.
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
    recorded = _COMMAND.match(info["cmd"])
    return recorded is None or command.endswith(f"dvc{recorded['arguments']}")
