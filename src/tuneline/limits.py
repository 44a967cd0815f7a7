"""Bounds of time and memory for code that a stranger has written and a library runs, such as a chat template."""

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

_STATM = Path("/proc/self/statm")


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
            pages = int(_STATM.read_text().split()[0])
            most = pages * resource.getpagesize() + memory
            known = [limit for limit in (most, *before) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(resource.RLIMIT_AS, (min(known), before[1]))
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


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _TimeIsOver


class _TimeIsOver(BaseException):
    """Nothing that a library catches and goes on after."""
