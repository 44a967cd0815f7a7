"""Plain text: one row per line, or one document per file."""

from collections.abc import Iterator

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Block, Stream, blocks
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt, new_row

MAX_DOCUMENT_BYTES = 16_000_000
"""Of a document that is one row."""


def read_lines(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion of plain text; blank lines lie between them.

    Args:
        portion: what is read.
        stream: at its start.
        encoding: of the stream.

    Yields:
        Rows with one column `text`, and what is set aside.
    """
    line = portion.first_line
    is_utf8 = encoding == "utf-8"
    for block in blocks(stream, portion.stop):
        if block.is_cut:
            yield too_long(portion, line, block, encoding)
            line += 1
            continue
        offset = block.offset
        if is_utf8 and (texts := _clean(block.data)) is not None:
            # Split at once: three times as fast as line by line.
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
                yield wrong_encoding(portion, line, offset, data, error)
            else:
                if odd and len(data) > MAX_ROW_BYTES:
                    yield too_long(portion, line, Block(offset, data[:1000], len(data), 0), encoding)
                elif odd and "\0" in text:
                    yield nul_byte(portion, line, offset, text)
                elif text and not text.isspace():
                    yield Row(line, offset, {"text": text})
            offset += len(data)
            line += 1


def _clean(data: bytes) -> list[str] | None:
    """The lines of a block about which there is nothing odd: their ends, their bytes, their length."""
    if b"\r" in data or b"\0" in data:
        return None
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if 4 * max(map(len, lines)) <= MAX_ROW_BYTES else None


def read_document(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """A file that is one row.

    Args:
        portion: the file.
        stream: at its start.
        encoding: of the stream.

    Yields:
        One row with the column `text`, or what is set aside; nothing of a blank file.
    """
    data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        begin = data[:1000].decode(encoding, "replace")
        detail = f"more than {MAX_DOCUMENT_BYTES:,} bytes in one document; split it"
        yield Rejected(portion.name, 1, portion.start, "too-long", detail, excerpt(begin))
        return
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        yield wrong_encoding(portion, 1, portion.start, data, error)
        return
    if "\0" in text:
        yield nul_byte(portion, 1, portion.start, text)
    elif text and not text.isspace():
        yield Row(1, portion.start, {"text": text.replace("\r\n", "\n").replace("\r", "\n")})


def too_long(portion: Portion, line: int, block: Block, encoding: str) -> Rejected:
    """A row of which only the beginning was kept."""
    begin = block.data[:1000].decode(encoding, "replace")
    return Rejected(portion.name, line, block.offset, "too-long", f"{block.length:,} bytes in one row", excerpt(begin))


def wrong_encoding(portion: Portion, line: int, offset: int, data: bytes, error: UnicodeDecodeError) -> Rejected:
    """A row that is not in the encoding of its file."""
    detail = f"0x{data[error.start]:02x} at byte {error.start} is no {portion.encoding}"
    text = data[:1000].decode(error.encoding, "backslashreplace")
    return Rejected(portion.name, line, offset, "encoding", detail, excerpt(text))


def nul_byte(portion: Portion, line: int, offset: int, text: str) -> Rejected:
    """A row with a byte of zero."""
    detail = f"a byte of zero at character {text.index(chr(0))}"
    return Rejected(portion.name, line, offset, "nul-byte", detail, excerpt(text.replace("\0", "\\0")))
