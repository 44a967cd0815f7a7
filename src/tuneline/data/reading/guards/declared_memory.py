"""Refusing Parquet and Arrow files that would take too much memory, by the sizes in their headers.

pyarrow unpacks a whole page of Parquet, or a whole batch of Arrow, at once and does not show its size before. So this
module reads the headers itself: the page headers of Parquet (Thrift compact protocol) and the messages of Arrow
(flatbuffers).
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from tuneline.data.reading.containers.byte_streams import MAX_RATIO, RATIO_FROM, RefusedError

MAX_PAGE_BYTES = 128 << 20
"""Of one page of Parquet, unpacked; most writers make pages of 1 MB, DuckDB up to 100 MB."""
MAX_BATCH_BYTES = 512_000_000
"""Of one batch of Arrow, unpacked."""

_HEADER_BYTES = 1 << 10
_MAX_HEADER_BYTES = 16 << 20
_CONTINUED = 0xFFFFFFFF
_DICTIONARY, _BATCH = 2, 3


def check_pages(file: BinaryIO, start: int, stop: int, column: str) -> None:
    """Check the sizes of the pages of a Parquet column in one row group.

    Args:
        file: the Parquet file.
        start: offset of the first page.
        stop: offset after the last page.
        column: the name of the column.

    Raises:
        RefusedError: a page is larger than MAX_PAGE_BYTES when unpacked.
        ValueError: a page header is broken.
    """
    while start < stop:
        file.seek(start)
        head = file.read(_HEADER_BYTES)
        while True:
            try:
                fields, length = _thrift_struct(head, 0)
                break
            except IndexError:
                more = file.read(len(head)) if len(head) < _MAX_HEADER_BYTES else b""
                if not more:
                    raise ValueError("a page has no header") from None
                head += more
        unpacked, packed = fields.get(2, 0), fields.get(3, 0)
        if unpacked > MAX_PAGE_BYTES:
            raise RefusedError(
                f"holds a page of {unpacked:,} bytes in the column {column!r}, which takes too much memory at once; "
                "write it again, as `pyarrow.parquet.write_table` does by default"
            )
        if packed < 0:
            raise ValueError("a page has a negative size")
        start += length + packed


def _thrift_struct(data: bytes, at: int) -> tuple[dict[int, int], int]:
    """The integer fields of a struct by number, and the offset after it; IndexError if `data` ends before it does."""
    fields: dict[int, int] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        wire_type = head & 15
        if head >> 4:
            number += head >> 4
        else:
            value, at = _varint(data, at)
            number = _signed(value)
        if wire_type in (4, 5, 6):
            value, at = _varint(data, at)
            fields[number] = _signed(value)
        else:
            at = _skip_value(data, at, wire_type)
    return fields, at + 1


def _skip_value(data: bytes, at: int, wire_type: int) -> int:
    """The offset after a value."""
    if wire_type in (1, 2):
        return at
    if wire_type in (3, 7):
        return at + (1 if wire_type == 3 else 8)
    if wire_type in (4, 5, 6):
        return _varint(data, at)[1]
    if wire_type == 8:
        length, at = _varint(data, at)
        return at + length
    if wire_type == 12:
        return _thrift_struct(data, at)[1]
    # Lists and maps: page headers do not have them.
    raise ValueError("a page has an unknown header")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


class _Message(NamedTuple):
    """An Arrow message."""

    kind: int
    buffers: list[tuple[int, int]]
    """Offset in the body, and length, in bytes."""
    is_packed: bool
    body_length: int


def check_batches(file: BinaryIO, is_file: bool) -> None:
    """Check the sizes of the batches of an Arrow file or stream.

    Args:
        file: the Arrow file or stream.
        is_file: whether it is an Arrow file, which has a footer.

    Raises:
        RefusedError: a batch is larger than MAX_BATCH_BYTES when unpacked, or a bomb.
        ValueError, struct.error: a header is broken.
    """
    for at in _footer_offsets(file) if is_file else [0]:
        while (found := _message(file, at)) is not None:
            message, body = found
            if message.kind in (_DICTIONARY, _BATCH):
                _check_batch(file, message, body)
            if is_file:
                break
            at = body + message.body_length


def _check_batch(file: BinaryIO, message: _Message, body: int) -> None:
    unpacked = message.body_length
    if message.is_packed:
        unpacked = 0
        for offset, length in message.buffers:
            if length >= 8:
                file.seek(body + offset)
                (size,) = struct.unpack("<q", file.read(8))
                unpacked += length if size < 0 else size
    if unpacked > MAX_BATCH_BYTES:
        raise RefusedError(
            f"holds a batch of {unpacked:,} bytes, which takes too much memory at once; write it in smaller batches, "
            "or as Parquet"
        )
    if unpacked > RATIO_FROM and unpacked > MAX_RATIO * message.body_length:
        raise RefusedError(
            f"unpacks to more than {MAX_RATIO} times its size in one batch, as bombs do; write it again if you trust it"
        )


def _footer_offsets(file: BinaryIO) -> Iterator[int]:
    """The offsets of the messages in the footer of an Arrow file."""
    end = file.seek(0, 2) - 10
    file.seek(end)
    (length,) = struct.unpack("<i", file.read(4))
    if not 0 < length <= end:
        raise ValueError("it has no footer")
    file.seek(end - length)
    footer = file.read(length)
    root = _at(footer, "<I", 0)
    for field in (2, 3):
        if where := _field(footer, root, field):
            vector = where + _at(footer, "<I", where)
            for number in range(_at(footer, "<I", vector)):
                yield _at(footer, "<q", vector + 4 + 24 * number)


def _message(file: BinaryIO, at: int) -> tuple[_Message, int] | None:
    """The message at an offset, and the offset of its body; None at the end of the stream."""
    file.seek(at)
    prefix = file.read(8)
    if len(prefix) < 8:
        return None
    first, second = struct.unpack("<Ii", prefix)
    # Versions before Arrow 0.15 wrote no mark before the length.
    length, start = (second, at + 8) if first == _CONTINUED else (first, at + 4)
    if length == 0:
        return None
    if not 0 < length <= _MAX_HEADER_BYTES:
        raise ValueError("a message has no header")
    file.seek(start)
    data = file.read(length)
    root = _at(data, "<I", 0)
    kind = data[where] if (where := _field(data, root, 1)) else 0
    body_length = _at(data, "<q", where) if (where := _field(data, root, 3)) else 0
    if body_length < 0:
        raise ValueError("a message has a negative size")
    table = where + _at(data, "<I", where) if (where := _field(data, root, 2)) else 0
    if kind == _DICTIONARY and table:
        table = where + _at(data, "<I", where) if (where := _field(data, table, 1)) else 0
    buffers: list[tuple[int, int]] = []
    is_packed = False
    if kind in (_DICTIONARY, _BATCH) and table:
        is_packed = _field(data, table, 3) != 0
        if where := _field(data, table, 2):
            vector = where + _at(data, "<I", where)
            for number in range(_at(data, "<I", vector)):
                position = vector + 4 + 16 * number
                buffers.append((_at(data, "<q", position), _at(data, "<q", position + 8)))
    return _Message(kind, buffers, is_packed, body_length), start + length


def _field(data: bytes, table: int, number: int) -> int:
    """The offset of a field in a flatbuffers table; 0 if the table does not have the field."""
    vtable = table - _at(data, "<i", table)
    position = 4 + 2 * number
    offset = _at(data, "<H", vtable + position) if position < _at(data, "<H", vtable) else 0
    return table + offset if offset else 0


def _at(data: bytes, form: str, position: int) -> Any:
    if position < 0:
        raise ValueError("a header points before its beginning")
    return struct.unpack_from(form, data, position)[0]
