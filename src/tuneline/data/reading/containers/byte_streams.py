"""Byte streams that are read once from start to end, and their lines, in bounded memory."""

import codecs
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tuneline.errors import DataError

BLOCK = 1 << 20
HEAD_BYTES = 1 << 20
"""Bytes at the start of a file by which its format is detected."""
MAX_ROW_BYTES = 1_000_000
"""A longer row is in most cases a broken file."""
MAX_RATIO = 200
"""Unpacked bytes for one packed byte, from RATIO_FROM on; text has 3 to 20."""
RATIO_FROM = 16_000_000
"""Unpacked bytes."""
_KEPT_OF_A_LONG_LINE = 1000

UNPACKING_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""The errors of the standard library and pyarrow when a packed file is cut off or corrupt."""


class RefusedError(DataError):
    """A file cannot be read; the message has the reason and the remedy, without the name of the file.

    Args:
        problem: the reason and the remedy.
        line: the line of the problem, from 1; None if it has no line.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line

    def describe(self, path: str) -> str:
        """The message with the path and the line in front."""
        return f"{path}: {self}" if self.line is None else f"{path}:{self.line}: {self}"


class Stream:
    """Bytes that are read in order.

    Args:
        source: takes a size and returns at most so many bytes; empty at the end.
        close: called when the stream is closed.
        seek: goes to an offset; None: the bytes before it are read and dropped.
    """

    def __init__(
        self, source: Callable[[int], bytes], close: Callable[[], object], seek: Callable[[int], object] | None = None
    ) -> None:
        self._source, self._close, self._seek = source, close, seek
        self.position = 0
        """Offset of the next byte."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        parts: list[bytes] = []
        wanted = size
        while wanted > 0 and (part := self._source(wanted)):
            parts.append(part)
            wanted -= len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.position += len(data)
        return data

    def skip_to(self, offset: int) -> None:
        """Go forward to an offset, or to the end if the stream is shorter."""
        if self._seek is not None:
            self._seek(offset)
            self.position = offset
        while self.position < offset and self.read(min(BLOCK, offset - self.position)):
            pass

    def drain(self) -> int:
        """Read to the end, so that checksums are checked; returns the offset of the end."""
        while self.read(BLOCK):
            pass
        return self.position

    def close(self) -> None:
        """Close the source."""
        self._close()


def transcode(stream: Stream, encoding: str) -> Stream:
    """The text of a stream as UTF-8.

    Args:
        stream: at its start.
        encoding: the encoding of the stream, by Python's name.

    Returns:
        A stream whose offsets are those of the UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    ready = bytearray()
    ended = False

    def read(size: int) -> bytes:
        nonlocal ended
        while not ready and not ended:
            start = stream.position
            data = stream.read(BLOCK)
            ended = not data
            try:
                ready.extend(decoder.decode(data, final=ended).encode())
            except UnicodeError as error:
                raise RefusedError(
                    f"is not valid {encoding}: {error}, between the bytes {start} and {stream.position}"
                ) from None
        taken = bytes(ready[:size])
        del ready[:size]
        return taken

    return Stream(read, stream.close)


class Block(NamedTuple):
    """Some complete lines; or one line that is too long, of which `data` is only the start."""

    offset: int
    data: bytes
    length: int
    """In bytes, with those that are not in `data`."""
    quotes: int
    """Double quotes in a line that is too long."""

    @property
    def is_cut(self) -> bool:
        """Whether the block is the start of one line that is too long."""
        return self.length > len(self.data)


def read_blocks(stream: Stream, stop: int | None = None) -> Iterator[Block]:
    r"""The lines of a stream, in blocks of about 1 MB. \n, \r\n and \r end a line; U+2028 does not.

    Args:
        stream: at the start of a line.
        stop: offset of the end of a line; None: the end of the stream.

    Yields:
        Blocks that together have every byte once.
    """
    rest = b""
    offset = stream.position
    while True:
        wanted = BLOCK if stop is None else min(BLOCK, stop - stream.position)
        data = stream.read(wanted) if wanted > 0 else b""
        if not data:
            if rest:
                yield Block(offset, rest, len(rest), 0)
            return
        buffer = rest + data
        # A \r at the very end may be the first half of \r\n.
        cut = buffer.rfind(b"\n") + 1 or buffer.rfind(b"\r", 0, len(buffer) - 1) + 1
        rest = buffer[cut:]
        if cut:
            yield Block(offset, buffer[:cut] if rest else buffer, cut, 0)
            offset += cut
        elif len(rest) > 2 * MAX_ROW_BYTES:
            block, rest = _long_line(stream, stop, offset, rest)
            yield block
            offset += block.length


def _long_line(stream: Stream, stop: int | None, offset: int, begun: bytes) -> tuple[Block, bytes]:
    """The block of a line that is too long, and the bytes after it that were read already."""
    length, quotes = 0, 0
    # The last byte may be the first half of \r\n.
    data, waiting = begun[:-1], begun[-1:]
    while True:
        wanted = BLOCK if stop is None else min(BLOCK, stop - stream.position)
        more = stream.read(wanted) if wanted > 0 else b""
        ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
        if ends or not more:
            if not more:
                data += waiting
                waiting = b""
                ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
            buffer = data + waiting + more
            end = min(ends) + 1 if ends else len(buffer)
            if buffer[end - 1 : end + 1] == b"\r\n":
                end += 1
            quotes += buffer.count(b'"', 0, end)
            return Block(offset, begun[:_KEPT_OF_A_LONG_LINE], length + end, quotes), buffer[end:]
        length += len(data)
        quotes += data.count(b'"')
        data, waiting = waiting + more[:-1], more[-1:]


def count_lines(data: bytes) -> int:
    """The number of line ends in `data`."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines
