"""A tiny disturbed project, and the comparison with its undisturbed twin."""

import sys
from pathlib import Path
from typing import Any

import kill
import psutil
from ruamel.yaml import YAML
from tests.projects import Project, copy_project

from tuneline.core import files

STAGES = ("sample", "validate_raw", "prepare", "validate_clean", "base", "finetune", "evaluate", "check")
RUN = "flows/run.py"
COMMAND = (sys.executable, "-m", "tuneline", "exec", "--", "python", RUN)
"""What `make run` runs."""
_LOCK = "dvc.lock"
_REPORTS = ("reports/metrics.json", "reports/evaluation.json")
# Seconds that a process may take to follow its parent.
_PATIENCE = 10.0


def make(place: Path) -> Project:
    """A project of 400 pairs, whose base learns from the standard library's docstrings."""
    made = copy_project(place)
    kill.write_rows(made, "sft", [kill.row("sft", number) for number in range(kill.ROWS)])
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "champion", "margin": 0.0}
    raw = {"data.raw": "data/raw/sft", "data.pretraining": "data/raw/python-text"}
    made.set(**{**kill.PARAMS, **raw, "task": "sft", "finetune.max_length": 128, "gate.rules": [rule]})
    # As the commands that are printed name it.
    (place / ".venv").symlink_to(sys.prefix)
    return made


def locked(place: Project) -> dict[str, Any]:
    """The stages of dvc.lock; of its last good copy where a kill has left less."""
    for path in (place.root / _LOCK, place.root / "work/kept" / _LOCK):
        found = YAML(typ="safe").load(path.read_text("utf-8")) if path.is_file() else None
        if isinstance(found, dict) and found.get("stages"):
            return found["stages"]
    return {}


def made(place: Project, stages: tuple[str, ...], outputs: dict[str, Any]) -> dict[str, Any]:
    """What some stages have made: each output's hash, by the files themselves.

    Args:
        place: the project.
        stages: their names.
        outputs: the stages of the twin's dvc.lock.
    """
    paths = [place.root / one["path"] for stage in stages for one in outputs[stage]["outs"]]
    found = {str(path.relative_to(place.root)): _sha256(path) for path in paths}
    names = locked(place)
    return found | {stage: names.get(stage) for stage in stages[:-1]}


def _sha256(path: Path) -> str | None:
    return files.sha256_path(path) if path.exists() else None


def state(place: Project) -> dict[str, Any]:
    """What must be the same in the end: the hash of all that the stages have made, dvc.lock, version and verdict."""
    lock = locked(place)
    settled = files.read_json(place.root / "work/settled.json")["outcome"]
    return {**made(place, STAGES, lock), _LOCK: lock, "version": settled["version"], "verdict": settled["verdict"]}


def alive(place: Project) -> int:
    """How many processes still work in a project that is not used any more, after a while."""
    return len(psutil.wait_procs(inside(place.root), timeout=_PATIENCE)[1])


def inside(root: Path) -> list[psutil.Process]:
    """The processes that work in a project."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.cwd() == str(root) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


def partial(place: Project) -> int:
    """Bytes of what was being written, and is not finished."""
    return sum(size(one) for one in place.root.rglob(".*.partial"))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(one.lstat().st_size for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())


def mounted(kind: str, path: str, options: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs `command` where a folder is another file system, for it and its children alone.

    Args:
        kind: `tmpfs`, which is empty; or `bind`, which is the folder itself.
        path: the folder, relative to the project.
        options: of the mount, as in "size=64k" or "ro".
        command: the command.
    """
    mount = {
        "tmpfs": 'mount -t tmpfs -o "$2" none "$1"',
        "bind": 'mount --bind "$1" "$1" && mount -o "remount,bind,$2" "$1"',
    }[kind]
    script = f'{mount} && shift 2 && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", path, options, *command)


def said(text: str) -> str:
    """The line that tells a person how a command has ended: the first of the last block, without time and level."""
    block = text.strip().rpartition("\n\n")[2].splitlines()
    return shown(block[0]) if block else ""


def shown(line: str) -> str:
    """A line without the time, the level and the run that Prefect puts before it."""
    return line.rpartition(" | INFO    | ")[2].rpartition(" | WARNING | ")[2].partition("' - ")[2] or line
