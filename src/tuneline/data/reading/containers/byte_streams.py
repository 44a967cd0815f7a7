"""Bytes from one end to the other, and their lines, in bounded memory."""

import codecs
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tuneline.errors import DataError

BLOCK = 1 << 20
MAX_ROW_BYTES = 1_000_000
"""A longer row is a broken file more often than a row."""

_HEAD_OF_A_LONG_LINE = 1000


class RefusedError(DataError):
    """A file is not read; what it is, and the remedy, without its name.

    Args:
        problem: the fact and the remedy.
        line: 1-based, where there is one to name.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line

    def at(self, place: str) -> str:
        """The whole problem, for a person.

        Args:
            place: the file's name.
        """
        return f"{place}: {self}" if self.line is None else f"{place}:{self.line}: {self}"


class Stream:
    """Bytes, to be taken in order.

    Args:
        source: takes a size and gives at most so many bytes, none at the end.
        close: called when no more is wanted.
        seek: goes to an offset, where the source can; else what lies between is read.
    """

    def __init__(
        self, source: Callable[[int], bytes], close: Callable[[], object], seek: Callable[[int], object] | None = None
    ) -> None:
        self._source, self._close, self._seek = source, close, seek
        self.position = 0
        """Offset of the next byte."""

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        pieces: list[bytes] = []
        wanted = size
        while wanted > 0 and (piece := self._source(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.position += len(data)
        return data

    def skip_to(self, offset: int) -> None:
        """Go forward to an offset; beyond the end means to the end."""
        if self._seek is not None:
            self._seek(offset)
            self.position = offset
        while self.position < offset and self.read(min(BLOCK, offset - self.position)):
            pass

    def drain(self) -> int:
        """Read to the end, so that check sums are checked.

        Returns:
            The offset of the end.
        """
        while self.read(BLOCK):
            pass
        return self.position

    def close(self) -> None:
        """Let the file go."""
        self._close()


def transcoded(stream: Stream, encoding: str) -> Stream:
    """The text of a stream as UTF-8.

    Args:
        stream: at its beginning.
        encoding: by Python's name.

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
                    f"is no whole {encoding}: {error}, between the bytes {start} and {stream.position}"
                ) from None
        taken = bytes(ready[:size])
        del ready[:size]
        return taken

    return Stream(read, stream.close)


class Block(NamedTuple):
    """Some whole lines; or a single line that is too long to be kept, of which only the beginning is."""

    offset: int
    data: bytes
    length: int
    """In bytes, with what is not kept."""
    quotes: int
    """Of a line that is not kept: its double quotes."""

    @property
    def is_cut(self) -> bool:
        """Whether it is the beginning of one line that is too long."""
        return self.length > len(self.data)


def blocks(stream: Stream, stop: int | None = None) -> Iterator[Block]:
    r"""The lines of a stream, in blocks of some 1 MB. \n, \r\n and \r end a line; U+2028 does not.

    Args:
        stream: where a line begins.
        stop: offset of the end of a line; None: the end of the stream.

    Yields:
        Blocks that together hold every byte once.
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
    """A line that is not kept, and what follows it in the bytes read."""
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
            return Block(offset, begun[:_HEAD_OF_A_LONG_LINE], length + end, quotes), buffer[end:]
        length += len(data)
        quotes += data.count(b'"')
        data, waiting = waiting + more[:-1], more[-1:]


def count_lines(data: bytes) -> int:
    """How many lines end in `data`."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


UNPACKING_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""What the unpackers of the standard library and pyarrow raise where a file is cut off or corrupt."""
