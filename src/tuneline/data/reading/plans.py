"""The plans of one file: its format, and the portions in which any process can read it.

The file is read once: lines and records are counted, checksums are checked, and no row is kept.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import NamedTuple

from tuneline.data.reading import discover, raw_rows
from tuneline.data.reading.containers import unpack
from tuneline.data.reading.containers.byte_streams import (
    HEAD_BYTES,
    UNPACKING_ERRORS,
    RefusedError,
    Stream,
    count_lines,
    read_blocks,
)
from tuneline.data.reading.containers.unpack import Source
from tuneline.data.reading.formats import arrow_tables, delimited, json_files, sniff
from tuneline.data.reading.guards import encodings, magic
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion
from tuneline.errors import first_line

UNPACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_NO_ROWS = "has no rows"
_MAY_DESCRIBE_DATA = (
    "is read as text to train on, though its name suggests that it only describes the other files; if so, leave it out "
    "with `--exclude {}`"
)


class _File(NamedTuple):
    """A file or a member of an archive."""

    source: Source
    name: str
    """The source of its rows."""
    inner: str
    """Its name without the suffixes of containers."""
    path: str
    """For messages."""

    def refused(self, error: RefusedError) -> FilePlan:
        """The plan of a file that is refused."""
        return FilePlan(self.name, refusal=error.describe(self.path))

    def portion(self, form: str, encoding: str) -> Portion:
        """The whole file as one portion."""
        return Portion(self.source.path, self.name, form, encoding, self.source.containers, 0, None, 1)


def plan_file(source: Source, name: str, path: str, options: Options) -> Iterator[FilePlan]:
    """The plan of one file, or one plan for each member of an archive or each split of an object of splits.

    Args:
        source: the file.
        name: the source of its rows.
        path: for messages.
        options: how it is read.

    Yields:
        Plans without first rows.
    """
    yield from _plan_or_refuse(_File(source, name, name, path), options)


def corrupt_file(error: Exception) -> RefusedError:
    """The refusal of a packed file that cannot be unpacked."""
    return RefusedError(f"is cut off or corrupt ({first_line(error)}): copy or download it again")


def _plan_or_refuse(file: _File, options: Options) -> Iterator[FilePlan]:
    try:
        yield from _plan(file, options)
    except RefusedError as error:
        yield file.refused(error)
    except UNPACKING_ERRORS as error:
        yield file.refused(corrupt_file(error))


def _plan(file: _File, options: Options) -> Iterator[FilePlan]:
    head = _read_head(file.source)
    is_whole = len(head) < HEAD_BYTES
    if not head:
        yield FilePlan(file.name, warnings=("is empty",))
    elif kind := sniff.detect_container(head):
        yield from _plan_container(file, kind, options)
    elif problem := magic.find_refusal(head, is_whole):
        raise RefusedError(problem)
    elif form := sniff.detect_table(head):
        yield _plan_table(file, form)
    else:
        yield from _plan_text(file, head, is_whole, options)


def _read_head(source: Source) -> bytes:
    stream = unpack.open_stream(source)
    head = stream.read(HEAD_BYTES)
    stream.close()
    return head


def _plan_container(file: _File, kind: str, options: Options) -> Iterator[FilePlan]:
    outer = file.source.containers
    if len(outer) >= unpack.MAX_DEPTH:
        nesting = " in ".join([kind, *(container.partition(":")[0] for container in reversed(outer))])
        raise RefusedError(f"is {nesting}, more than {unpack.MAX_DEPTH} deep: unpack it to a folder")
    if kind in ("gzip", "zstd"):
        inner = PurePosixPath(file.inner)
        name = inner.stem if inner.suffix.lower() in UNPACKED_SUFFIXES else file.inner
        packed = file.source._replace(containers=(*outer, kind))
        yield from _plan(file._replace(source=packed, inner=name), options)
        return
    members = unpack.list_members(file.source, kind)
    if not members:
        yield FilePlan(file.name, warnings=(f"is a {kind} archive without files",))
    for member in members:
        packed = file.source._replace(containers=(*outer, f"{kind}:{member.name}"))
        shown = member.name.removeprefix("./")
        inside = _File(packed, f"{file.name}/{shown}", shown, f"{file.path}/{shown}")
        if pattern := discover.matching_pattern(inside.name, options.exclude):
            yield FilePlan(inside.name, excluded=pattern)
        else:
            yield from _plan_or_refuse(inside, options)


def _plan_table(file: _File, form: str) -> FilePlan:
    with unpack.open_seekable(file.source) as opened:
        table = arrow_tables.scan(opened, form)
    portion = file.portion(form, "utf-8")
    portions = tuple(
        replace(portion, start=start, stop=stop, first_line=start + 1, columns=table.columns)
        for start, stop in table.bounds
    )
    warnings = table.warnings if portions else (*table.warnings, _NO_ROWS)
    split = sniff.split_in_name(file.name)
    return FilePlan(file.name, form, "utf-8", table.columns, (), portions, table.bytes, split, warnings)


def _plan_text(file: _File, head: bytes, is_whole: bool, options: Options) -> Iterator[FilePlan]:
    encoding, mark = encodings.read_mark(head)
    if not encoding:
        encoding = options.encoding
        if encoding == "utf-8" and (wide := encodings.detect_wide(head)):
            raise RefusedError(
                f"is {wide} without a byte order mark: {encodings.describe_setting(wide, options.param)}"
            )
    if encodings.is_wide(encoding):
        file = file._replace(source=file.source._replace(encoding=encoding))
        head = _read_head(file.source)
    start = mark if encoding == "utf-8" else 0
    head = head[start:]
    encodings.check_is_text(head)
    form = sniff.detect_text_format(head, file.inner, options.layout, is_whole)
    portion = replace(file.portion(form, encoding), start=start)
    if form == "json":
        encodings.check_head(head, encoding, options.param, options.likely)
        if encoding != "utf-8":
            file = file._replace(source=file.source._replace(encoding=encoding))
        yield from _plan_json(file, portion)
        return
    own = "utf-8" if file.source.encoding else encoding
    check = encodings.EncodingCheck(own, options.param, options.likely)
    stream = unpack.open_stream(file.source, start)
    try:
        plan = _plan_lines(file, portion, stream, head, check)
    except RefusedError:
        # A wrong encoding is the better reason: its bytes can look like a stray quote.
        check.finish()
        raise
    unpack.keep_stream(file.source, stream)
    warning = check.finish()
    yield replace(plan, warnings=(*plan.warnings, warning)) if warning else plan


def _plan_lines(file: _File, portion: Portion, stream: Stream, head: bytes, check: encodings.EncodingCheck) -> FilePlan:
    """The plan of JSON lines, CSV, plain text or a document."""
    encoding = check.encoding
    columns: tuple[str, ...] = ()
    if portion.format == "csv":
        delimiter = delimited.detect_delimiter(head, encoding)
        portion = replace(portion, format="tsv" if delimiter == "\t" else "csv", delimiter=delimiter)
        columns, bounds = delimited.scan(portion, stream, encoding, check.add_lines)
    elif portion.format == "document":
        for block in read_blocks(stream):
            check.add_lines(block.data)
        bounds = [(portion.start, stream.position, 1)]
    else:
        bounds = _group_lines(stream, check)
    portions = tuple(
        replace(portion, start=start, stop=stop, first_line=line, columns=columns) for start, stop, line in bounds
    )
    split = sniff.split_in_name(file.name)
    warnings = () if portions else (_NO_ROWS,)
    if portion.format in ("text", "document") and sniff.is_about_data(file.inner):
        warnings = (*warnings, _MAY_DESCRIBE_DATA.format(PurePosixPath(file.inner).name))
    size = stream.position
    return FilePlan(file.name, portion.format, portion.encoding, columns, (), portions, size, split, warnings)


def _group_lines(stream: Stream, check: encodings.EncodingCheck) -> list[tuple[int, int, int]]:
    """Start, stop and first line of each portion of a file with one row per line."""
    bounds: list[tuple[int, int, int]] = []
    start, end, line, lines = stream.position, stream.position, 1, 0
    for block in read_blocks(stream):
        if end > start and block.offset + block.length - start > raw_rows.PORTION_BYTES:
            bounds.append((start, end, line))
            start, line = end, lines + 1
        end = block.offset + block.length
        if block.is_cut:
            lines += 1
        else:
            check.add_lines(block.data)
            lines += count_lines(block.data)
    if end > start:
        bounds.append((start, end, line))
    return bounds


def _plan_json(file: _File, portion: Portion) -> list[FilePlan]:
    stream = unpack.open_stream(file.source, portion.start)
    plans: list[FilePlan] = []
    for section in json_files.scan(stream):
        name = file.name if section.key is None else f"{file.name}#{discover.printable(section.key)}"
        portions = tuple(
            replace(portion, name=name, start=start, stop=stop, first_line=line, orientation=section.orientation)
            for start, stop, line in section.bounds
        )
        split = (section.key and sniff.split_in_name(section.key)) or sniff.split_in_name(file.name)
        size = sum(stop - start for start, stop, _ in section.bounds)
        warnings = () if portions else (_NO_ROWS,)
        plans.append(FilePlan(name, "json", portion.encoding, (), (), portions, size, split, warnings))
    stream.close()
    return plans or [FilePlan(file.name, "json", portion.encoding, warnings=(_NO_ROWS,))]
