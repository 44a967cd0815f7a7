"""Columns of text for pyarrow, made of whole blocks at once: appending text by text takes several times as long."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class Strings:
    """A column that grows by blocks."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._lengths: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Put a block of texts behind the others."""
        data = "".join(texts).encode()
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if int(lengths.sum()) != len(data):
            lengths = np.fromiter((len(text) if text.isascii() else len(text.encode()) for text in texts), np.int64)
        self._data.append(data)
        self._lengths.append(lengths)

    def array(self) -> pa.Array:
        """All of it; below 2 GiB, as a part of a set is."""
        data = b"".join(self._data)
        return strings(data, np.concatenate([np.zeros(0, np.int64), *self._lengths]))


def strings(data: bytes, lengths: np.ndarray) -> pa.Array:
    """A column of texts.

    Args:
        data: UTF-8 of all texts, one after another.
        lengths: of each, in bytes.
    """
    ends = np.cumsum(lengths)
    assert len(data) < 2**31, "offsets are of 32 bits"
    offsets = np.append(0, ends).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))
