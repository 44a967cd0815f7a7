"""The longest span that ends at each place of some sequences and that occurs in other sequences too.

A suffix automaton (Blumer et al., 1985, https://doi.org/10.1016/0304-3975(85)90157-4) holds all spans of the first
sequences; the others are read through it once. Time and memory grow with the number of units, however often a sequence
repeats itself or what others have.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

_ROOT = 0


@dataclass(frozen=True)
class Shared:
    """A span that ends at one place."""

    length: int
    """0: not even the unit at this place occurs in the other sequences."""
    origin: int
    """The number of one of the other sequences in which the span occurs."""


_NOTHING = Shared(0, -1)


class SharedSpans:
    """What some sequences share with others.

    Args:
        sequences: whose spans are searched for.
    """

    def __init__(self, sequences: Sequence[Sequence[Hashable]]) -> None:
        # A state stands for spans that end at the same places. It has the length of the longest of them, and a link to
        # the state of the next shorter spans.
        self._length, self._link = [0], [-1]
        self._next: list[dict[Hashable, int]] = [{}]
        self._ends = [self._add(sequence) for sequence in sequences]
        self._found = [_NOTHING] * len(self._length)

    def read(self, sequence: Iterable[Hashable], origin: int) -> None:
        """Search for the spans in one of the other sequences.

        Args:
            sequence: it.
            origin: its number.
        """
        state, length = _ROOT, 0
        for unit in sequence:
            while unit not in self._next[state] and state != _ROOT:
                state = self._link[state]
                length = self._length[state]
            if unit in self._next[state]:
                state = self._next[state][unit]
                length += 1
                if length > self._found[state].length:
                    self._found[state] = Shared(length, origin)

    def ends(self) -> list[list[Shared]]:
        """Of each place of each of the first sequences, the longest span that ends there and that was found."""
        found = list(self._found)
        # Where a span occurs, its ends occur too. The longer spans come first.
        for state in sorted(range(1, len(found)), key=self._length.__getitem__, reverse=True):
            shorter = self._link[state]
            one = Shared(min(found[state].length, self._length[shorter]), found[state].origin)
            known = found[shorter]
            if one.length > known.length or (one.length == known.length and 0 <= one.origin < known.origin):
                found[shorter] = one
        # The longest end of a span that occurs: its own, else that of the next shorter spans.
        for state in sorted(range(1, len(found)), key=self._length.__getitem__):
            if not found[state].length:
                found[state] = found[self._link[state]]
        return [[found[state] for state in states] for states in self._ends]

    def _add(self, sequence: Sequence[Hashable]) -> list[int]:
        """Add a sequence; return the state after each of its units."""
        last, states = _ROOT, []
        for unit in sequence:
            last = self._extend(last, unit)
            states.append(last)
        return states

    def _extend(self, last: int, unit: Hashable) -> int:
        known = self._next[last].get(unit)
        if known is not None:
            return self._exactly(last, known, unit)
        new = self._state(self._length[last] + 1, {})
        place = last
        while place != -1 and unit not in self._next[place]:
            self._next[place][unit] = new
            place = self._link[place]
        self._link[new] = _ROOT if place == -1 else self._exactly(place, self._next[place][unit], unit)
        return new

    def _exactly(self, before: int, known: int, unit: Hashable) -> int:
        """The state whose longest span is that of `before` and the unit: `known`, or its shorter spans made a state."""
        if self._length[known] == self._length[before] + 1:
            return known
        shorter = self._state(self._length[before] + 1, dict(self._next[known]))
        self._link[shorter], self._link[known] = self._link[known], shorter
        place = before
        while place != -1 and self._next[place].get(unit) == known:
            self._next[place][unit] = shorter
            place = self._link[place]
        return shorter

    def _state(self, length: int, following: dict[Hashable, int]) -> int:
        self._length.append(length)
        self._link.append(_ROOT)
        self._next.append(following)
        return len(self._length) - 1
