"""Reads the rows of a set as frames of bounded size, with columns that are computed from their fields."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pandas as pd
import pandas.util
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype

from tuneline.core.arrays import distinct
from tuneline.data.mapping import raw_set
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.reading.guards import damage
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records.record_form import Record, RecordForm
from tuneline.data.validation.row_counts import Tally

CHUNK = 100_000
"""Largest number of rows of a frame."""
_CHUNK_BYTES = 48 << 20
"""Largest number of bytes of its fields, without the last row."""
_NAMED_ROWS = 100
_TEXT = pd.StringDtype(na_value=np.nan)


class RawFrames:
    """The rows of a raw set as `prepare` will read them. Each call reads them again and counts unusable rows.

    Columns: source, the fields, kept columns, the computed columns, and group, order and split if the rows have them.

    Args:
        raw: the set.
    """

    def __init__(self, raw: RawSet) -> None:
        self.raw = raw
        self.tally = Tally(raw, _NAMED_ROWS)
        """Counts of the last call that read the complete set."""

    def __call__(self) -> Iterator[pd.DataFrame]:
        """Yield the set in frames. A caller that names rows may stop before the end."""
        tally = Tally(self.raw, _NAMED_ROWS)
        part: list[Record] = []
        size = 0
        is_empty = True
        for row in chain.from_iterable(raw_set.read(portion, shape) for portion, shape in self.raw.portions):
            tally.add(row)
            if isinstance(row, Rejected):
                continue
            part.append(row)
            size += sum(map(len, row.values))
            if len(part) == CHUNK or size > _CHUNK_BYTES:
                yield self._frame(part)
                part, size, is_empty = [], 0, False
        if part or is_empty:
            yield self._frame(part)
        self.tally = tally

    def _frame(self, part: Sequence[Record]) -> pd.DataFrame:
        columns: dict[str, Any] = {"source": [record.source for record in part]}
        for index, name in enumerate(self.raw.form.fields):
            columns[name] = [record.values[index] for record in part]
        for name in ("group", "order", "split"):
            if part and getattr(part[0], name) is not None:
                columns[name] = [getattr(record, name) for record in part]
        for index, name in enumerate(self.raw.kept.values()):
            columns[name] = [record.kept[index] for record in part]
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return with_counts(table, self.raw.form)


class CleanFrames:
    """The rows of a folder of clean splits. Each call reads them again.

    Columns: the columns of the files, the computed columns, split, and splits_of_cluster: the number of splits that
    have rows of the same cluster.

    Args:
        folder: has a folder for each split.
        splits: names of the splits.
        form: of the rows.
    """

    def __init__(self, folder: Path, splits: Sequence[str], form: RecordForm) -> None:
        self.parts = {split: sorted((folder / split).glob("*.parquet")) for split in splits}
        self.form = form

    def __call__(self) -> Iterator[pd.DataFrame]:
        """Yield the splits in frames."""
        shared, numbers = self._clusters_in_several()
        is_empty = True
        for split, paths in self.parts.items():
            for table in _tables(paths):
                frame = with_counts(table, self.form).assign(split=split)
                # All columns of a frame are text or numbers: object columns would be slow to validate.
                frame["split"] = frame["split"].astype("str")
                places = np.searchsorted(shared, clusters := _hashes(table["cluster"]))
                places[places == len(shared)] = 0
                found = shared[places] == clusters if len(shared) else np.zeros(len(clusters), bool)
                frame["splits_of_cluster"] = np.where(found, numbers[places] if len(shared) else 1, 1)
                is_empty = False
                yield frame
        if is_empty:
            columns = ("id", "source", "cluster", *self.form.fields, "split", "splits_of_cluster")
            yield pd.DataFrame({name: pd.Series([], dtype="str") for name in columns})

    def _clusters_in_several(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted hashes of clusters with rows in several splits, and the number of these splits."""
        of_split = []
        for paths in self.parts.values():
            parts = [_hashes(table["cluster"]) for table in _tables(paths, ["cluster"])]
            of_split.append(distinct(np.concatenate(parts)) if parts else np.empty(0, np.uint64))
        clusters, numbers = np.unique(np.concatenate(of_split), return_counts=True)
        return clusters[numbers > 1], numbers[numbers > 1]


def _tables(paths: Iterable[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield portions of parquet files that fit into a frame."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            row_bytes = max(1, sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)))
            rows = max(1, min(CHUNK, _CHUNK_BYTES * max(1, file.metadata.num_rows) // row_bytes))
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])


def _hashes(column: pa.ChunkedArray) -> np.ndarray:
    return _hash(column.to_numpy(zero_copy_only=False))


def _hash(values: np.ndarray) -> np.ndarray:
    return cast(Any, pandas.util).hash_array(values, categorize=False)


def with_counts(table: pa.Table, form: RecordForm) -> pd.DataFrame:
    """Return a table as a frame with computed columns: characters, damage, and those of its record type.

    Args:
        table: the fields, and perhaps further columns.
        form: of the rows.
    """
    frame = table.to_pandas(types_mapper={pa.string(): _TEXT}.get)
    frame["damage"] = pd.Series(_damage(table, form), dtype=_TEXT)
    if form.record_type == "messages":
        counts = np.array([_count(text) for text in table["messages"].to_pylist()], float).reshape(-1, 3)
        # A field that is not a list of messages has null numbers, which fail the expectations, with their sources.
        return frame.assign(turns=counts[:, 0], answers=counts[:, 1], characters=np.nan_to_num(counts[:, 2]))
    shown = ("text",) if form.labelled else form.fields
    if form.conversational:
        lengths = [np.array([_count(text)[2] for text in table[name].to_pylist()], float) for name in shown]
        return frame.assign(characters=np.nan_to_num(np.sum(lengths, axis=0)))
    lengths = [_lengths(table[name]) for name in shown]
    frame = frame.assign(characters=np.sum(lengths, axis=0))
    if form.numeric:
        number = np.asarray(pd.to_numeric(frame["label"].astype(object), errors="coerce"), float)
        frame["number"] = np.where(np.isfinite(number), number, np.nan)
    return frame


def _damage(table: pa.Table, form: RecordForm) -> list[str]:
    """Return for each row the kinds of damage that its texts show, or an empty text."""
    found = [""] * table.num_rows
    columns = [table[name] for name in form.fields]
    is_ascii = np.ones(table.num_rows, bool)
    for column in columns:
        is_ascii &= np.asarray(pc.call_function("string_is_ascii", [column]).fill_null(True), bool)
    rows = np.flatnonzero(~is_ascii)
    taken = [column.take(pa.array(rows)).to_pylist() for column in columns]
    for row, values in zip(rows.tolist(), zip(*taken, strict=True), strict=True):
        texts = [value or "" for value in values]
        if form.record_type == "messages" or form.conversational:
            texts = [content for value in texts for content in _contents(value)]
        shown = {kind for text in texts for kind in damage.find_kinds(text)}
        found[row] = ", ".join(kind for kind in damage.KINDS if kind in shown)
    return found


def _contents(messages: str) -> list[str]:
    """Return the texts of some messages; empty if the field is not a list of messages."""
    try:
        return [content for message in orjson.loads(messages) if isinstance(content := message["content"], str)]
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return []


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.call_function("utf8_length", [column]).fill_null(0), np.int64)


def _count(messages: str | None) -> tuple[float, float, float]:
    """Return the number of messages, answers and characters; NaN if the field is not a list of messages."""
    try:
        parsed = orjson.loads(messages or "")
        roles = [message["role"] for message in parsed]
        contents = [message.get("content") or "" for message in parsed]
        answers = sum(
            role == "assistant" and bool(content.strip() or message.get("tool_calls"))
            for role, content, message in zip(roles, contents, parsed, strict=True)
        )
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return np.nan, np.nan, np.nan
    return len(roles), answers, sum(map(len, contents))


class Compact:
    """Some columns of a complete set, in little memory.

    Args:
        names: of the columns.
        is_hashed: whether only hashes of the values are kept, for expectations about equality.
    """

    def __init__(self, names: Iterable[str], *, is_hashed: bool) -> None:
        self._parts: dict[str, list[pd.Series]] = {name: [] for name in sorted(names)}
        self._is_hashed = is_hashed
        self._known: dict[Any, Any] = {}
        self._rows = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Add the next rows."""
        self._rows += len(frame)
        for name, parts in self._parts.items():
            values = cast(pd.Series, frame[name])
            if self._is_hashed:
                hashes = pd.Series(_hash(values.to_numpy(object)))
                parts.append(hashes.astype("UInt64").mask(values.isna().to_numpy()) if values.hasnans else hashes)
            elif is_numeric_dtype(values):
                parts.append(values)
            else:
                # Equal texts share an object, because labels and groups are few.
                parts.append(pd.Series([self._known.setdefault(value, value) for value in values], dtype=object))

    def frame(self) -> pd.DataFrame:
        """Return all rows, with their numbers as the index."""
        whole = {name: pd.concat(parts, ignore_index=True) for name, parts in self._parts.items()}
        return pd.DataFrame(whole, index=pd.RangeIndex(self._rows))
