"""Where the parts of a prepared set lie, and which rows they hold: small, and the same in every process."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tuneline.data.reading.raw_rows import excerpt
from tuneline.data.records.record_form import RecordForm


class Part(NamedTuple):
    """Some consecutive rows of a portion."""

    folder: Path
    start: int
    """Index of the first row in the set."""
    stop: int

    def array(self, name: str) -> np.ndarray:
        """One of its arrays (rows, tokens, bands), mapped into memory."""
        return mapped(self.folder / f"{name}.npy")

    def batch(self) -> pa.RecordBatch:
        """Its offsets and cleaned fields, mapped into memory."""
        return pa.ipc.open_file(pa.memory_map(str(self.folder / "rows.arrow"))).get_batch(0)


@dataclass(frozen=True)
class Catalogue:
    """The parts of one set."""

    path: str
    """Of the set, as accounts call it."""
    form: RecordForm
    folder: Path
    files: tuple[str, ...]
    """Of each portion, the file that it is of."""
    parts_of: tuple[tuple[int, ...], ...]
    """Of each portion, the rows of its parts."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in order."""
        return tuple(part for portion in range(len(self.files)) for part in self.of_portion(portion))

    @cached_property
    def starts(self) -> np.ndarray:
        """Of each portion, the index of its first row; one more than there are portions."""
        return np.array([0, *accumulate(sum(parts) for parts in self.parts_of)])

    @property
    def rows(self) -> int:
        """Of all parts."""
        return int(self.starts[-1])

    def folder_of(self, portion: int) -> Path:
        """Where the parts of a portion lie."""
        return self.folder / f"{portion:06d}"

    def of_portion(self, portion: int) -> Iterator[Part]:
        """The parts of one portion."""
        start = int(self.starts[portion])
        for number, rows in enumerate(self.parts_of[portion]):
            yield Part(self.folder_of(portion) / f"{number:04d}", start, start + rows)
            start += rows

    def source(self, row: int, line: int) -> str:
        """Where a row stands, for a person."""
        return f"{self.files[int(np.searchsorted(self.starts, row, 'right')) - 1]}:{line}"

    def groups(self, characters: int) -> list[range]:
        """Portions put together until they hold some characters, by which work is handed out."""
        groups: list[range] = []
        start = size = 0
        for portion in range(len(self.files)):
            size += sum(part.folder.joinpath("rows.arrow").stat().st_size for part in self.of_portion(portion))
            if size >= characters or portion + 1 == len(self.files):
                groups.append(range(start, portion + 1))
                start, size = portion + 1, 0
        return groups


def mapped(path: Path) -> np.ndarray:
    """An array on disk, mapped into memory; an empty one cannot be mapped."""
    try:
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except ValueError:
        return np.load(path)


def values_of(batch: pa.RecordBatch, rows: np.ndarray) -> list[tuple[str, ...]]:
    """The cleaned fields of some rows of a part.

    Args:
        batch: of the part.
        rows: indices within it.
    """
    taken = batch.take(pa.array(rows))
    return list(zip(*(column.to_pylist() for column in taken.columns[1:]), strict=True))


def beginning(values: tuple[str, ...]) -> str:
    """A row, short enough for a report."""
    return excerpt(" | ".join(values))
