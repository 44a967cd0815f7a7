"""Parquet and Arrow: rows out of columns, a batch at a time."""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, RefusedError
from tuneline.data.reading.formats.arrow_cells import Problem, is_text, values_of
from tuneline.data.reading.guards import declared_memory
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt

PORTION_BYTES = 32_000_000

_MAX_ROWS_A_BYTE = 1000
_BATCH_ROWS = 1024
_BATCH_ROWS_NESTED = 64
_BATCH_BYTES = 16_000_000
_BROKEN = (pa.ArrowException, OSError, ValueError, struct.error)


class Table(NamedTuple):
    """What a table file holds."""

    columns: tuple[str, ...]
    bounds: tuple[tuple[int, int], ...]
    """Of its portions: first row and the row behind the last."""
    bytes: int
    """Unpacked."""
    warnings: tuple[str, ...]


def scan(file: BinaryIO, form: str) -> Table:
    """Read a table file to its end and find its portions.

    Args:
        file: from which it is read.
        form: parquet or arrow.

    Returns:
        What it holds.

    Raises:
        RefusedError: it is not whole, a bomb, or has a column twice.
    """
    try:
        return _scan_parquet(file) if form == "parquet" else _scan_arrow(file)
    except RefusedError:
        raise
    except _BROKEN as error:
        first_line = str(error).strip().split("\n", 1)[0]
        raise RefusedError(f"is {form} that is not whole ({first_line}): copy or download it again") from None


def _scan_parquet(file: BinaryIO) -> Table:
    size = file.seek(0, 2)
    file.seek(0)
    parquet = _parquet(file)
    metadata = parquet.metadata
    columns, warnings = _columns(parquet.schema_arrow)
    if metadata.num_rows > _MAX_ROWS_A_BYTE * size:
        raise RefusedError(
            f"claims {metadata.num_rows:,} rows in {size:,} bytes, as bombs do; write it anew if you trust it"
        )
    sizes: list[tuple[int, int]] = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            unpacked = column.total_uncompressed_size
            if (
                unpacked > declared_memory.RATIO_FROM
                and unpacked > declared_memory.MAX_RATIO * column.total_compressed_size
            ):
                raise RefusedError(
                    f"unpacks to more than {declared_memory.MAX_RATIO} times its size in the column "
                    f"{column.path_in_schema!r}, as bombs do; write it anew if you trust it"
                )
            first = column.data_page_offset
            if column.dictionary_page_offset:
                first = min(first, column.dictionary_page_offset)
            declared_memory.check_pages(file, first, first + column.total_compressed_size, column.path_in_schema)
        sizes.append((group.num_rows, group.total_byte_size))
        # Every page is unpacked once, so that a file that is broken anywhere is refused before its first row is used.
        rows = _batch_rows(parquet.schema_arrow, group.num_rows, group.total_byte_size)
        for _ in parquet.iter_batches(rows, row_groups=[number], use_threads=False):
            pass
    return Table(columns, _bounds(sizes), sum(size for _, size in sizes), warnings)


def _bounds(sizes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The first row of each portion, and the one after its last.

    Args:
        sizes: rows and bytes of each group or batch, which stays whole.
    """
    bounds: list[tuple[int, int]] = []
    start, end, weight = 0, 0, 0
    for rows, size in sizes:
        if weight and weight + size > PORTION_BYTES:
            bounds.append((start, end))
            start, weight = end, 0
        weight += size
        end += rows
    if end > start:
        bounds.append((start, end))
    return tuple(bounds)


def _parquet(file: BinaryIO) -> pq.ParquetFile:
    schema = pq.read_schema(pa.PythonFile(file, mode="r"))
    file.seek(0)
    # As dictionaries: a value that stands in a million rows lies in memory once.
    texts = [field.name for field in schema if is_text(field.type) or pa.types.is_binary(field.type)]
    source = pa.PythonFile(file, mode="r")
    return pq.ParquetFile(
        source, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )


def _batch_rows(schema: pa.Schema, rows: int, size: int) -> int:
    """How many rows are made into values at once: fewer where they are nested, or large.

    Args:
        schema: of the table.
        rows: of a group.
        size: in bytes, of the group.
    """
    most = _BATCH_ROWS_NESTED if any(pa.types.is_nested(field.type) for field in schema) else _BATCH_ROWS
    return max(1, min(most, _BATCH_BYTES * rows // max(1, size)))


def _scan_arrow(file: BinaryIO) -> Table:
    declared_memory.check_batches(file, _is_arrow_file(file))
    schema, batches = _arrow_batches(file)
    columns, warnings = _columns(schema)
    sizes = [(batch.num_rows, batch.nbytes) for batch in batches]
    file.seek(-8, 2)
    if file.read(8) not in (b"\xff\xff\xff\xff\0\0\0\0",) and not _is_arrow_file(file):
        warnings = (*warnings, "has no end mark, so rows may be missing at its end; write it anew if you are not sure")
    return Table(columns, _bounds(sizes), sum(size for _, size in sizes), warnings)


def _is_arrow_file(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(6) == b"ARROW1"


def _arrow_batches(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    is_file = _is_arrow_file(file)
    file.seek(0)
    source = pa.PythonFile(file, mode="r")
    if not is_file:
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    reader = pa.ipc.open_file(source)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _columns(schema: pa.Schema) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns that are read, and a warning for those that are not."""
    names = list(schema.names)
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise RefusedError(f"the column {', '.join(map(repr, doubled))} stands twice; rename one of them")
    read = tuple(field.name for field in schema if not _holds_bytes(field.type))
    left = [name for name in names if name not in read]
    return read, (f"the columns {', '.join(left)} hold bytes, which are not read",) if left else ()


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether there are bytes in a nested column, as in one of images; at the top some write text as bytes."""
    if isinstance(kind, pa.ExtensionType):
        return _holds_bytes(kind.storage_type)
    if not pa.types.is_nested(kind):
        return False
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    return any(pa.types.is_binary(one) or pa.types.is_large_binary(one) or _holds_bytes(one) for one in inner)


def read(portion: Portion, file: BinaryIO) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: what is read.
        file: from which it is read.

    Yields:
        Rows, whose `line` is the number of the row; dates and decimals are text, as ISO 8601 and Python write them.
    """
    stop = portion.stop if portion.stop is not None else 1 << 62
    for first, batch in _batches(portion, file, stop):
        skipped = max(0, portion.start - first)
        wanted = batch.slice(skipped, min(stop, first + batch.num_rows) - first - skipped)
        names = [name for name in wanted.schema.names if name in portion.columns]
        columns = [values_of(wanted.column(name)) for name in names]
        large = wanted.nbytes > MAX_ROW_BYTES or any(pa.types.is_dictionary(wanted.column(name).type) for name in names)
        for line, row in enumerate(zip(*columns, strict=True), first + skipped + 1):
            problem = next((value for value in row if type(value) is Problem), None)
            if problem is None and large and (size := _size(row)) > MAX_ROW_BYTES:
                problem = Problem("too-long", f"{size:,} bytes in one row")
            if problem is None:
                yield Row(line, -1, dict(zip(names, row, strict=True)))
            else:
                text = " | ".join(str(value)[:200] for value in row if type(value) is not Problem)
                yield Rejected(portion.name, line, -1, problem.reason, problem.detail, excerpt(text))


def _batches(portion: Portion, file: BinaryIO, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of few rows that hold some of the portion's, each with the number of the rows before it."""
    first = 0
    if portion.format == "parquet":
        parquet = _parquet(file)
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
    _, batches = _arrow_batches(file)
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
