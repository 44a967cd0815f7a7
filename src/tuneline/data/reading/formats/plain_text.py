"""Plain text: one row per line, or one document per file."""

from collections.abc import Iterator

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Stream, read_blocks
from tuneline.data.reading.raw_rows import (
    Portion,
    Rejected,
    Row,
    excerpt,
    new_row,
    reject_encoding,
    reject_too_long,
    reject_zero_byte,
)

MAX_DOCUMENT_BYTES = 16_000_000
"""Of a document that is one row."""


def read_lines(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion in which each line is a row; empty lines are skipped.

    Args:
        portion: the portion to read.
        stream: at the start of the portion.
        encoding: of the stream.

    Yields:
        Rows with one column `text`, and rejected rows.
    """
    line = portion.first_line
    is_utf8 = encoding == "utf-8"
    for block in read_blocks(stream, portion.stop):
        if block.is_cut:
            yield reject_too_long(portion, line, block.offset, block.length, block.data, encoding)
            line += 1
            continue
        offset = block.offset
        if is_utf8 and (texts := _regular_lines(block.data)) is not None:
            # Splitting the whole block is three times as fast as line by line.
            for data, text in zip(block.data.split(b"\n"), texts, strict=True):
                if text and not text.isspace():
                    yield new_row(Row, (line, offset, {"text": text}))
                offset += len(data) + 1
                line += 1
            line -= block.data.endswith(b"\n")
            continue
        odd = b"\0" in block.data or block.length > MAX_ROW_BYTES
        for data in block.data.splitlines(keepends=True):
            try:
                text = data.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError as error:
                yield reject_encoding(portion, line, offset, data, error)
            else:
                if odd and len(data) > MAX_ROW_BYTES:
                    yield reject_too_long(portion, line, offset, len(data), data, encoding)
                elif odd and "\0" in text:
                    yield reject_zero_byte(portion, line, offset, text)
                elif text and not text.isspace():
                    yield Row(line, offset, {"text": text})
            offset += len(data)
            line += 1


def _regular_lines(data: bytes) -> list[str] | None:
    r"""The lines of a block; None if it has \r, zero bytes, bytes that are not UTF-8, or a long line."""
    if b"\r" in data or b"\0" in data:
        return None
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if 4 * max(map(len, lines)) <= MAX_ROW_BYTES else None


def read_document(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The row of a file that is one document.

    Args:
        portion: the file.
        stream: at its start.
        encoding: of the stream.

    Yields:
        One row with the column `text`, or one rejected row; nothing if the file has only white space.
    """
    data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        start = data[:1000].decode(encoding, "replace")
        detail = f"more than {MAX_DOCUMENT_BYTES:,} bytes in one document; split it"
        yield Rejected(portion.name, 1, portion.start, "too-long", detail, excerpt(start))
        return
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        yield reject_encoding(portion, 1, portion.start, data, error)
        return
    if "\0" in text:
        yield reject_zero_byte(portion, 1, portion.start, text)
    elif text and not text.isspace():
        yield Row(1, portion.start, {"text": text.replace("\r\n", "\n").replace("\r", "\n")})
