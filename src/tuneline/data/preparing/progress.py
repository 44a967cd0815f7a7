"""How far a long step is: a line every few seconds, for a person who waits."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_EVERY = 5.0


class Progress:
    """Counts what is done, and says so.

    Args:
        words: what is done.
        total: items.
        size: of all items together, in bytes.
    """

    def __init__(self, words: str, total: int, size: int) -> None:
        self._words = words
        self._total = total
        self._size = size
        self.rows = 0
        """Done so far, where they are counted."""

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a line of progress every five seconds."""
        begun = said = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - said < _EVERY:
                continue
            said = now
            share = done / max(self._total, 1)
            passed = now - begun
            rows = f", {self.rows:,} rows" if self.rows else ""
            print(
                f"{self._words}: {share:.0%}{rows}, {share * self._size / passed / 1e6:.1f} MB/s, "
                f"{passed * (1 - share) / share:,.0f} s left",
                flush=True,
            )
