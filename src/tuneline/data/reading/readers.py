"""Files on disk -> raw rows, each with its place: what is read, what is set aside, and what is refused by name and why.

By content, not by name: a gzip, a pickle or an error page is seen whatever it is called, and nothing is ever loaded,
run or repaired here. One pass over every file makes its plan; its portions can then be read by any process.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tuneline.data.reading import discover, plans
from tuneline.data.reading.containers import unpack
from tuneline.data.reading.containers.byte_streams import UNPACKING_ERRORS, RefusedError, Stream
from tuneline.data.reading.formats import arrow_tables, delimited, json_lines, json_values, plain_text
from tuneline.data.reading.guards import encodings
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected, Row
from tuneline.errors import DataError

FIRST_ROWS = 1_000
"""Kept of every file, to recognise its shape by."""

_FIRST_CHARACTERS = 4_000_000
_FIRST_CHARACTERS_OF_ALL = 64_000_000
_LEAST_FIRST_CHARACTERS = 4_000
_OF_A_DOCUMENT = 1_000


def plan(path: Path, options: Options) -> list[FilePlan]:
    """What every file of a set is, found out in one pass over each.

    Args:
        path: a folder, or one file.
        options: how the files are read.

    Returns:
        Plans in the order of the files' names; a file that is refused carries why, and one that is left out by which
        pattern.

    Raises:
        DataError: nothing is there, or the encoding is unknown.
    """
    encodings.check_codec(options.encoding)
    found: list[FilePlan] = []
    left = _FIRST_CHARACTERS_OF_ALL
    for file in discover.find(path):
        shown = discover.printable(str(file.path))
        if pattern := discover.matching_pattern(file.name, options.exclude):
            found.append(plans.excluded(file.name, pattern))
            continue
        if file.refusal:
            found.append(FilePlan(file.name, "", "", (), (), (), 0, refusal=f"{shown}: {file.refusal}"))
            continue
        source = unpack.source(file.path, ())
        for one in plans.plans(source, file.name, shown, options):
            planned, used = _with_first_rows(
                one, max(_LEAST_FIRST_CHARACTERS, min(_FIRST_CHARACTERS, left // 8)), shown
            )
            left = max(0, left - used)
            found.append(planned)
    return found


def _with_first_rows(plan: FilePlan, characters: int, place: str) -> tuple[FilePlan, int]:
    """The plan with its first rows, and how many characters they have.

    Args:
        plan: without.
        characters: at most kept, but for one row.
        place: of the file, for errors.
    """
    first: list[Row] = []
    used = 0
    seen = 0
    try:
        for portion in plan.portions:
            with closing(rows(portion)) as opened:
                for row in opened:
                    seen += 1
                    if isinstance(row, Row):
                        if plan.format == "document":
                            row = row._replace(values={"text": row.values["text"][:_OF_A_DOCUMENT]})
                        first.append(row)
                        used += len(str(row.values))
                    if len(first) >= FIRST_ROWS or used >= characters or seen >= 10 * FIRST_ROWS:
                        return _with(plan, first), used
    except DataError as error:
        return FilePlan(plan.name, "", "", (), (), (), 0, refusal=f"{place}: {error}"), 0
    return _with(plan, first), used


def _with(plan: FilePlan, first: list[Row]) -> FilePlan:
    counts: dict[str, int] = {}
    for row in first:
        for column in row.values:
            counts[column] = counts.get(column, 0) + 1
    usual = tuple(column for column, count in counts.items() if 2 * count > len(first))
    return replace(plan, first_rows=tuple(first), columns=plan.columns or usual)


def rows(portion: Portion) -> Generator[Row | Rejected, None, None]:
    """The rows of a portion and what is set aside, in the order of the file; blank lines are no rows.

    Args:
        portion: of a plan.

    Yields:
        Each once, in bounded memory.

    Raises:
        DataError: the file is no longer what it was when it was planned.
    """
    try:
        yield from _rows(portion)
    except RefusedError as error:
        raise DataError(error.at(portion.name)) from None
    except UNPACKING_ERRORS as error:
        raise DataError(plans.broken(error).at(portion.name)) from None


def _rows(portion: Portion) -> Iterator[Row | Rejected]:
    path, encoding = Path(portion.path), portion.encoding
    if portion.format in ("parquet", "arrow"):
        with unpack.seekable(unpack.source(path, portion.containers)) as file:
            yield from arrow_tables.read(portion, file)
        return
    if encodings.is_wide(encoding) or (portion.format == "json" and encoding != "utf-8"):
        source, encoding = unpack.source(path, portion.containers, encoding), "utf-8"
    else:
        source = unpack.source(path, portion.containers)
    stream = unpack.take(source, portion.start)
    finished = False
    try:
        yield from _of_format(portion, stream, encoding)
        # Of a document that is too long only the beginning is read.
        if portion.stop is not None and stream.position < portion.stop and portion.format != "document":
            raise RefusedError("was changed while it was read: run the same command again")
        finished = True
    finally:
        if finished:
            unpack.give_back(source, stream)
        else:
            stream.close()


def _of_format(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    if portion.format == "jsonl":
        return json_lines.read(portion, stream, encoding)
    if portion.format == "json":
        return json_values.read(portion, stream)
    if portion.format in ("csv", "tsv"):
        return delimited.read(portion, stream, encoding)
    if portion.format == "document":
        return plain_text.read_document(portion, stream, encoding)
    return plain_text.read_lines(portion, stream, encoding)
