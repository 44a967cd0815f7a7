"""Starts and ends processes: a child dies with its parent, a lock lets only one process do a work, exits are quick.

`python -m tuneline.processes PID COMMAND…` runs COMMAND, which dies with the process PID that started it.
"""

import atexit
import ctypes
import fcntl
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from tuneline.errors import BusyError

PARENT = "TUNELINE_PARENT"
"""The environment variable with the id of the process that this process must not outlive."""
_PR_SET_PDEATHSIG = 1
_CLOCKS = 2.0
"""Seconds by which two readings of a process's start may differ, for example after the clock was set."""

_MOST_IDS = 1 << 31


@dataclass(frozen=True)
class Identity:
    """Identifies a process of a machine; the id alone is not enough, because systems reuse ids."""

    host: str
    machine: str
    pid: int
    started: float

    @classmethod
    def of_process(cls, pid: int | None = None) -> "Identity":
        """The identity of a process of this machine; by default of this process.

        Raises:
            psutil.NoSuchProcess: the process has ended.
        """
        process = psutil.Process(pid)
        return cls(platform.node(), _machine(), process.pid, process.create_time())

    @classmethod
    def from_json(cls, text: str) -> "Identity | None":
        """The identity that `as_json` has written; None if the text is something else, which a person has written."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        kinds = {"host": str, "machine": str, "pid": int, "started": (int, float)}
        if not isinstance(value, dict) or value.keys() != kinds.keys():
            return None
        is_valid = all(isinstance(value[name], kind) for name, kind in kinds.items()) and 0 < value["pid"] < _MOST_IDS
        return cls(**value) if is_valid else None

    def as_json(self) -> str:
        """The identity as text."""
        return json.dumps(asdict(self), sort_keys=True)

    def has_ended(self) -> bool | None:
        """Whether the process has ended; None, for unknown, if it belongs to another machine or container."""
        if self.machine != _machine():
            return None
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return is_zombie or abs(process.create_time() - self.started) > _CLOCKS
        except psutil.NoSuchProcess:
            return True


def _machine() -> str:
    """A name for the processes that see each other's ids: of this boot of the machine, and of this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{platform.node()} {psutil.boot_time():.0f}"


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent dies, also after `exec`; Linux only.

    Without it, a killed dvc would leave its training alive, and the next repro would start a second training.

    Args:
        parent: the id of the process that started this process; by default the present parent. If the present parent
            is another process, the parent has died already, and this process ends too.
    """
    if sys.platform != "linux":
        return
    parent = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_named_parent() -> None:
    """`die_with_parent` for the process that the variable PARENT names, and remove the variable for children.

    This process may have taken seconds to start, so its parent may have died before this call.
    """
    named = os.environ.pop(PARENT, "")
    die_with_parent(int(named) if named.isdecimal() else None)


@contextmanager
def importing() -> Iterator[None]:
    """Exclude what the block imports from garbage collection, now and later; it is never freed anyway.

    That saves a quarter of the time of `import torch`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        # Otherwise extension modules would report frozen objects as leaked at a normal exit.
        atexit.register(gc.unfreeze)


def run_and_exit(main: Callable[[], None]) -> NoReturn:
    """Run `main` and exit with its code, without freeing memory: with torch that would take seconds.

    Threads and exit handlers still run, and an error or a signal ends the process as usual. Files that `main` leaves
    open are not flushed.
    """
    code = 0
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    # The interpreter does this at its end, and so does multiprocessing before os._exit.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # None if the stream was closed before the process began.
        if stream is not None:
            stream.flush()
    os._exit(code)


@contextmanager
def exclusive(lock: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `lock` while the block runs; the kernel releases it when the process dies, so it never stays behind.

    Args:
        lock: the lock file; it is made if it is missing, and stays.
        what: what the lock protects, in words, as in "this project's pipeline".
        wait: whether to wait until another process releases the lock.

    Raises:
        BusyError: another process holds the lock and `wait` is false; names its pid.
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


def is_running(lock: Path) -> bool:
    """Whether the process that last held a lock of `exclusive` lives; unlike `exclusive` it disturbs no other process.

    Args:
        lock: the lock file.
    """
    try:
        return psutil.pid_exists(int(lock.read_text("utf-8")))
    except (FileNotFoundError, ValueError):
        return False


def bound_command(command: list[str]) -> list[str]:
    """A command that runs `command` so that it dies with this process."""
    return [sys.executable, "-m", "tuneline.processes", str(os.getpid()), *command]


@contextmanager
def process_group(
    command: list[str], *, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `command` in a new process group, stderr merged into stdout; an exception in the block kills the group.

    The command also dies with this process.

    Args:
        command: program and arguments, run without a shell.
        folder: the working directory; by default that of this process.
        variables: the complete environment; by default that of this process.

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
        cwd=folder,
        env=variables,
    )
    try:
        yield process
        process.wait()
    except BaseException:
        # The process may have ended just now.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@contextmanager
def killed_when(is_unwanted: Callable[[], bool], process: subprocess.Popen[str], every: float = 0.2) -> Iterator[None]:
    """During the block, kill the group of `process` as soon as it is unwanted.

    Args:
        is_unwanted: asked in a thread, every `every` seconds.
        process: what `process_group` yields.
        every: seconds.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            if is_unwanted():
                # The process may have ended just now.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, name="killed_when", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def background(
    command: list[str], log: Path, *, inherited: Sequence[int] = (), patience: float = 20.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep `command` running in a new process group while the block runs; its output goes to `log`.

    Args:
        command: program and arguments, run without a shell.
        log: the file; it is overwritten.
        inherited: file descriptors for the command.
        patience: seconds between SIGTERM and SIGKILL at the end.

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
        # The command and all its children may have ended by themselves.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    # This process keeps its id through exec, and may die before its child can read the id of its parent.
    os.environ[PARENT] = str(os.getpid())
    os.execvp(sys.argv[2], sys.argv[2:])
