"""Examples as a model sees them, millions of them end to end in a few blocks of memory."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar, overload

import numpy as np

IGNORED = -100
"""The label of a token that is not learnt."""

Target = int | float | list[float]


class Example(NamedTuple):
    """One document as a causal model sees it."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where it is learnt, IGNORED elsewhere; never the first, which nothing stands before."""
    source: str = ""
    """Where the row stands in the raw set, for a person."""


class Labelled(NamedTuple):
    """One text with what a classifier, or a regression, is to say of it."""

    input_ids: list[int]
    target: Target
    """The number of the label; of several labels 1.0 or 0.0 for each that there is; of a regression the number."""
    source: str = ""


class Preference(NamedTuple):
    """One prompt with the better and the worse answer, both with their end."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    source: str = ""


Row = TypeVar("Row", Example, Labelled, Preference)


class _Flat:
    """Lists of numbers end to end in one block."""

    def __init__(self, typecode: str) -> None:
        self._values = array(typecode)
        self._ends = array("q")

    def append(self, values: Iterable[int] | Iterable[float]) -> None:
        self._values.extend(values)  # pyright: ignore[reportArgumentType]
        self._ends.append(len(self._values))

    def __getitem__(self, index: int) -> array:
        return self._values[self._ends[index - 1] if index else 0 : self._ends[index]]

    def lengths(self) -> np.ndarray:
        return np.diff(np.array(self._ends, np.int64), prepend=0)


class _Rows(Sequence[Row], Generic[Row]):
    """Rows that are made when they are asked for; a slice is a list."""

    def __init__(self) -> None:
        self._sources = _Flat("B")
        self._count = 0

    def append(self, row: Row) -> None:
        """Take a row in."""
        self._keep(row)
        self._sources.append(row.source.encode())
        self._count += 1

    def extend(self, rows: Iterable[Row]) -> None:
        """Take many rows in."""
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(index)
        return self._made(place, self._sources[place].tobytes().decode())

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64."""
        raise NotImplementedError

    def _keep(self, row: Row) -> None:
        raise NotImplementedError

    def _made(self, place: int, source: str) -> Row:
        raise NotImplementedError


class Examples(_Rows[Example]):
    """Documents: four bytes a token, and one for whether it is learnt."""

    def __init__(self, rows: Iterable[Example] = ()) -> None:
        super().__init__()
        self._ids, self._learnt = _Flat("i"), _Flat("B")
        self.extend(rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64."""
        return self._ids.lengths()

    def _keep(self, row: Example) -> None:
        self._ids.append(row.input_ids)
        self._learnt.append([label != IGNORED for label in row.labels])

    def _made(self, place: int, source: str) -> Example:
        ids = self._ids[place]
        learnt = np.frombuffer(self._learnt[place], np.bool_)
        labels = np.where(learnt, np.frombuffer(ids, np.int32), IGNORED)
        return Example(ids.tolist(), labels.tolist(), source)


class LabelledRows(_Rows[Labelled]):
    """Labelled texts."""

    def __init__(self, rows: Iterable[Labelled] = ()) -> None:
        super().__init__()
        self._ids, self._targets = _Flat("i"), _Flat("d")
        self._kind: type = float
        self.extend(rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64."""
        return self._ids.lengths()

    def _keep(self, row: Labelled) -> None:
        self._ids.append(row.input_ids)
        self._kind = type(row.target)
        self._targets.append(row.target if isinstance(row.target, list) else [row.target])

    def _made(self, place: int, source: str) -> Labelled:
        target = self._targets[place].tolist()
        return Labelled(self._ids[place].tolist(), target if self._kind is list else self._kind(target[0]), source)


class Preferences(_Rows[Preference]):
    """Prompts with two answers each."""

    def __init__(self, rows: Iterable[Preference] = ()) -> None:
        super().__init__()
        self._parts = (_Flat("i"), _Flat("i"), _Flat("i"))
        self.extend(rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt with its longer answer, int64."""
        prompt, chosen, rejected = (part.lengths() for part in self._parts)
        return prompt + np.maximum(chosen, rejected)

    def _keep(self, row: Preference) -> None:
        for part, ids in zip(self._parts, row[:3], strict=True):
            part.append(ids)

    def _made(self, place: int, source: str) -> Preference:
        prompt, chosen, rejected = (part[place].tolist() for part in self._parts)
        return Preference(prompt, chosen, rejected, source)
