"""Prints the progress of long work at fixed times: what is done, how fast, and how long the rest will take.

Progress only observes: it changes no result and writes to no output file.
"""

import sys
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self, TextIO

Report = Callable[[float, float], None]
"""Called after each batch with the amount done and the total amount."""

FIRST = 5.0
"""Seconds until the first line."""
EVERY = 30.0
"""Seconds between two lines, also while one batch takes longer."""


def silent(done: float, total: float) -> None:
    """Print nothing."""


class Progress:
    """Prints lines such as `candidate: answers: 128 of 200 rows, 2.1 rows/s, 34 s left`.

    A thread prints the first line `first` seconds after the start and a further line every `every` seconds, even while
    a single batch runs for minutes. Leaving the block without an exception prints the last line.

        with Progress("candidate: answers") as progress:
            for batch in batches:
                ...
                progress.update(done, total)

    Args:
        what: the beginning of each line.
        unit: what is counted, in the plural.
        always: print the last line even if the work was over before the first line.
        first: seconds until the first line.
        every: seconds between two lines.
        to: the stream; by default the present standard output.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: str = "rows",
        always: bool = False,
        first: float = FIRST,
        every: float = EVERY,
        to: TextIO | None = None,
    ) -> None:
        self._what, self._unit, self._always, self._to = what, unit, always, to
        self._first, self._every = first, every
        self._lock = Lock()
        self._stopped = Event()
        self._thread: Thread | None = None
        self._start = 0.0
        self._done, self._total, self._note = 0.0, None, ""
        self._began = self._updated = time.monotonic()
        self._printed: float | None = None
        """The time of the last printed line."""

    def __enter__(self) -> Self:
        self.begin()
        return self

    def begin(self, done: float = 0.0) -> None:
        """Start the clock.

        Args:
            done: units done before, as in a resumed training; they do not count for the speed.
        """
        self._began = self._updated = time.monotonic()
        self._start = self._done = done
        self._thread = Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(last_line=kind is None)

    def end(self, *, last_line: bool = True) -> None:
        """Stop the clock, and print the last line."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
        if last_line and (self._always or self._printed is not None):
            with self._lock:
                self._print(time.monotonic(), is_last=True)

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report the amount done; prints a line when it is time.

        Args:
            done: units, counted from the beginning of the work.
            total: units in all; None if unknown.
            note: added to the line, as in `loss 3.389`.
        """
        with self._lock:
            self._done, self._total, self._note = done, total, note
            self._updated = time.monotonic()
            if self._updated >= self._due():
                self._print(self._updated)

    def __call__(self, done: float, total: float) -> None:
        """`update` as a `Report`."""
        self.update(done, total)

    def _due(self) -> float:
        return self._began + self._first if self._printed is None else self._printed + self._every

    def _watch(self) -> None:
        while not self._stopped.wait(max(self._due() - time.monotonic(), 0.01)):
            with self._lock:
                now = time.monotonic()
                if now >= self._due() and not self._stopped.is_set():
                    self._print(now)

    def _print(self, now: float, *, is_last: bool = False) -> None:
        self._printed = now
        text = progress_line(
            self._what,
            self._unit,
            done=self._done,
            start=self._start,
            total=self._total,
            note=self._note,
            seconds=now - self._began,
            waited=now - self._updated,
            is_last=is_last,
        )
        print(text, file=self._to or sys.stdout, flush=True)


def progress_line(
    what: str,
    unit: str,
    *,
    done: float,
    total: float | None,
    seconds: float,
    start: float = 0.0,
    note: str = "",
    waited: float = 0.0,
    is_last: bool = False,
) -> str:
    """A line of progress.

    Args:
        what: the beginning of the line.
        unit: what is counted, in the plural.
        done: units, `start` included.
        total: units in all; None if unknown.
        seconds: since the start.
        start: units that were done before.
        note: added to the line.
        waited: seconds since the last report.
        is_last: whether the work is over.
    """
    amount = number(done) if total is None else f"{number(done)} of {number(total)}"
    parts = [f"{what}: {amount} {unit.removesuffix('s') if amount == '1' else unit}", *([note] if note else [])]
    new = done - start
    if new > 0:
        # `done` does not include the work since the last report, so its time does not count either.
        parts.append(rate(new, seconds if is_last else seconds - waited, unit))
    if is_last:
        parts.append(f"in {duration(seconds)}")
    elif new <= 0:
        parts.append(f"{duration(seconds)} so far")
    elif total is not None:
        left = (seconds - waited) * (total - done) / new - waited
        if done >= total:
            # What comes after the last unit has no forecast.
            parts.append(f"{duration(seconds)} so far")
        else:
            parts.append(f"{duration(left)} left" if left > 0 else f"nothing new for {duration(waited)}")
    return ", ".join(parts)


def number(value: float) -> str:
    """A count for a person: an integer from 100 on, else with a decimal if it has one."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def rate(count: float, seconds: float, unit: str) -> str:
    """A speed in the first unit of time in which it is at least 1: `191 rows/s`, `4.2 rows/min`, `1.5 rows/h`."""
    speed = count / max(seconds, 1e-9)
    for name, factor in (("s", 1), ("min", 60), ("h", 3600)):
        if speed * factor >= 1 or name == "h":
            return f"{number(float(f'{speed * factor:.3g}'))} {unit}/{name}"
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds for a person: `0.4 s`, `48 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
