"""The store of a set while it is prepared: its parts on disk, and which rows they hold.

A Store is small and the same in every process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tuneline.data.records.record_form import RecordForm

_ROWS = "rows.arrow"
KEPT = "kept:"
"""In a part, the names of kept columns begin so: a column may be called like a field."""


class Part(NamedTuple):
    """Some consecutive rows of a portion."""

    folder: Path
    start: int
    """Index of the first row in the set."""
    stop: int

    def array(self, name: str) -> np.ndarray:
        """Return an array of the part (rows, tokens or bands), mapped into memory."""
        return mapped(self.folder / f"{name}.npy")

    def batch(self) -> pa.RecordBatch:
        """Return offsets and cleaned fields, mapped into memory."""
        return pa.ipc.open_file(pa.memory_map(str(self.folder / _ROWS))).get_batch(0)


@dataclass(frozen=True)
class Store:
    """The parts of a set."""

    path: str
    """Of the set, as reports name it."""
    form: RecordForm
    folder: Path
    files: tuple[str, ...]
    """[portions] the file of each portion."""
    parts_of: tuple[tuple[int, ...], ...]
    """[portions] the number of rows of each of its parts."""
    kept: tuple[str, ...] = ()
    """The names of the kept columns in the clean splits."""

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in order."""
        return tuple(part for portion in range(len(self.files)) for part in self.of_portion(portion))

    @cached_property
    def starts(self) -> np.ndarray:
        """[portions + 1] index of each portion's first row."""
        return np.array([0, *accumulate(sum(parts) for parts in self.parts_of)])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    def folder_of(self, portion: int) -> Path:
        """Return the folder of a portion's parts."""
        return self.folder / f"{portion:06d}"

    def of_portion(self, portion: int) -> Iterator[Part]:
        """Yield the parts of a portion."""
        start = int(self.starts[portion])
        for number, rows in enumerate(self.parts_of[portion]):
            yield Part(self.folder_of(portion) / f"{number:04d}", start, start + rows)
            start += rows

    def source(self, row: int, line: int) -> str:
        """Return file and line of a row."""
        return f"{self.files[int(np.searchsorted(self.starts, row, 'right')) - 1]}:{line}"

    def groups(self, size: int) -> list[range]:
        """Return the portions in groups of at least `size` bytes, each for one job."""
        groups: list[range] = []
        start = bytes_of_group = 0
        for portion in range(len(self.files)):
            bytes_of_group += sum((part.folder / _ROWS).stat().st_size for part in self.of_portion(portion))
            if bytes_of_group >= size or portion + 1 == len(self.files):
                groups.append(range(start, portion + 1))
                start, bytes_of_group = portion + 1, 0
        return groups


def write_part(
    folder: Path, offsets: Sequence[int], fields: dict[str, "TextColumn"], arrays: dict[str, np.ndarray]
) -> None:
    """Write a part: the offsets and cleaned fields of its rows, and arrays of numbers.

    Args:
        folder: is made.
        offsets: [rows] byte offsets in the raw file.
        fields: name -> texts of all rows.
        arrays: name -> array.
    """
    folder.mkdir()
    columns = {name: column.array() for name, column in fields.items()}
    batch = pa.record_batch({"offset": pa.array(offsets, pa.int64()), **columns})
    with pa.OSFile(str(folder / _ROWS), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


class TextColumn:
    """A column of texts that grows by blocks. Appending text by text takes several times as long."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._lengths: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Append some texts."""
        data = "".join(texts).encode()
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if int(lengths.sum()) != len(data):
            lengths = np.fromiter((len(text) if text.isascii() else len(text.encode()) for text in texts), np.int64)
        self._data.append(data)
        self._lengths.append(lengths)

    def array(self) -> pa.Array:
        """Return all texts. Together they have less than 2 GiB, because a part is small."""
        data = b"".join(self._data)
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        assert len(data) < 2**31, "offsets have 32 bits"
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))


def mapped(path: Path) -> np.ndarray:
    """Return an array on disk, mapped into memory. An empty array is read, because it cannot be mapped."""
    try:
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except ValueError:
        return np.load(path)


def values_of(batch: pa.RecordBatch, rows: np.ndarray) -> list[tuple[str, ...]]:
    """Return the cleaned fields of some rows of a part.

    Args:
        batch: of the part.
        rows: indices in the part.
    """
    taken = batch.take(pa.array(rows))
    names = [name for name in taken.schema.names[1:] if not name.startswith(KEPT)]
    return list(zip(*(taken.column(name).to_pylist() for name in names), strict=True))
