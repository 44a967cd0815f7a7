"""Lines that say how far a long measurement is: rows, rows per second, time left."""

import time
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


def printed(what: str, every: float = 2.0) -> Progress:
    """A progress that prints a line at most every `every` seconds, and one at the end.

    Args:
        what: what is being measured, the line's beginning.
        every: seconds between two lines.
    """
    started = last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < every:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if done < total and rate else f"in {now - started:.1f} s"
        print(f"{what}: {done:,} of {total:,} rows, {rate:,.0f} rows/s, {left}", flush=True)

    return show


def silent(done: int, total: int) -> None:
    """Print nothing."""
