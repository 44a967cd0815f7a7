"""The entry point of reading: `plan` finds out what the files of a set are, `rows` reads the rows of a portion.

Formats are detected by content, not by name: a gzip file, a pickle or an error page is recognised whatever its name is.
Nothing in a file is ever loaded as an object, run or repaired here.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tuneline.data.reading import discover, plans
from tuneline.data.reading.containers import unpack
from tuneline.data.reading.containers.byte_streams import UNPACKING_ERRORS, RefusedError, Stream
from tuneline.data.reading.formats import arrow_tables, delimited, json_files, json_lines, plain_text
from tuneline.data.reading.guards import encodings
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected, Row
from tuneline.errors import DataError

FIRST_ROWS = 1_000
"""Rows of every file that are kept to recognise its shape."""

_FIRST_CHARACTERS = 4_000_000
"""Of the first rows of one file, at most."""
_FIRST_CHARACTERS_OF_ALL = 64_000_000
_LEAST_FIRST_CHARACTERS = 4_000
_FIRST_CHARACTERS_OF_A_DOCUMENT = 1_000


def plan(path: Path, options: Options) -> list[FilePlan]:
    """The plans of the files of a set, each of which is read once.

    Args:
        path: a folder, or one file.
        options: how the files are read.

    Returns:
        Plans in the order of the files' names. The plan of a refused file has the reason, and that of an excluded file
        has the pattern.

    Raises:
        DataError: the path does not exist or has no files, or the encoding is unknown.
    """
    encodings.check_codec(options.encoding)
    found: list[FilePlan] = []
    left = _FIRST_CHARACTERS_OF_ALL
    for file in discover.find_files(path):
        shown = discover.printable(str(file.path))
        if pattern := discover.matching_pattern(file.name, options.exclude):
            found.append(FilePlan(file.name, excluded=pattern))
        elif file.refusal:
            found.append(FilePlan(file.name, refusal=f"{shown}: {file.refusal}"))
        else:
            for file_plan in plans.plan_file(unpack.new_source(file.path, ()), file.name, shown, options):
                most = max(_LEAST_FIRST_CHARACTERS, min(_FIRST_CHARACTERS, left // 8))
                planned, used = _add_first_rows(file_plan, most, shown)
                left = max(0, left - used)
                found.append(planned)
    return found


def _add_first_rows(plan: FilePlan, characters: int, path: str) -> tuple[FilePlan, int]:
    """The plan with its first rows, and how many characters they have.

    Args:
        plan: without first rows.
        characters: the limit after which no further row is added.
        path: of the file, for messages.
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
                            row = row._replace(values={"text": row.values["text"][:_FIRST_CHARACTERS_OF_A_DOCUMENT]})
                        first.append(row)
                        used += len(str(row.values))
                    if len(first) >= FIRST_ROWS or used >= characters or seen >= 10 * FIRST_ROWS:
                        return _with_first_rows(plan, first), used
    except DataError as error:
        return FilePlan(plan.name, refusal=f"{path}: {error}"), 0
    return _with_first_rows(plan, first), used


def _with_first_rows(plan: FilePlan, first: list[Row]) -> FilePlan:
    counts: dict[str, int] = {}
    for row in first:
        for column in row.values:
            counts[column] = counts.get(column, 0) + 1
    usual = tuple(column for column, count in counts.items() if 2 * count > len(first))
    return replace(plan, first_rows=tuple(first), columns=plan.columns or usual)


def rows(portion: Portion) -> Generator[Row | Rejected, None, None]:
    """The rows and the rejected rows of a portion, in the order of the file; empty lines are skipped.

    Takes bounded memory.

    Args:
        portion: of a plan.

    Raises:
        DataError: the file has changed since it was planned.
    """
    try:
        yield from _read(portion)
    except RefusedError as error:
        raise DataError(error.describe(portion.name)) from None
    except UNPACKING_ERRORS as error:
        raise DataError(plans.corrupt_file(error).describe(portion.name)) from None


def _read(portion: Portion) -> Iterator[Row | Rejected]:
    path, encoding = Path(portion.path), portion.encoding
    if portion.format in ("parquet", "arrow"):
        with unpack.open_seekable(unpack.new_source(path, portion.containers)) as file:
            yield from arrow_tables.read(portion, file)
        return
    if encodings.is_wide(encoding) or (portion.format == "json" and encoding != "utf-8"):
        source, encoding = unpack.new_source(path, portion.containers, encoding), "utf-8"
    else:
        source = unpack.new_source(path, portion.containers)
    stream = unpack.open_stream(source, portion.start)
    finished = False
    try:
        yield from _read_format(portion, stream, encoding)
        # Of a document that is too long, only the beginning is read.
        if portion.stop is not None and stream.position < portion.stop and portion.format != "document":
            raise RefusedError("was changed while it was read: run the same command again")
        finished = True
    finally:
        if finished:
            unpack.keep_stream(source, stream)
        else:
            stream.close()


def _read_format(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    if portion.format == "jsonl":
        return json_lines.read(portion, stream, encoding)
    if portion.format == "json":
        return json_files.read(portion, stream)
    if portion.format in ("csv", "tsv"):
        return delimited.read(portion, stream, encoding)
    if portion.format == "document":
        return plain_text.read_document(portion, stream, encoding)
    return plain_text.read_lines(portion, stream, encoding)
