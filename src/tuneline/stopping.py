"""Stops a run on Ctrl-C or `kill`: a message at once, then a regular end, and a forced end after a few seconds."""

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
"""Seconds for the regular end; then the process exits, and its children die with it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A person has stopped the run; libraries see a KeyboardInterrupt.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class _Handler:
    """Raises `Stopped` in the main thread at the first signal; later signals change nothing."""

    def __init__(self, line: str) -> None:
        self._line = line
        self.has_stopped = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.has_stopped:
            return
        self.has_stopped = True
        _say_last(self._line)
        threading.Thread(target=_end_late, args=(128 + number,), daemon=True).start()
        raise Stopped(number)


@contextmanager
def stoppable(line: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block, and with it the process; call it in the main thread.

    Later output is dropped, because libraries print much about an interrupt.

    Args:
        line: the message for the person, on stderr.

    Raises:
        Stopped: in the block. `PATIENCE` seconds later the process exits in any case, with the same code.
    """
    handler = _Handler(line)
    # A shell starts background jobs with SIGINT ignored; their children inherit that, so set both handlers.
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, handler)
    try:
        yield
    finally:
        # After a stop the handler stays, so that a second signal does not interrupt the regular end.
        if not handler.has_stopped:
            for number, earlier in before.items():
                signal.signal(number, earlier)


def is_active() -> bool:
    """Whether the process is inside `stoppable`."""
    return isinstance(signal.getsignal(signal.SIGINT), _Handler)


def take_over() -> None:
    """Inside `stoppable`, give SIGTERM its handler again, after a library has replaced it."""
    if is_active():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def _say_last(line: str) -> None:
    # os.write, because the signal may have interrupted a write to the stream, which then holds its lock.
    os.write(2, f"\n{line}\n".encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _end_late(code: int) -> None:
    threading.Event().wait(PATIENCE)
    os._exit(code)


def end_now(line: str, code: int = 1) -> NoReturn:
    """Print `line` on stderr and exit at once; the children die with this process.

    For failures after which no regular end is possible, such as a lost server. The line is made safe to show here,
    because it bypasses the guarded streams.
    """
    sys.stdout.flush()
    _say_last(terminal.safe_line(line))
    os._exit(code)
