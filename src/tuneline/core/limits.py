"""Bounds of time and memory for what a stranger has written and a library runs: a chat template, a tokenizer.

There are three, because Python hears no clock while a single call into C or Rust runs: `within` stops what runs in
Python; `or_end` ends the whole process where nothing else helps; `in_child` tries a call in a process of its own first.
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
# What a child that tries a call says by its exit code.
_TOO_MUCH_MEMORY = 3
# A process that says the last line that it was told, once faulthandler writes that time is over; it ends with its pipe.
_SPEAKER = """
while IFS= read -r line; do
    case "$line" in "Timeout ("*) printf 'error: %s\\n' "$last" >&2; exit ;; esac
    last=$line
done
"""


@contextmanager
def within(seconds: float, memory: int | None = None) -> Iterator[None]:
    """Let the block take so much time, and so much memory beside what this process has, at most.

    What runs in Python is stopped; a single call into C ends first. Time is bounded in the main thread alone, where
    Python hears signals, and memory where the kernel says how much there is (Linux).

    Args:
        seconds: of the clock.
        memory: bytes of addresses; None: not bounded.

    Raises:
        TimeoutError: the time is over.
        MemoryError: the memory is.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGALRM, _stop) if is_main else None
    # An alarm of the caller's rings later by what the block takes.
    alarm = signal.getitimer(signal.ITIMER_REAL) if is_main else (0.0, 0.0)
    try:
        if memory is not None and _STATM.exists():
            _bound_memory(memory)
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except _TimeIsOver:
        raise TimeoutError from None
    finally:
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, *alarm)
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def or_end(seconds: float, sentence: str) -> Iterator[Callable[[], None]]:
    """End this process, with exit code 1 and a sentence on stderr, where the block takes longer.

    It works in every thread and during a call that never comes back. Of blocks inside each other, or in several
    threads at once, the first is watched and the others are a part of it.

    Args:
        seconds: of the clock.
        sentence: the error, in one line.

    Yields:
        A function that gives the block its whole time again, for a block that does many things one by one.
    """
    if not _watched.acquire(blocking=False):
        yield lambda: None
        return
    try:
        pipe = _speaker.told(sentence)
        begun = -math.inf

        def again() -> None:
            nonlocal begun
            # Each start is a thread: 40 microseconds.
            if time.monotonic() - begun > seconds / 10:
                faulthandler.dump_traceback_later(seconds, exit=True, file=pipe)
                begun = time.monotonic()

        again()
        yield again
    finally:
        faulthandler.cancel_dump_traceback_later()
        _watched.release()


def in_child(seconds: int, memory: int, call: Callable[[], object]) -> None:
    """Try a call in a copy of this process, of which nothing comes back.

    What it raises is left to the caller, whose own call comes next. Nothing is tried where the kernel does not bound
    memory: anywhere but on Linux.

    Args:
        seconds: of the clock, and of the processor.
        memory: bytes of addresses beside what this process has.
        call: uses no lock that another thread may hold.

    Raises:
        TimeoutError: the call takes longer.
        MemoryError: it takes more.
        ChildProcessError: it ends its process in another way; says how.
    """
    if not _STATM.exists():
        return
    ended, kept_open = os.pipe()
    child = os.fork()
    if not child:
        _try(seconds, memory, call)
    os.close(kept_open)
    try:
        # The child holds the other end until it ends.
        is_over = not select.select([ended], [], [], seconds)[0]
    finally:
        os.close(ended)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if is_over or code == -signal.SIGXCPU:
        raise TimeoutError
    # Rust aborts where it gets no memory.
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
        # It would write down where a crash was.
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        _bound_memory(memory)
        # The threads of its library are in the parent alone.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        call()
    except MemoryError:
        code = _TOO_MUCH_MEMORY
    finally:
        os._exit(code)


def _bound_memory(memory: int) -> None:
    limit, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(_STATM.read_text().split()[0]) * resource.getpagesize() + memory
    known = [bound for bound in (most, limit, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _TimeIsOver


class _TimeIsOver(BaseException):
    """Nothing that a library catches and goes on after."""


class _Speaker:
    """The process that says why this process has ended: then nothing in this process can."""

    def __init__(self) -> None:
        self._pipe = -1
        self._owner = 0
        self._sentence = ""

    def told(self, sentence: str) -> int:
        """The pipe for faulthandler, once the process there knows the sentence."""
        line = f"{' '.join(sentence.split())}\n".encode()
        if self._owner != os.getpid():
            self._start()
        if sentence != self._sentence:
            try:
                os.write(self._pipe, line)
            except BrokenPipeError:
                # It was killed.
                self._start()
                os.write(self._pipe, line)
            self._sentence = sentence
        return self._pipe

    def _start(self) -> None:
        if self._owner == os.getpid():
            os.close(self._pipe)
        read, self._pipe = os.pipe()
        os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _SPEAKER],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
            # Ctrl-C is for this process.
            setpgroup=0,
        )
        os.close(read)
        self._owner, self._sentence = os.getpid(), ""


_speaker = _Speaker()
_watched = threading.Lock()
