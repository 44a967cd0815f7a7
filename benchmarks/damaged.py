"""The faults of a finished project: files that are damaged, deleted, locked, or not writable."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kill
import twins
from tests.projects import Project

from tuneline.core import files

_MODEL = "models/finetuned/model.safetensors"
_STORE = "mlflow/store"
_DATABASE = f"{_STORE}/mlflow.db"
_HISTORY = "work/prefect/prefect.db"
_RWLOCK = ".dvc/tmp/rwlock"
_SETTLED = "work/settled.json"
_PATIENCE = 600.0
_TUNELINE = twins.COMMAND[:3]


@dataclass
class Damage:
    """What is done to a project, what a person sees of it, and what came of doing what is said."""

    what: str
    do: Callable[[Path], None]
    code: int
    """The exit code that the command should have."""
    says: str
    """A pattern of the line that a person should see; what its group `remedy` matches is run as it stands."""
    command: tuple[str, ...] = twins.COMMAND
    during: Callable[[Path], AbstractContextManager[None]] | None = None
    """What lasts as long as the command."""
    repair: Callable[[Path], None] | None = None
    """What a person does where the remedy is not a command."""
    told: str = ""
    """What a person does then, in words."""
    exit: int | None = None
    seen: str | None = None
    seconds: float = 0.0
    remedy: str = ""
    alive: int = 0
    left: int = 0
    """Bytes that were being written."""
    after: int | None = None
    """The exit code of the run after the remedy."""
    recovery: float = 0.0
    """Seconds of the remedy and that run."""
    version: str | None = None
    others: list[str] = field(default_factory=list)
    """Of what was compared with the project as it was, what differs."""

    @property
    def is_well(self) -> bool:
        """Whether all came as it should."""
        return (self.exit, self.after) == (self.code, 0) and self.seen is not None and not (self.others or self.alive)


def damages(back: Path) -> list[Damage]:
    """One after the other on the same project, each of them mended before the next.

    Args:
        back: a folder for what is put back.
    """
    interrupted = "a write was interrupted; "
    restored = f"{interrupted}restored from the last good copy"
    settled = r"^\S+ version \d+, \w+; rebuilt: nothing$"
    in_cache, here = r"cache has it undamaged: (?P<remedy>rm .+)", r"workspace has it undamaged: (?P<remedy>rm .+)"
    generate, again = (*_TUNELINE, "generate", "--version"), r"`(?P<remedy>\.venv/bin/tuneline register)`"
    evaluate = (*_TUNELINE, "exec", "--", "dvc", "repro", "--force", "--single-item", "evaluate")
    no_room = twins.mounted("tmpfs", "work/prefect", "size=128k", twins.COMMAND)
    read_only = twins.mounted("bind", _STORE, "ro", twins.COMMAND)
    removed = r"delete it with `(?P<remedy>rm .+?)`"
    kept, own = keep(back, _DATABASE), keep(back, "params.yaml")
    restore, put = put_back(back, _DATABASE), put_back(back, "params.yaml")
    return [
        Damage("half of the model zeroed, mtime kept", asked_again(zero(_MODEL)), 1, in_cache),
        Damage("half of the scores zeroed, mtime kept", asked_again(zero("reports/rows.parquet")), 1, in_cache),
        Damage("the model's object in DVC's cache zeroed, mtime kept", asked_again(zero_cached(_MODEL)), 1, here),
        Damage("the version's weights changed in the store", change_version, 1, again, (*generate, "1", "a")),
        Damage("the version's files deleted in the store", delete_version, 1, again, (*generate, "2", "a")),
        Damage("dvc.lock empty", cut("dvc.lock", 0.0), 0, f"dvc.lock: {restored}"),
        Damage("dvc.lock cut in half", cut("dvc.lock", 0.5), 0, f"dvc.lock: {restored}"),
        Damage(".dvc/config empty", cut(".dvc/config", 0.0), 0, f"config: {restored}"),
        Damage("rwlock empty", write(_RWLOCK, ""), 0, f"rwlock: {interrupted}it is removed"),
        Damage("rwlock of a dead process", write(_RWLOCK, _of_dead()), 0, "rwlock: removed the locks of a killed dvc"),
        Damage("DVC's databases cut in half", cut("work/dvc/**/cache.db", 0.5), 0, "was damaged and is now removed"),
        Damage("tokens in work/ cut in half", cut("work/tokens/**/*", 0.5), 0, "Running stage 'evaluate'", evaluate),
        Damage("work/settled.json cut in half", cut(_SETTLED, 0.5), 0, settled),
        Damage("gate.json empty", asked_again(cut("reports/gate.json", 0.0)), 0, settled),
        Damage("work/ deleted", delete("work"), 0, settled),
        Damage("prefect.db zeroed", asked_again(zero(_HISTORY, first=True)), 1, removed),
        Damage("prefect.db on a full disk", asked_again(), 1, "cannot grow", no_room, told="free some space"),
        Damage("a read-only store", asked_again(), 1, "nothing can be written", read_only, told="make it writable"),
        Damage("MLflow's database locked", asked_again(), 1, "is locked", during=locked, told="let it end"),
        Damage("MLflow's database zeroed", asked_again(kept, zero(_DATABASE, first=True)), 1, "put a copy of it back",
               repair=restore, told="put a copy back"),
        Damage("MLflow's database zeroed", asked_again(zero(_DATABASE, first=True)), 1, "or move it away",
               repair=delete(_DATABASE), told="move it away"),
        Damage("an alias bomb in params.yaml", sequence(own, append("params.yaml", _bomb())), 1, "^params.yaml.*alias",
               repair=put, told="take it out"),
        Damage("paths.finetuned: mlflow/store", sequence(own, param("paths.finetuned", _STORE)), 1, "paths",
               repair=put, told="name another place"),
    ]  # fmt: skip


def try_out(place: Project, damage: Damage, good: dict[str, Any]) -> None:
    """Damage a project, run the command, do what it says, run the flow, and note what came of it.

    Args:
        place: the project, whole.
        damage: the damage.
        good: the project's state.
    """
    root = place.root
    damage.do(root)
    began = time.monotonic()
    with damage.during(root) if damage.during else nullcontext():
        done = _run(place, damage.command)
    damage.exit, damage.seconds = done.returncode, time.monotonic() - began
    # An error is said last as a person should see it; before, Prefect has logged it.
    for line in reversed(done.stdout.splitlines()):
        if found := re.search(damage.says, line):
            damage.seen, damage.remedy = twins.shown(line), found.groupdict().get("remedy") or ""
            break
    damage.alive, damage.left = twins.alive(place), twins.partial(place)
    seen = done.stdout
    began = time.monotonic()
    if damage.repair:
        damage.repair(root)
    if damage.remedy:
        _run(place, ("sh", "-ec", damage.remedy))
    # What a run has mended itself needs no other.
    if damage.code or damage.command != twins.COMMAND:
        done = _run(place, twins.COMMAND)
    damage.after, damage.recovery = done.returncode, time.monotonic() - began
    if done.returncode == 0:
        now = twins.state(place)
        damage.version = now["version"]
        damage.others = [name for name in good if name != "version" and now[name] != good[name]]
    if not damage.is_well:
        kill.tell(f"{damage.what}: not as it should be:\n{seen}\n{done.stdout}")


def _run(place: Project, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=place.root, env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip


def sequence(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    """One after the other."""

    def do(root: Path) -> None:
        for step in steps:
            step(root)

    return do


def asked_again(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    """Some damage, and nothing that says that all was decided: the next run asks the gate."""
    return sequence(*steps, delete(_SETTLED))


def zero(path: str, *, first: bool = False) -> Callable[[Path], None]:
    """Overwrite the second half of a file with zeros, or its beginning, and leave size, mode and mtime as they were."""

    def do(root: Path) -> None:
        place = root / path
        before, content = place.stat(), place.read_bytes()
        half = len(content) // 2
        place.chmod(0o644)
        place.write_bytes(bytes(half) + content[half:] if first else content[:half] + bytes(len(content) - half))
        place.chmod(before.st_mode)
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))

    return do


def zero_cached(path: str) -> Callable[[Path], None]:
    """`zero` of the object in DVC's cache that is a file of the workspace."""

    def do(root: Path) -> None:
        content = (root / path).read_bytes()
        objects = (one for one in (root / ".dvc/cache/files").rglob("*") if one.is_file())
        [found] = [one for one in objects if one.read_bytes() == content]
        zero(str(found.relative_to(root)))(root)

    return do


def cut(pattern: str, share: float) -> Callable[[Path], None]:
    """Keep only the beginning of some files."""

    def do(root: Path) -> None:
        found = [one for one in root.glob(pattern) if one.is_file()]
        assert found, pattern
        for one in found:
            one.write_bytes(one.read_bytes()[: int(one.stat().st_size * share)])

    return do


def write(path: str, text: str) -> Callable[[Path], None]:
    return lambda root: files.write_text(root / path, text)


def append(path: str, text: str) -> Callable[[Path], None]:
    return lambda root: files.write_text(root / path, (root / path).read_text("utf-8") + text)


def param(name: str, value: object) -> Callable[[Path], None]:
    return lambda root: Project(root).set(**{name: value})


def delete(path: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink(missing_ok=True)

    return do


def keep(place: Path, path: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        place.mkdir(exist_ok=True)
        shutil.copyfile(root / path, place / Path(path).name)

    return do


def put_back(place: Path, path: str) -> Callable[[Path], None]:
    return lambda root: files.copy(place / Path(path).name, root / path)


def change_version(root: Path) -> None:
    for one in _weights(root):
        one.write_bytes(one.read_bytes() + b"more")


def delete_version(root: Path) -> None:
    for one in _weights(root):
        shutil.rmtree(one.parent)


def _weights(root: Path) -> list[Path]:
    return list((root / _STORE).rglob("model.safetensors"))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold MLflow's database as a program does that writes to it all the time."""
    with closing(sqlite3.connect(root / _STORE / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()


def _of_dead() -> str:
    # Linux gives no id above this.
    dead = {"pid": 2**22 + 1, "cmd": "/usr/bin/dvc repro finetune"}
    return json.dumps({"write": {"models/finetuned": dead}, "read": {"models/base": [dead]}})


def _bomb() -> str:
    """2 to the power of 40 values in 40 lines of YAML."""
    levels = (f"  l{n}: &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 40))
    return "\n".join(["\nbomb:", "  l0: &l0 [1, 1]", *levels, ""])


def table(tried: list[Damage]) -> str:
    lines = [
        "| fault | exit | s | says | done | exit after | s | version | as before |",
        "|---|---:|---:|---|---|---:|---:|---|---|",
    ]
    for one in tried:
        says = (one.seen or "**not what it should**").replace("|", "\\|")
        told = f"`{one.remedy}`" if one.remedy else one.told or "nothing"
        same = "yes" if not one.others else f"**no**: {', '.join(one.others)}"
        cells = [one.what, str(one.exit), f"{one.seconds:.0f}", says, told, str(one.after), f"{one.recovery:.0f}"]
        lines.append(f"| {' | '.join([*cells, str(one.version), same])} |")
    return "\n".join(lines)
