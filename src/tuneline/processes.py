"""How a process starts and ends: no child outlives its parent, no two do the same work, none takes long to end.

`python -m tuneline.processes PID COMMAND…` becomes COMMAND, and dies with the process PID that started it.
"""

import atexit
import ctypes
import fcntl
import gc
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from tuneline.errors import BusyError

PARENT = "TUNELINE_PARENT"
"""The environment variable that tells a process the id of the one that must outlive it."""
_PR_SET_PDEATHSIG = 1
_CLOCKS = 2.0
"""Seconds by which the start of one process may be told differently, as after the clock was set."""


@dataclass(frozen=True)
class Identity:
    """Which process it is, and of which machine; an id alone is used again."""

    host: str
    machine: str
    pid: int
    started: float

    @classmethod
    def of_process(cls, pid: int | None = None) -> "Identity":
        """The identity of a process of this machine; of this process where no id is given.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        process = psutil.Process(pid)
        return cls(platform.node(), _machine(), process.pid, process.create_time())

    def has_ended(self) -> bool | None:
        """Whether the process has ended; None where it is of another machine or container, and nothing is known."""
        if self.machine != _machine():
            return None
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return is_zombie or abs(process.create_time() - self.started) > _CLOCKS
        except psutil.NoSuchProcess:
            return True


def _machine() -> str:
    """What is the same for exactly those processes that see each other's ids, until the machine starts anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{platform.node()} {psutil.boot_time():.0f}"


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent dies, however it dies; holds across `exec`; Linux only.

    A killed dvc would otherwise leave its trainer alive, and the next repro would start a second one beside it.

    Args:
        parent: the id that its parent had when it started this process; None: that of now. Where the parent is
            another one by now it has died already, and this process ends too.
    """
    if sys.platform != "linux":
        return
    parent = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_named_parent() -> None:
    """`die_with_parent` of the process that PARENT names, if it does; it is not passed on to what this one starts.

    What begins with it may take seconds to start: its parent may be gone before that.
    """
    named = os.environ.pop(PARENT, "")
    die_with_parent(int(named) if named.isdecimal() else None)


@contextmanager
def importing() -> Iterator[None]:
    """Keep the garbage collector from going through what the block imports, then and later: it stays for good.

    Where torch is imported that is a quarter of the time it takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        # At an ordinary end extension modules would report what the collector leaves alone as leaked.
        atexit.register(gc.unfreeze)


def run_and_exit(main: Callable[[], None]) -> NoReturn:
    """Run `main` and end this process as it ends, without taking apart what it has in memory.

    Where torch is loaded that would take seconds. Threads and what is registered for the exit are waited for, and an
    error or a signal ends the process as ever; a file that `main` leaves open is not flushed.
    """
    code = 0
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    # What the interpreter does at its end, and multiprocessing where it ends a process like this.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # None where it was closed before the process began.
        if stream is not None:
            stream.flush()
    os._exit(code)


@contextmanager
def exclusive(lock: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `lock` while the block runs; the kernel frees it at any death, so it never goes stale.

    Args:
        lock: a file that is made where it is missing, and stays.
        what: what is held, in words, as in "this project's pipeline".
        wait: whether to wait for another process to let go of it.

    Raises:
        BusyError: another process holds it and `wait` is false; names its pid.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(
                f"{lock}: another run (pid {holder}) holds {what}; wait for it, or stop it with: kill {holder}"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def bound_command(command: list[str]) -> list[str]:
    """The command that runs `command` so that it dies with the process that starts it."""
    return [sys.executable, "-m", "tuneline.processes", str(os.getpid()), *command]


@contextmanager
def process_group(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run `command` in a group of its own, its output merged; whatever ends the block early kills the whole group.

    It dies with this process, too, which no longer shares its group with it.

    Args:
        command: program and arguments; no shell is involved.

    Yields:
        The running process; its `stdout` gives lines of text.
    """
    process = subprocess.Popen(
        bound_command(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    except BaseException:
        # It may have ended just now.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@contextmanager
def background(
    command: list[str], log: Path, *, inherited: Sequence[int] = (), patience: float = 20.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep `command` running in a group of its own while the block runs; its output goes to `log`.

    Args:
        command: program and arguments; no shell is involved.
        log: the file, written anew.
        inherited: file descriptors that it gets.
        patience: seconds that it has for its end.

    Yields:
        The process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            bound_command(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )
    try:
        yield process
    finally:
        # It may have ended by itself, and so may all that it started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    # It keeps its id, and may be gone before what it starts can ask for its parent.
    os.environ[PARENT] = str(os.getpid())
    os.execvp(sys.argv[2], sys.argv[2:])
