"""Starts a fine-tuning under dvc and kills it at a step, or during the write of a checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.projects import Project

from tuneline import processes

REPRO = ["-m", "tuneline", "exec", "--", "dvc", "repro"]
FINETUNE = [*REPRO, "--single-item", "finetune"]

_PAUSING = Path(__file__).resolve().parent / "pausing"
_STAGE = ["tuneline.stages", "finetune"]
_EVERY = 0.002
_PATIENCE = 600.0


def _group(trainer: psutil.Process, _: int | None) -> None:
    os.killpg(os.getpgid(trainer.pid), signal.SIGKILL)


def _trainer(trainer: psutil.Process, _: int | None) -> None:
    trainer.kill()


def _dvc(trainer: psutil.Process, _: int | None) -> None:
    dvc = trainer.parent()
    assert dvc is not None
    dvc.kill()


def _worker(trainer: psutil.Process, writer: int | None) -> None:
    workers = list(filter(_is_stage, trainer.children()))
    # The one that writes, or of those that do not the last.
    next(one for one in reversed(workers) if writer in (None, one.pid)).kill()


WORKER = "worker"
KINDS: dict[str, tuple[str, Callable[[psutil.Process, int | None], None]]] = {
    "group": ("the whole process group", _group),
    "trainer": ("the trainer alone", _trainer),
    "dvc": ("dvc alone", _dvc),
    WORKER: ("one of two torchrun workers", _worker),
}
"""What may be killed: in words, and how, given the stage's process and the process that is held in a write."""
SURVIVED = 3
"""Kills of workers after which torchrun's agent starts them again; the next one ends the stage."""


@dataclass
class Kill:
    """One SIGKILL."""

    kind: str
    within_write: bool
    after: int = 0
    """The step from which it is due."""
    event: int = 0
    """Within a write: the how many-th file that is opened or made in it."""
    later: float = 0.0
    """Otherwise: seconds from when the step is seen."""
    step: int = 0
    """Where it came: the checkpoint's step, or the last one that was told."""


def writes(project: Project) -> Path:
    """Where a fine-tuning writes down what it opens or makes in the write of a checkpoint."""
    return project.root.with_suffix(".writes")


def watched(project: Project) -> dict[str, str]:
    """The environment in which it does."""
    path = os.pathsep.join([str(_PAUSING), project.environment()["PYTHONPATH"]])
    return {"PYTHONPATH": path, "KILL_WRITES": str(writes(project))}


def interrupt(project: Project, kills: Sequence[Kill]) -> None:
    """Start `dvc repro`, kill what is to be killed whenever it is due, and see that nothing outlives the last kill.

    Args:
        project: all but its fine-tuned model is made.
        kills: one; or of workers at most one more than the agent lets pass. Where it lets all pass, the training goes
            on to its end. Each is given its `step`.

    Raises:
        SystemExit: it ended too early, or something did outlive the last kill.
    """
    writes(project).unlink(missing_ok=True)
    pauses = ",".join(f"{kill.after}:{kill.event}" for kill in kills if kill.within_write)
    with _started(project, watched(project) | {"KILL_PAUSES": pauses}) as (process, log):
        below: list[psutil.Process] = []
        for number, kill in enumerate(kills):
            below = _carry_out(kill, project, process, log, paused=sum(one.within_write for one in kills[:number]))
        goes_on = kills[0].kind == WORKER and len(kills) <= SURVIVED
        process.wait(_PATIENCE)
        _, alive = psutil.wait_procs(below, timeout=20)
        if alive or (process.returncode == 0) != goes_on:
            end = log.read_text("utf-8", "replace")[-3000:]
            raise SystemExit(f"{project.root.name}: left alive: {alive}, exit code {process.returncode}:\n{end}")


def _carry_out(
    kill: Kill, project: Project, process: subprocess.Popen[bytes], log: Path, paused: int
) -> list[psutil.Process]:
    """Wait until a kill is due, and do it.

    Returns:
        What the command had started and was alive before.
    """
    told = log.stat().st_size if paused or kill.kind == WORKER else 0
    while True:
        writer, step = _paused(project, paused) if kill.within_write else (None, _step_of(log, told))
        if step is not None and step >= kill.after:
            break
        if process.poll() is not None:
            raise SystemExit(f"{project.root.name}: ended before it was killed:\n{log.read_text('utf-8')[-3000:]}")
        time.sleep(_EVERY)
    if kill.within_write and not list((project.root / "work").glob("*/.checkpoint-*.partial")):
        raise SystemExit(f"{project.root.name}: no checkpoint is being written")
    time.sleep(kill.later)
    # Where there are workers, their parent is a stage's process too.
    below = psutil.Process(process.pid).children(recursive=True)
    KINDS[kill.kind][1](next(filter(_is_stage, below)), writer)
    kill.step = step if kill.within_write else _step_of(log, told) or step
    return below


def _is_stage(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-2:] == _STAGE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _started(project: Project, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A fine-tuning in a group of its own, which does not outlive the block, and its log."""
    log = project.root.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            processes.bound_command([sys.executable, *FINETUNE]),
            cwd=project.root,
            env=project.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _step_of(log: Path, start: int) -> int | None:
    """The last step that was told in the log from a byte on."""
    told = log.read_bytes()[start:].decode("utf-8", "replace").splitlines()
    lines = [line for line in told if line.startswith("step ")]
    return int(lines[-1].split()[1].replace(",", "")) if lines else None


def _paused(project: Project, before: int) -> tuple[int | None, int | None]:
    """The process that is held in the write of a checkpoint, after some that were, and the checkpoint's step."""
    lines = writes(project).read_text("utf-8").splitlines() if writes(project).exists() else []
    held = [line.split() for line in lines if " paused " in line][before:]
    return (int(held[0][2]), int(held[0][0])) if held else (None, None)
