"""A fine-tuning that dvc runs, killed at a step or held in the write of a checkpoint and killed there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def _kill_group(trainer: psutil.Process) -> None:
    os.killpg(os.getpgid(trainer.pid), signal.SIGKILL)


def _kill_trainer(trainer: psutil.Process) -> None:
    trainer.kill()


def _kill_dvc(trainer: psutil.Process) -> None:
    dvc = trainer.parent()
    assert dvc is not None
    dvc.kill()


KINDS: dict[str, tuple[str, Callable[[psutil.Process], None]]] = {
    "group": ("the whole process group", _kill_group),
    "trainer": ("the trainer alone", _kill_trainer),
    "dvc": ("dvc alone", _kill_dvc),
}
"""What may be killed: in words, and how, given the stage's process."""


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


def interrupt(project: Project, kill: Kill) -> None:
    """Start `dvc repro`, kill what is to be killed when it is due, and see that nothing outlives it.

    Args:
        project: all but its fine-tuned model is made.
        kill: is given its `step`.

    Raises:
        SystemExit: it ended before, or something did outlive the kill.
    """
    writes(project).unlink(missing_ok=True)
    environment = watched(project)
    if kill.within_write:
        environment["KILL_PAUSE"] = f"{kill.after}:{kill.event}"
    with _started(project, environment) as (process, log):
        while (step := _paused_at(project) if kill.within_write else _step_of(log)) is None or step < kill.after:
            if process.poll() is not None:
                raise SystemExit(f"{project.root.name}: ended before it was killed:\n{log.read_text('utf-8')[-3000:]}")
            time.sleep(_EVERY)
        below = psutil.Process(process.pid).children(recursive=True)
        trainer = next(one for one in [*below, psutil.Process(process.pid)] if one.cmdline()[-2:] == _STAGE)
        if kill.within_write and not list((project.root / "work").glob("*/.checkpoint-*.partial")):
            raise SystemExit(f"{project.root.name}: no checkpoint is being written")
        time.sleep(kill.later)
        KINDS[kill.kind][1](trainer)
        _, alive = psutil.wait_procs(below, timeout=20)
        process.wait(_PATIENCE)
        kill.step = step if kill.within_write else _step_of(log) or step
        if alive or process.returncode == 0:
            raise SystemExit(f"{project.root.name}: outlived the kill: {alive}, exit code {process.returncode}")


@contextmanager
def _started(project: Project, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A fine-tuning in a group of its own, which does not outlive the block, and its log."""
    log = project.root.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            processes.bound([sys.executable, *FINETUNE]),
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


def _step_of(log: Path) -> int | None:
    """The last step that was told."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("step ")]
    return int(lines[-1].split()[1].replace(",", "")) if lines else None


def _paused_at(project: Project) -> int | None:
    """The step of the checkpoint in whose write the stage waits for its end."""
    lines = writes(project).read_text("utf-8").splitlines() if writes(project).exists() else []
    return int(lines[-1].split()[0]) if lines and lines[-1].endswith(" paused") else None
