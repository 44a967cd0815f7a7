"""Parquet and Arrow files: rows from columns, one batch at a time."""

import datetime
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.data.reading import raw_rows
from tuneline.data.reading.containers.byte_streams import MAX_RATIO, MAX_ROW_BYTES, RATIO_FROM, RefusedError
from tuneline.data.reading.guards import declared_memory
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt
from tuneline.errors import first_line

_MAX_ROWS_PER_BYTE = 1000
_BATCH_ROWS = 1024
_BATCH_ROWS_NESTED = 64
_BATCH_BYTES = 16_000_000
_ARROW_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
_BROKEN = (pa.ArrowException, OSError, ValueError, struct.error)


class Table(NamedTuple):
    """The content of a table file."""

    columns: tuple[str, ...]
    bounds: tuple[tuple[int, int], ...]
    """Of each portion: the first row, and the row after the last."""
    bytes: int
    """Unpacked."""
    warnings: tuple[str, ...]


def scan(file: BinaryIO, form: str) -> Table:
    """Read a table file to its end and find its portions.

    Args:
        file: the file.
        form: parquet or arrow.

    Raises:
        RefusedError: the file is cut off, corrupt or a bomb, or has a column twice.
    """
    try:
        return _scan_parquet(file) if form == "parquet" else _scan_arrow(file)
    except RefusedError:
        raise
    except _BROKEN as error:
        raise RefusedError(f"is not a complete {form} file ({first_line(error)}): copy or download it again") from None


def _scan_parquet(file: BinaryIO) -> Table:
    size = file.seek(0, 2)
    file.seek(0)
    parquet = _open_parquet(file)
    metadata = parquet.metadata
    columns, warnings = _readable_columns(parquet.schema_arrow)
    if metadata.num_rows > _MAX_ROWS_PER_BYTE * size:
        raise RefusedError(
            f"claims {metadata.num_rows:,} rows in {size:,} bytes, as bombs do; write it again if you trust it"
        )
    sizes: list[tuple[int, int]] = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            unpacked = column.total_uncompressed_size
            if unpacked > RATIO_FROM and unpacked > MAX_RATIO * column.total_compressed_size:
                raise RefusedError(
                    f"unpacks to more than {MAX_RATIO} times its size in the column {column.path_in_schema!r}, as "
                    "bombs do; write it again if you trust it"
                )
            first = column.data_page_offset
            if column.dictionary_page_offset:
                first = min(first, column.dictionary_page_offset)
            declared_memory.check_pages(file, first, first + column.total_compressed_size, column.path_in_schema)
        sizes.append((group.num_rows, group.total_byte_size))
        # Every page is unpacked once, so that a corrupt file is refused before its first row is used.
        rows = _batch_rows(parquet.schema_arrow, group.num_rows, group.total_byte_size)
        for _ in parquet.iter_batches(rows, row_groups=[number], use_threads=False):
            pass
    return Table(columns, _group_batches(sizes), sum(size for _, size in sizes), warnings)


def _group_batches(sizes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The first row of each portion, and the row after its last.

    Args:
        sizes: rows and bytes of each row group or batch, which is never split.
    """
    bounds: list[tuple[int, int]] = []
    start, end, weight = 0, 0, 0
    for rows, size in sizes:
        if weight and weight + size > raw_rows.PORTION_BYTES:
            bounds.append((start, end))
            start, weight = end, 0
        weight += size
        end += rows
    if end > start:
        bounds.append((start, end))
    return tuple(bounds)


def _open_parquet(file: BinaryIO) -> pq.ParquetFile:
    schema = pq.read_schema(pa.PythonFile(file, mode="r"))
    file.seek(0)
    # As dictionaries, a text that a million rows share is in memory once.
    texts = [field.name for field in schema if _is_text(field.type) or pa.types.is_binary(field.type)]
    source = pa.PythonFile(file, mode="r")
    return pq.ParquetFile(
        source, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )


def _batch_rows(schema: pa.Schema, rows: int, size: int) -> int:
    """The number of rows that are converted at once: fewer if they are nested or large.

    Args:
        schema: of the table.
        rows: of a row group or batch.
        size: of the group or batch, in bytes.
    """
    most = _BATCH_ROWS_NESTED if any(pa.types.is_nested(field.type) for field in schema) else _BATCH_ROWS
    return max(1, min(most, _BATCH_BYTES * rows // max(1, size)))


def _scan_arrow(file: BinaryIO) -> Table:
    declared_memory.check_batches(file, _is_arrow_file(file))
    schema, batches = _open_arrow(file)
    columns, warnings = _readable_columns(schema)
    sizes = [(batch.num_rows, batch.nbytes) for batch in batches]
    file.seek(-8, 2)
    if file.read(8) != _ARROW_STREAM_END and not _is_arrow_file(file):
        warnings = (*warnings, "has no end mark, so rows may be missing at its end; write it again if you are not sure")
    return Table(columns, _group_batches(sizes), sum(size for _, size in sizes), warnings)


def _is_arrow_file(file: BinaryIO) -> bool:
    """Whether it is an Arrow file; else it is an Arrow stream."""
    file.seek(0)
    return file.read(6) == b"ARROW1"


def _open_arrow(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    is_file = _is_arrow_file(file)
    file.seek(0)
    source = pa.PythonFile(file, mode="r")
    if not is_file:
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    reader = pa.ipc.open_file(source)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _readable_columns(schema: pa.Schema) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns that are read, and a warning about the others."""
    names = list(schema.names)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise RefusedError(f"the column {', '.join(map(repr, repeated))} occurs twice; rename one of them")
    read = tuple(field.name for field in schema if not _has_nested_bytes(field.type))
    left = [name for name in names if name not in read]
    return read, (f"the columns {', '.join(left)} are not read: they hold bytes",) if left else ()


def _has_nested_bytes(data_type: pa.DataType) -> bool:
    """Whether a nested column holds bytes, such as images; a column of plain bytes may be text."""
    if isinstance(data_type, pa.ExtensionType):
        return _has_nested_bytes(data_type.storage_type)
    if not pa.types.is_nested(data_type):
        return False
    inner = [data_type.field(at).type for at in range(data_type.num_fields)]
    return any(pa.types.is_binary(t) or pa.types.is_large_binary(t) or _has_nested_bytes(t) for t in inner)


def read(portion: Portion, file: BinaryIO) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: the portion to read.
        file: the file.

    Yields:
        Rows, whose `line` is the number of the row, and rejected rows. Dates and decimals are text, as ISO 8601 and
        Python write them.
    """
    stop = portion.stop if portion.stop is not None else 1 << 62
    for first, batch in _read_batches(portion, file, stop):
        skipped = max(0, portion.start - first)
        wanted = batch.slice(skipped, min(stop, first + batch.num_rows) - first - skipped)
        names = [name for name in wanted.schema.names if name in portion.columns]
        columns = [_json_values(wanted.column(name)) for name in names]
        large = wanted.nbytes > MAX_ROW_BYTES or any(pa.types.is_dictionary(wanted.column(name).type) for name in names)
        for line, row in enumerate(zip(*columns, strict=True), first + skipped + 1):
            problem = next((value for value in row if type(value) is _Problem), None)
            if problem is None and large and (size := _size(row)) > MAX_ROW_BYTES:
                problem = _Problem("too-long", f"{size:,} bytes in one row")
            if problem is None:
                yield Row(line, -1, dict(zip(names, row, strict=True)))
            else:
                text = " | ".join(str(value)[:200] for value in row if type(value) is not _Problem)
                yield Rejected(portion.name, line, -1, problem.reason, problem.detail, excerpt(text))


def _read_batches(portion: Portion, file: BinaryIO, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Small batches that contain rows of the portion, each with the number of rows before it."""
    first = 0
    if portion.format == "parquet":
        parquet = _open_parquet(file)
        metadata = parquet.metadata
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            if first < stop and first + rows > portion.start:
                at = first
                size = _batch_rows(parquet.schema_arrow, rows, metadata.row_group(number).total_byte_size)
                for batch in parquet.iter_batches(size, row_groups=[number], use_threads=False):
                    yield at, batch
                    at += batch.num_rows
            first += rows
        return
    _, batches = _open_arrow(file)
    for batch in batches:
        if first >= stop:
            return
        if first + batch.num_rows > portion.start:
            size = _batch_rows(batch.schema, batch.num_rows, batch.nbytes)
            for at in range(0, batch.num_rows, size):
                if first + at < stop and first + at + size > portion.start:
                    yield first + at, batch.slice(at, size)
        first += batch.num_rows


def _size(row: tuple[Any, ...]) -> int:
    return sum(
        len(value.encode()) if type(value) is str else len(orjson.dumps(value, default=str))
        for value in row
        if type(value) is str or type(value) is list or type(value) is dict
    )


class _Problem(NamedTuple):
    """The reason why a cell cannot be used; it takes the place of the value."""

    reason: str
    detail: str


class _NotJsonError(Exception):
    """A part of a nested value is not a JSON value; the arguments are the reason code and the detail."""


def _is_text(data_type: pa.DataType) -> bool:
    return pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type)


def _json_values(column: pa.Array) -> list[Any]:
    """The values of a column as JSON values; a _Problem for each value that cannot be used."""
    data_type = column.type
    if pa.types.is_dictionary(data_type):
        return _dictionary_values(column)
    if _is_text(data_type) or pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type):
        return _text_values(column)
    if pa.types.is_integer(data_type) or pa.types.is_boolean(data_type) or pa.types.is_null(data_type):
        return column.to_pylist()
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):
        # Text that is not UTF-8, or a date before the year 1 or after 9999.
        values = [_value_or_problem(scalar.as_py) for scalar in column]
    return [_json_or_problem(value) for value in values]


def _value_or_problem(value: Callable[[], Any]) -> Any:
    try:
        return value()
    except UnicodeDecodeError as error:
        return _Problem("encoding", f"0x{error.object[error.start]:02x} at byte {error.start} is not utf-8")
    except (ValueError, OverflowError) as error:
        return _Problem("not-finite", f"an impossible date: {error}")


def _dictionary_values(column: pa.DictionaryArray) -> list[Any]:
    """The values of a dictionary column; a value that several rows share is converted once."""
    indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(indices, return_inverse=True)
    is_null = used < 0
    values = [None] * int(is_null.sum()) + _json_values(column.dictionary.take(pa.array(used[~is_null])))
    return [values[place] for place in places.tolist()]


def _text_values(column: pa.Array) -> list[Any]:
    if _is_text(column.type):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            column = column.cast(pa.large_binary())
    return [value if value is None else _value_or_problem(value.decode) for value in column.to_pylist()]


def _json_or_problem(value: Any) -> Any:
    try:
        return _to_json(value)
    except _NotJsonError as problem:
        return _Problem(*problem.args)


def _to_json(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool, _Problem):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise _NotJsonError("not-finite", f"{value} is not a JSON number")
        return value
    if type(value) is dict:
        return {key: _to_json(inner) for key, inner in value.items()}
    if type(value) is list:
        # pyarrow gives a map as a list of pairs.
        if value and type(value[0]) is tuple:
            return {str(key): _to_json(inner) for key, inner in value}
        return [_to_json(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
