"""Examples: what a model sees of a record. Tables of examples are Arrow tables, in memory or memory-mapped."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IGNORED = -100
"""The label of a token without a loss, as in PyTorch."""
PLAIN = "plain"
"""The mode in which a text, or a prompt with its completion, is trained as written plus end-of-text."""
CHAT = "chat"
"""The mode in which the tokenizer's chat template writes a conversation, and the assistant's turns are trained."""
CLASSIFICATION = "classification"
REGRESSION = "regression"
MODES = (PLAIN, CHAT, CLASSIFICATION, REGRESSION)
"""How records become examples; a model folder stores its mode."""

Target = int | float | list[float]

_BATCH = 1024
"""Rows in a record batch of a table."""
_IDS = pa.list_(pa.int32())


class Example(NamedTuple):
    """One document of a causal language model."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where it is supervised, else IGNORED. The first label is IGNORED: no token is before it."""
    source: str = ""
    """File and line of the row in the raw set."""


class Labelled(NamedTuple):
    """One text of a classifier or a regression, with its target."""

    input_ids: list[int]
    target: Target
    """Single label: its index. Multi-label: 1.0 or 0.0 for each label. Regression: the number."""
    source: str = ""


class Preference(NamedTuple):
    """One prompt with the better and the worse answer; both end with their end token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    source: str = ""


Row = TypeVar("Row", Example, Labelled, Preference)


class ExampleTable(Sequence[Row], Generic[Row]):
    """Examples in an Arrow table: a few bytes per token. An index makes one example, a slice makes a list.

    Args:
        rows: examples to keep in memory.
    """

    SCHEMA: ClassVar[pa.Schema]

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._set(pa.Table.from_batches(map(self.record_batch, _batches(rows)), self.SCHEMA))

    def _set(self, table: pa.Table) -> None:
        self.table = table
        batches = table.to_batches()
        self._starts = list(accumulate((batch.num_rows for batch in batches), initial=0))
        self._views = [list(map(_numpy_view, batch.columns)) for batch in batches]

    @classmethod
    def open(cls, path: Path) -> Self:
        """The table that `write` has written, memory-mapped: a row is read from disk when it is asked for."""
        made = cls.__new__(cls)
        made._set(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        return made

    @classmethod
    def write(cls, path: Path, batches: Iterable[Sequence[Row]]) -> None:
        """Write examples as an Arrow IPC file, batch by batch."""
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, cls.SCHEMA) as writer:
            for rows in batches:
                writer.write_batch(cls.record_batch(rows))

    @classmethod
    def record_batch(cls, rows: Sequence[Row]) -> pa.RecordBatch:
        """Examples as one Arrow record batch."""
        columns = zip(*map(cls._values, rows), strict=True) if rows else [()] * len(cls.SCHEMA)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, cls.SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=cls.SCHEMA)

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        batch = bisect_right(self._starts, at) - 1
        at -= self._starts[batch]
        # Scalars of Arrow cost three times as much.
        return self._example([values[offsets[at] : offsets[at + 1]] for offsets, values in self._views[batch]])

    def sources(self) -> Iterator[str]:
        """The source of each row."""
        return (value.as_py() for value in self.table["source"])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64."""
        raise NotImplementedError

    def supervised_counts(self) -> np.ndarray:
        """What of each example has a loss, int64: tokens of a document; other examples as a whole, as 1."""
        return np.ones(len(self), np.int64)

    def _lengths_of(self, column: str) -> np.ndarray:
        lengths = pc.list_value_length(self.table[column])  # pyright: ignore[reportAttributeAccessIssue]
        return lengths.to_numpy().astype(np.int64)

    @staticmethod
    def _values(row: Row) -> tuple[Any, ...]:
        """The values of a row in the order of the schema."""
        raise NotImplementedError

    @staticmethod
    def _example(values: list[np.ndarray]) -> Row:
        """The row with these values, a NumPy array of each column; texts are UTF-8 bytes."""
        raise NotImplementedError


class Examples(ExampleTable[Example]):
    """Documents: four bytes per token, and one for whether it is supervised."""

    SCHEMA = pa.schema({"input_ids": _IDS, "is_supervised": pa.list_(pa.uint8()), "source": pa.string()})

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64."""
        return self._lengths_of("input_ids")

    def supervised_counts(self) -> np.ndarray:
        """Supervised tokens of each document, int64."""
        counts = [np.zeros(0, np.int64)]
        for chunk in self.table["is_supervised"].chunks:
            total = np.append(0, np.cumsum(chunk.values.to_numpy(), dtype=np.int64))
            counts.append(np.diff(total[chunk.offsets.to_numpy()]))
        return np.concatenate(counts)

    @staticmethod
    def _values(row: Example) -> tuple[Any, ...]:
        return row.input_ids, np.not_equal(row.labels, IGNORED).view(np.uint8), row.source

    @staticmethod
    def _example(values: list[np.ndarray]) -> Example:
        input_ids, is_supervised, source = values
        labels = np.where(is_supervised, input_ids, IGNORED)
        return Example(input_ids.tolist(), labels.tolist(), _text(source))


class LabelledRows(ExampleTable[Labelled]):
    """Labelled texts; the target is JSON, which keeps index, number and list apart."""

    SCHEMA = pa.schema({"input_ids": _IDS, "target": pa.string(), "source": pa.string()})

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64."""
        return self._lengths_of("input_ids")

    def supervised_counts(self) -> np.ndarray:
        """One for each text: its target is what is supervised. int64."""
        return np.ones(len(self), np.int64)

    @staticmethod
    def _values(row: Labelled) -> tuple[Any, ...]:
        return row.input_ids, json.dumps(row.target), row.source

    @staticmethod
    def _example(values: list[np.ndarray]) -> Labelled:
        input_ids, target, source = values
        return Labelled(input_ids.tolist(), json.loads(_text(target)), _text(source))


class Preferences(ExampleTable[Preference]):
    """Prompts with two answers each."""

    SCHEMA = pa.schema({"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS, "source": pa.string()})

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt with its longer answer, int64."""
        prompt, chosen, rejected = map(self._lengths_of, ("prompt_ids", "chosen_ids", "rejected_ids"))
        return prompt + np.maximum(chosen, rejected)

    @staticmethod
    def _values(row: Preference) -> tuple[Any, ...]:
        return tuple(row)

    @staticmethod
    def _example(values: list[np.ndarray]) -> Preference:
        prompt, chosen, rejected, source = values
        return Preference(prompt.tolist(), chosen.tolist(), rejected.tolist(), _text(source))


def lengths(examples: Sequence[Any]) -> Sequence[int]:
    """Tokens of each example."""
    known = getattr(examples, "lengths", None)
    return [len(example.input_ids) for example in examples] if known is None else known.tolist()


def _numpy_view(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The offsets and the values of lists or texts, over the same memory."""
    if pa.types.is_list(array.type):
        return array.offsets.to_numpy(), array.values.to_numpy()
    _, offsets, values = array.buffers()
    return np.frombuffer(offsets, np.int32), np.frombuffer(values or b"", np.uint8)


def _text(utf8: np.ndarray) -> str:
    return utf8.tobytes().decode()


def _batches(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)
