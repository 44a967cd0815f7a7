"""CSV and TSV with a header; cells stay text, also "NA", "null" and "00123"."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Block, RefusedError, Stream, read_blocks
from tuneline.data.reading.formats.sniff import best_delimiter
from tuneline.data.reading.raw_rows import (
    Portion,
    Rejected,
    Row,
    excerpt,
    group_rows,
    new_row,
    reject_encoding,
    reject_too_long,
    reject_zero_byte,
)

_SNIFFED_LINES = 50


class _Record(NamedTuple):
    """The cells of a row, or the problem with it."""

    line: int
    offset: int
    end: int
    """Offset after its last byte."""
    cells: list[str]
    problem: Rejected | None


def detect_delimiter(head: bytes, encoding: str) -> str:
    """The character between the cells: a comma, a semicolon, a tab or a vertical bar.

    Args:
        head: the first bytes of the file.
        encoding: of the file.
    """
    lines = [line.decode(encoding, "replace") for line in head.splitlines(keepends=True)]
    return best_delimiter([line for line in lines if line.strip()][:_SNIFFED_LINES])[0]


def _read_header(record: _Record) -> tuple[str, ...]:
    """The names of the columns."""
    if record.problem is not None:
        raise RefusedError(f"the header cannot be read: {record.problem.reason}: {record.problem.detail}", record.line)
    repeated = sorted(cell for cell, count in Counter(record.cells).items() if count > 1)
    if repeated:
        raise RefusedError(f"the column {', '.join(map(repr, repeated))} occurs twice; rename one of them", record.line)
    return tuple(record.cells)


def scan(
    portion: Portion, stream: Stream, encoding: str, add_lines: Callable[[bytes], None]
) -> tuple[tuple[str, ...], list[tuple[int, int, int]]]:
    """The header of a file, and the bounds of its portions; the file is read to its end.

    Args:
        portion: the whole file.
        stream: at its start.
        encoding: of the stream.
        add_lines: called with all bytes, in complete lines.

    Returns:
        The columns; and start, stop and first line of each portion.

    Raises:
        RefusedError: a column occurs twice, or a quote is not closed.
    """
    records = _records(portion, stream, encoding, add_lines)
    header = next(records, None)
    if header is None:
        return (), []
    columns = _read_header(header)
    return columns, list(group_rows((record.offset, record.end, record.line) for record in records))


def read(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: the portion to read, which starts after the header.
        stream: at the start of the portion.
        encoding: of the stream.

    Yields:
        Rows and rejected rows; empty lines are skipped.
    """
    columns = portion.columns
    width = len(columns)
    for record in _records(portion, stream, encoding):
        if record.problem is not None:
            yield record.problem
        elif len(record.cells) != width:
            detail = f"{len(record.cells)} cells under {width} columns"
            text = excerpt(portion.delimiter.join(record.cells))
            yield Rejected(portion.name, record.line, record.offset, "columns", detail, text)
        else:
            yield new_row(Row, (record.line, record.offset, dict(zip(columns, record.cells, strict=True))))


class _Lines:
    """The lines of a stream as an iterator for the csv module, with their numbers and offsets."""

    def __init__(
        self, portion: Portion, stream: Stream, encoding: str, add_lines: Callable[[bytes], None] | None
    ) -> None:
        self._encoding, self._add_lines = encoding, add_lines
        self._blocks = read_blocks(stream, portion.stop)
        self._ready: Iterator[bytes] = iter(())
        self._begun: bytes | None = None
        self.line = portion.first_line
        """Number of the next line."""
        self.offset = stream.position
        """Of the next line."""
        self.taken = 0
        """Number of lines of the current record."""
        self.cut: Block | None = None
        """A line that is too long for the csv module."""
        self.doubtful = False
        """Whether the current record has a line with zero bytes, or with bytes that are not in the encoding."""

    def take(self) -> bytes | None:
        """The next line; None at the end, and before a line that is too long, which is then `cut`."""
        while (data := next(self._ready, None)) is None:
            block = next(self._blocks, None)
            if block is None:
                return None
            if block.is_cut:
                if self.taken or block.quotes % 2:
                    raise RefusedError(_unclosed("a quote is not closed in a line that is too long"), self.line)
                self.cut = block
                return None
            if self._add_lines is not None:
                self._add_lines(block.data)
            self._ready = iter(block.data.splitlines(keepends=True))
        self.taken += 1
        self.line += 1
        self.offset += len(data)
        return data

    def decode(self, data: bytes) -> str:
        """The text of a line; `doubtful` is set if the record must be checked."""
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            self.doubtful = True
            return data.decode(self._encoding, "surrogateescape")
        if "\0" in text:
            self.doubtful = True
        return text

    def begin_with(self, data: bytes) -> None:
        """Give the csv module a line that was taken already as the first line of a record."""
        self._begun = data

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        data, self._begun = self._begun or self.take(), None
        if data is None:
            raise StopIteration
        return self.decode(data)


def _unclosed(problem: str) -> str:
    # The whole file is refused, because a stray quote makes one cell of the rows after it.
    return f"{problem}; a quote that opens there is not closed, or not doubled"


def _records(
    portion: Portion, stream: Stream, encoding: str, add_lines: Callable[[bytes], None] | None = None
) -> Iterator[_Record]:
    """The records of a stream, the header included; empty lines are skipped.

    Args:
        portion: the portion to read.
        stream: at its start.
        encoding: of the stream.
        add_lines: called with all bytes, in complete lines.

    Raises:
        RefusedError: a quote is not closed, so its cell contains the lines after it.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(portion, stream, encoding, add_lines)
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
            rejected = reject_too_long(portion, line, offset, cut.length, cut.data, encoding)
            yield _Record(line, offset, lines.offset, [], rejected)
            continue
        if b'"' not in data:
            # Without quotes the csv module would give the same at a third of the speed.
            text = lines.decode(data).rstrip("\r\n")
            cells = text.split(delimiter) if text else []
        else:
            lines.begin_with(data)
            try:
                cells = next(reader)
            except StopIteration:
                # The file ends, or a line is too long, in the middle of a quoted cell.
                raise RefusedError(_unclosed(f"the end of the file from line {line}"), line) from None
            except csv.Error as error:
                cells, problem = [], str(error)
        if not cells and not problem:
            continue
        if problem and lines.taken > 1:
            raise RefusedError(_unclosed(f"{problem}, from line {line} to {lines.line - 1}"), line)
        rejected = None
        if problem or lines.doubtful or lines.offset - offset > MAX_ROW_BYTES:
            rejected = _reject(portion, line, offset, lines, problem, cells, encoding)
            lines.doubtful = False
        yield _Record(line, offset, lines.offset, cells, rejected)


def _reject(
    portion: Portion, line: int, offset: int, lines: _Lines, problem: str, cells: list[str], encoding: str
) -> Rejected | None:
    """The rejected row of a doubtful record, or None if it is in order."""
    text = portion.delimiter.join(cells)
    length = lines.offset - offset
    if length > MAX_ROW_BYTES or "field limit" in problem:
        return reject_too_long(portion, line, offset, length, text[:1000].encode("utf-8", "replace"), "utf-8")
    if problem:
        return Rejected(portion.name, line, offset, "csv", problem, excerpt(text))
    data = text.encode(encoding, "surrogateescape")
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return reject_encoding(portion, line, offset, data, error)
    return reject_zero_byte(portion, line, offset, text) if "\0" in text else None
