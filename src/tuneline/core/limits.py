"""Limits of time and memory for untrusted files that a library runs, such as chat templates and tokenizers.

Python handles no signal during a call into C or Rust, so there are three kinds of limit: `within` stops Python code,
`exit_after` ends the whole process, and `try_in_child` first tries a call in a child process.
"""

import faulthandler
import math
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

_STATM = Path("/proc/self/statm")
# Exit code of a child process.
_TOO_MUCH_MEMORY = 3
# Prints the last line that it has read, as soon as faulthandler writes its line about the timeout to the same pipe.
_REPORTER = """
while IFS= read -r line; do
    case "$line" in "Timeout ("*) printf 'error: %s\\n' "$last" >&2; exit ;; esac
    last=$line
done
"""


@contextmanager
def within(seconds: float, memory: int | None = None) -> Iterator[None]:
    """Limit the time and the additional memory of a block.

    Python code is stopped at the limit; a call into C returns first. Time is limited in the main thread only, which
    handles the signals, and memory on Linux only.

    Args:
        seconds: of wall-clock time.
        memory: bytes of address space that the block may add; None: no limit.

    Raises:
        TimeoutError: the block has reached the time limit.
        MemoryError: the block has reached the memory limit.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGALRM, _stop) if is_main else None
    # An alarm of the caller is set again afterwards.
    alarm = signal.getitimer(signal.ITIMER_REAL) if is_main else (0.0, 0.0)
    try:
        if memory is not None and _STATM.exists():
            _bound_memory(memory)
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except _TimeoutInBlock:
        raise TimeoutError from None
    finally:
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, *alarm)
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def exit_after(seconds: float, message: str) -> Iterator[Callable[[], None]]:
    """Exit this process with code 1 and a message on stderr if the block takes longer.

    This works in every thread, and during a call that never returns. If blocks are nested, or run in several threads at
    once, only the first one has the limit.

    Args:
        seconds: of wall-clock time.
        message: one line.

    Yields:
        A function that starts the time again, for a block that does many things in turn.
    """
    if not _watched.acquire(blocking=False):
        yield lambda: None
        return
    try:
        pipe = _reporter.set_message(message)
        started = -math.inf

        def restart() -> None:
            nonlocal started
            # Each call starts a thread, which takes 40 microseconds.
            if time.monotonic() - started > seconds / 10:
                faulthandler.dump_traceback_later(seconds, exit=True, file=pipe)
                started = time.monotonic()

        restart()
        yield restart
    finally:
        faulthandler.cancel_dump_traceback_later()
        _watched.release()


def try_in_child(seconds: int, memory: int, call: Callable[[], object]) -> None:
    """Try a call in a forked child process, to find out whether this process can make it safely.

    The result and the exceptions of the call are dropped: the caller makes the call itself next. Nothing is tried on
    systems other than Linux, where memory cannot be limited.

    Args:
        seconds: of wall-clock time, and of processor time.
        memory: bytes of address space that the call may add.
        call: must not use a lock that another thread may hold.

    Raises:
        TimeoutError: the call takes longer.
        MemoryError: the call takes more memory.
        ChildProcessError: a signal has ended the child; the message is its name.
    """
    if not _STATM.exists():
        return
    ended, kept_open = os.pipe()
    child = os.fork()
    if not child:
        _try(seconds, memory, call)
    os.close(kept_open)
    try:
        # The child keeps the other end open until it ends.
        is_late = not select.select([ended], [], [], seconds)[0]
    finally:
        os.close(ended)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if is_late or code == -signal.SIGXCPU:
        raise TimeoutError
    # Rust aborts if an allocation fails.
    if code in (_TOO_MUCH_MEMORY, -signal.SIGABRT):
        raise MemoryError
    if code < 0:
        raise ChildProcessError(signal.Signals(-code).name)


def _try(seconds: int, memory: int, call: Callable[[], object]) -> NoReturn:
    code = 0
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        # It would print a traceback of a crash.
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        _bound_memory(memory)
        # The threads of the library exist only in the parent.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        call()
    except MemoryError:
        code = _TOO_MUCH_MEMORY
    finally:
        os._exit(code)


def _bound_memory(memory: int) -> None:
    limit, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(_STATM.read_text().split()[0]) * resource.getpagesize() + memory
    known = [bound for bound in (wanted, limit, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _TimeoutInBlock


class _TimeoutInBlock(BaseException):
    """A BaseException, because libraries catch every Exception and continue."""


class _Reporter:
    """A child process that prints the message when this process exits at a limit, and can no longer print itself."""

    def __init__(self) -> None:
        self._pipe = -1
        self._owner = 0
        self._message = ""

    def set_message(self, message: str) -> int:
        """Send the message to the child; returns the pipe that faulthandler has to write to."""
        line = f"{' '.join(message.split())}\n".encode()
        if self._owner != os.getpid():
            self._start()
        if message != self._message:
            try:
                os.write(self._pipe, line)
            except BrokenPipeError:
                # The child was killed.
                self._start()
                os.write(self._pipe, line)
            self._message = message
        return self._pipe

    def _start(self) -> None:
        if self._owner == os.getpid():
            os.close(self._pipe)
        read, self._pipe = os.pipe()
        os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _REPORTER],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
            # So Ctrl-C reaches only this process.
            setpgroup=0,
        )
        os.close(read)
        self._owner, self._message = os.getpid(), ""


_reporter = _Reporter()
_watched = threading.Lock()
