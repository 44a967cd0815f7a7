"""Examples as a model sees them, millions of them end to end in a few blocks of memory, or of files."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, overload

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


class Flat:
    """Lists of numbers end to end in one block, in memory or of a file.

    Args:
        values: all numbers.
        ends: where each list ends among them, int64.
    """

    def __init__(self, values: array | np.ndarray, ends: array | np.ndarray) -> None:
        self.values, self.ends = values, ends

    def append(self, values: Iterable[int] | Iterable[float]) -> None:
        """Take a list in; only in memory."""
        self.values.extend(values)  # pyright: ignore[reportAttributeAccessIssue]
        self.ends.append(len(self.values))  # pyright: ignore[reportAttributeAccessIssue]

    def __getitem__(self, index: int) -> array | np.ndarray:
        return self.values[self.ends[index - 1] if index else 0 : self.ends[index]]

    def lengths(self) -> np.ndarray:
        """Numbers in each list, int64."""
        return np.diff(np.asarray(self.ends, np.int64), prepend=0)


class FlatRows(Sequence[Row], Generic[Row]):
    """Rows that are made when they are asked for; a slice is a list.

    Args:
        rows: to begin with.
    """

    PARTS: ClassVar[dict[str, str]]
    """What is kept of every row, and as which numbers, by the codes of `array`."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.parts = {name: Flat(array(code), array("q")) for name, code in self.PARTS.items()}
        self.extend(rows)

    @classmethod
    def of(cls, parts: dict[str, Flat]) -> Self:
        """Rows whose parts are there already."""
        rows = cls()
        rows.parts = parts
        return rows

    def append(self, row: Row) -> None:
        """Take a row in."""
        self._keep(row)
        self.parts["sources"].append(row.source.encode())

    def extend(self, rows: Iterable[Row]) -> None:
        """Take many rows in."""
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        return len(self.parts["sources"].ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self._made(place, self.parts["sources"][place].tobytes().decode())

    def sources(self) -> Iterator[str]:
        """Where each row stands in the raw set."""
        return (self.parts["sources"][place].tobytes().decode() for place in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64."""
        raise NotImplementedError

    def _keep(self, row: Row) -> None:
        raise NotImplementedError

    def _made(self, place: int, source: str) -> Row:
        raise NotImplementedError


class Examples(FlatRows[Example]):
    """Documents: four bytes a token, and one for whether it is learnt."""

    PARTS: ClassVar[dict[str, str]] = {"ids": "i", "learnt": "B", "sources": "B"}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64."""
        return self.parts["ids"].lengths()

    def learnt_counts(self) -> np.ndarray:
        """Tokens of each document that are learnt, int64."""
        learnt = self.parts["learnt"]
        if not len(self):
            return np.zeros(0, np.int64)
        # No document is empty, so that every sum is of its own tokens alone.
        starts = np.asarray(learnt.ends, np.int64) - learnt.lengths()
        return np.add.reduceat(np.asarray(learnt.values), starts, dtype=np.int64)

    def _keep(self, row: Example) -> None:
        self.parts["ids"].append(row.input_ids)
        self.parts["learnt"].append([label != IGNORED for label in row.labels])

    def _made(self, place: int, source: str) -> Example:
        ids = self.parts["ids"][place]
        learnt = np.frombuffer(self.parts["learnt"][place], np.bool_)
        labels = np.where(learnt, np.frombuffer(ids, np.int32), IGNORED)
        return Example(ids.tolist(), labels.tolist(), source)


class LabelledRows(FlatRows[Labelled]):
    """Labelled texts."""

    PARTS: ClassVar[dict[str, str]] = {"ids": "i", "targets": "d", "kinds": "B", "sources": "B"}
    _KINDS = (int, float, list)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64."""
        return self.parts["ids"].lengths()

    def _keep(self, row: Labelled) -> None:
        self.parts["ids"].append(row.input_ids)
        self.parts["targets"].append(row.target if isinstance(row.target, list) else [row.target])
        self.parts["kinds"].append([self._KINDS.index(type(row.target))])

    def _made(self, place: int, source: str) -> Labelled:
        target, kind = self.parts["targets"][place].tolist(), self._KINDS[self.parts["kinds"][place][0]]
        return Labelled(self.parts["ids"][place].tolist(), target if kind is list else kind(target[0]), source)


class Preferences(FlatRows[Preference]):
    """Prompts with two answers each."""

    PARTS: ClassVar[dict[str, str]] = {"prompt": "i", "chosen": "i", "rejected": "i", "sources": "B"}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt with its longer answer, int64."""
        prompt, chosen, rejected = (self.parts[name].lengths() for name in ("prompt", "chosen", "rejected"))
        return prompt + np.maximum(chosen, rejected)

    def _keep(self, row: Preference) -> None:
        for name, ids in zip(("prompt", "chosen", "rejected"), row[:3], strict=True):
            self.parts[name].append(ids)

    def _made(self, place: int, source: str) -> Preference:
        prompt, chosen, rejected = (self.parts[name][place].tolist() for name in ("prompt", "chosen", "rejected"))
        return Preference(prompt, chosen, rejected, source)


def lengths(examples: Sequence[Any]) -> Sequence[int]:
    """Tokens of each example."""
    known = getattr(examples, "lengths", None)
    return [len(example.input_ids) for example in examples] if known is None else known.tolist()
