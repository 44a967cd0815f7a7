"""How a run ends that a person stops, by Ctrl-C or `kill`: at once in words, in order where it can, and soon."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from tuneline import terminal

PATIENCE = 4.0
"""Seconds that the order may take; then the process ends as it stands. Its children die with it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A person has stopped the run; libraries know it as a KeyboardInterrupt.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class _Handler:
    """The first signal raises `Stopped` in the main thread; another one, while that is obeyed, changes nothing."""

    def __init__(self, line: str) -> None:
        self._line = line
        self.is_obeyed = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.is_obeyed:
            return
        self.is_obeyed = True
        _say_last(self._line)
        threading.Thread(target=_end_late, args=(128 + number,), daemon=True).start()
        raise Stopped(number)


@contextmanager
def stoppable(line: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block, and with it the process; called in the main thread.

    What is printed after `line` is lost: what libraries say of an interrupt is not for the person who made it.

    Args:
        line: what the person is told, on stderr.

    Raises:
        Stopped: in the block. `PATIENCE` seconds later the process ends in any case, with the same exit code.
    """
    handler = _Handler(line)
    # A shell starts what it puts into the background with SIGINT ignored, and it stays so for what this starts.
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, handler)
    try:
        yield
    finally:
        # A second signal must not hit what is left to do.
        if not handler.is_obeyed:
            for number, earlier in before.items():
                signal.signal(number, earlier)


def is_active() -> bool:
    """Whether the process is `stoppable` now."""
    return isinstance(signal.getsignal(signal.SIGINT), _Handler)


def take_over() -> None:
    """Have SIGTERM do what SIGINT does where the process is `stoppable`, whatever a library has made of it since."""
    if is_active():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def _say_last(line: str) -> None:
    # The signal may have come within a write to the same stream, so that its lock is held.
    os.write(2, f"\n{line}\n".encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _end_late(code: int) -> None:
    threading.Event().wait(PATIENCE)
    os._exit(code)


def end_now(line: str, code: int = 1) -> NoReturn:
    """Say `line` on stderr and end this process and its children without a further word.

    For where nothing that is left to do can be done, as with a server that is gone. What comes from addresses and logs
    is made harmless here, as this line goes past the guarded streams.
    """
    sys.stdout.flush()
    _say_last(terminal.safe_line(line))
    os._exit(code)
