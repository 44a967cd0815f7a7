"""CSV and TSV with a header; cells stay text: "NA", "null" and "00123" are what they say."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Block, RefusedError, Stream, blocks
from tuneline.data.reading.formats import plain_text
from tuneline.data.reading.formats.sniff import best_delimiter
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt, new_row

PORTION_BYTES = 32_000_000

_SNIFFED_LINES = 50


class Record(NamedTuple):
    """The cells of a row, or what is wrong with it."""

    line: int
    offset: int
    end: int
    """Offset behind it."""
    next_line: int
    cells: list[str]
    problem: Rejected | None


def delimiter_of(head: bytes, encoding: str) -> str:
    """The sign between the cells.

    Args:
        head: the beginning of the file.
        encoding: of it.
    """
    lines = [line.decode(encoding, "replace") for line in head.splitlines(keepends=True)]
    return best_delimiter([line for line in lines if line.strip()][:_SNIFFED_LINES])[0]


def _header(cells: list[str], line: int) -> tuple[str, ...]:
    """The names of the columns."""
    doubled = sorted(cell for cell, count in Counter(cells).items() if count > 1)
    if doubled:
        raise RefusedError(f"the column {', '.join(map(repr, doubled))} stands twice; rename one of them", line)
    return tuple(cells)


def scan(
    portion: Portion, stream: Stream, encoding: str, see: Callable[[bytes], None]
) -> tuple[tuple[str, ...], list[tuple[int, int, int]]]:
    """The header of a file, and where its portions begin and end; it is read to its end.

    Args:
        portion: the whole file.
        stream: at its start.
        encoding: of the stream.
        see: is shown all bytes, in whole lines.

    Returns:
        The columns; and start, stop and first line of each portion.

    Raises:
        RefusedError: a column stands twice, or a quote swallows lines.
    """
    columns: tuple[str, ...] = ()
    bounds: list[tuple[int, int, int]] = []
    start, end, line = -1, 0, 1
    for record in records(portion, stream, encoding, see):
        if not columns:
            if record.problem is not None:
                raise RefusedError(
                    f"the header cannot be read: {record.problem.reason}: {record.problem.detail}", record.line
                )
            columns = _header(record.cells, record.line)
            continue
        if start >= 0 and record.end - start > PORTION_BYTES:
            bounds.append((start, end, line))
            start = -1
        if start < 0:
            start, line = record.offset, record.line
        end = record.end
    if start >= 0:
        bounds.append((start, end, line))
    return columns, bounds


def read(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: what is read; it begins behind the header.
        stream: at its start.
        encoding: of the stream.

    Yields:
        Rows, and what is set aside; blank lines lie between them.
    """
    columns = portion.columns
    width = len(columns)
    for record in records(portion, stream, encoding):
        if record.problem is not None:
            yield record.problem
        elif len(record.cells) != width:
            detail = f"{len(record.cells)} cells under {width} columns"
            text = excerpt(portion.delimiter.join(record.cells))
            yield Rejected(portion.name, record.line, record.offset, "columns", detail, text)
        else:
            yield new_row(Row, (record.line, record.offset, dict(zip(columns, record.cells, strict=True))))


class _Lines:
    """The lines of a stream as the csv module takes them, with the places where they begin."""

    def __init__(self, portion: Portion, stream: Stream, encoding: str, see: Callable[[bytes], None] | None) -> None:
        self._encoding, self._see = encoding, see
        self._blocks = blocks(stream, portion.stop)
        self._ready: Iterator[bytes] = iter(())
        self._begun: bytes | None = None
        self.line = portion.first_line
        """Number of the next line."""
        self.offset = stream.position
        """Of the next line."""
        self.taken = 0
        """Lines of the present record."""
        self.cut: Block | None = None
        """A line that is too long to be given to the csv module."""
        self.doubtful = False
        """Whether a line of the present record has bytes that may be wrong."""

    def take(self) -> bytes | None:
        """The next line; None at the end, and before a line that is too long."""
        while (data := next(self._ready, None)) is None:
            block = next(self._blocks, None)
            if block is None:
                return None
            if block.is_cut:
                if self.taken or block.quotes % 2:
                    raise RefusedError(_swallowed("a quote is not closed in a line that is too long"), self.line)
                self.cut = block
                return None
            if self._see is not None:
                self._see(block.data)
            self._ready = iter(block.data.splitlines(keepends=True))
        self.taken += 1
        self.line += 1
        self.offset += len(data)
        return data

    def decode(self, data: bytes) -> str:
        """The text of a line; what is wrong with it is looked for later."""
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            self.doubtful = True
            return data.decode(self._encoding, "surrogateescape")
        if "\0" in text:
            self.doubtful = True
        return text

    def begin_with(self, data: bytes) -> None:
        """Give the csv module a line that was taken already."""
        self._begun = data

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        data, self._begun = self._begun or self.take(), None
        if data is None:
            raise StopIteration
        return self.decode(data)


def _swallowed(problem: str) -> str:
    # The lines that a stray quote swallowed are rows that nobody would count.
    return f"{problem}; a quote that opens there is not closed, or not doubled"


def records(
    portion: Portion, stream: Stream, encoding: str, see: Callable[[bytes], None] | None = None
) -> Iterator[Record]:
    """The records of a stream, the header among them.

    Args:
        portion: what is read.
        stream: at its start.
        encoding: of the stream.
        see: is shown all bytes, in whole lines.

    Yields:
        Records; blank lines lie between them.

    Raises:
        RefusedError: a quote swallows lines.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(portion, stream, encoding, see)
    delimiter = portion.delimiter
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line, offset = lines.line, lines.offset
        lines.taken = 0
        problem = ""
        data = lines.take()
        if data is None:
            if lines.cut is None:
                return
            cut, lines.cut = lines.cut, None
            lines.line, lines.offset = line + 1, offset + cut.length
            yield Record(line, offset, lines.offset, lines.line, [], plain_text.too_long(portion, line, cut, encoding))
            continue
        if b'"' not in data:
            # Where nothing is quoted the csv module would do the same, at a third of the speed.
            text = lines.decode(data).rstrip("\r\n")
            cells = text.split(delimiter) if text else []
        else:
            lines.begin_with(data)
            try:
                cells = next(reader)
            except StopIteration:
                # The end of the file, or a line that is too long, in the middle of a quoted cell.
                raise RefusedError(_swallowed(f"the end of the file from line {line}"), line) from None
            except csv.Error as error:
                cells, problem = [], str(error)
        if not cells and not problem:
            continue
        if problem and lines.taken > 1:
            raise RefusedError(_swallowed(f"{problem}, from line {line} to {lines.line - 1}"), line)
        rejected = None
        if problem or lines.doubtful or lines.offset - offset > MAX_ROW_BYTES:
            rejected = _rejected(portion, line, offset, lines, problem, cells, encoding)
            lines.doubtful = False
        yield Record(line, offset, lines.offset, lines.line, cells, rejected)


def _rejected(
    portion: Portion, line: int, offset: int, lines: _Lines, problem: str, cells: list[str], encoding: str
) -> Rejected | None:
    """What is wrong with a record, where something is."""
    text = portion.delimiter.join(cells)
    length = lines.offset - offset
    if length > MAX_ROW_BYTES or "field limit" in problem:
        return plain_text.too_long(
            portion, line, Block(offset, text[:1000].encode("utf-8", "replace"), length, 0), "utf-8"
        )
    if problem:
        return Rejected(portion.name, line, offset, "csv", problem, excerpt(text))
    data = text.encode(encoding, "surrogateescape")
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return plain_text.wrong_encoding(portion, line, offset, data, error)
    return plain_text.nul_byte(portion, line, offset, text) if "\0" in text else None
