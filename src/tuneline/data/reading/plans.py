"""One file -> its plans: what it is, whether it is whole, and the portions in which any process reads it.

The file streams by once: lines and records are counted, check sums are checked, and no row is kept.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import NamedTuple

from tuneline.data.reading import discover
from tuneline.data.reading.containers import unpack
from tuneline.data.reading.containers.byte_streams import UNPACKING_ERRORS, RefusedError, Stream, blocks, count_lines
from tuneline.data.reading.containers.unpack import Source
from tuneline.data.reading.formats import arrow_tables, delimited, json_values, sniff
from tuneline.data.reading.guards import encodings, magic
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion

PORTION_BYTES = 32_000_000
"""Of a file that is read line by line, about."""

_NO_ROWS = "holds no rows"
_ABOUT_DATA = (
    "is read as text to learn, though its name says that it tells of the files beside it; if so, leave it out with "
    "`--exclude {}`"
)
UNPACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")


class _File(NamedTuple):
    """A file or a member on its way to a plan."""

    source: Source
    name: str
    """What rows call it."""
    inner: str
    """Its name without the suffixes of containers."""
    place: str
    """Where it is, for a person."""

    def refused(self, error: RefusedError) -> FilePlan:
        """The plan of a file that is not read."""
        return FilePlan(self.name, "", "", (), (), (), 0, refusal=error.at(self.place))

    def portion(self, form: str, encoding: str) -> Portion:
        """The whole file as one portion."""
        return Portion(self.source.path, self.name, form, encoding, self.source.containers, 0, None, 1)


def plans(source: Source, name: str, place: str, options: Options) -> Iterator[FilePlan]:
    """The plans of one file: one, or one for each member of an archive or each split of an object of splits.

    Args:
        source: the file.
        name: what rows call it.
        place: where it is, for a person.
        options: how it is read.

    Yields:
        Plans without first rows; a refused file or member carries why.
    """
    yield from _guarded(_File(source, name, name, place), options)


def excluded(name: str, pattern: str) -> FilePlan:
    """The plan of a file that is left out.

    Args:
        name: what rows would call it.
        pattern: by which it is left out.
    """
    return FilePlan(name, "", "", (), (), (), 0, excluded=pattern)


def broken(error: Exception) -> RefusedError:
    """What a packed file that could not be unpacked is refused with."""
    words = str(error).split("\n", 1)[0] or type(error).__name__
    return RefusedError(f"is cut off or corrupt ({words}): copy or download it again")


def _guarded(file: _File, options: Options) -> Iterator[FilePlan]:
    try:
        yield from _plans(file, options)
    except RefusedError as error:
        yield file.refused(error)
    except UNPACKING_ERRORS as error:
        yield file.refused(broken(error))


def _plans(file: _File, options: Options) -> Iterator[FilePlan]:
    stream = unpack.take(file.source)
    head = stream.read(sniff.HEAD_BYTES)
    is_whole = len(head) < sniff.HEAD_BYTES
    if not head:
        stream.close()
        yield FilePlan(file.name, "", "", (), (), (), 0, warnings=("is empty",))
        return
    if kind := sniff.container(head):
        stream.close()
        yield from _unpacked(file, kind, options)
        return
    if problem := magic.refusal(head, is_whole):
        raise RefusedError(problem)
    if form := sniff.table(head):
        stream.close()
        yield _table(file, form)
        return
    stream.close()
    yield from _text(file, head, is_whole, options)


def _unpacked(file: _File, kind: str, options: Options) -> Iterator[FilePlan]:
    outer = file.source.containers
    if len(outer) >= unpack.MAX_DEPTH:
        path = " in ".join([kind, *(container.partition(":")[0] for container in reversed(outer))])
        raise RefusedError(f"is {path}, more than {unpack.MAX_DEPTH} deep: unpack it to a folder")
    if kind in ("gzip", "zstd"):
        inner = PurePosixPath(file.inner)
        name = inner.stem if inner.suffix.lower() in UNPACKED_SUFFIXES else file.inner
        packed = file.source._replace(containers=(*outer, kind))
        yield from _plans(file._replace(source=packed, inner=name), options)
        return
    members = unpack.members(file.source, kind)
    if not members:
        yield FilePlan(file.name, "", "", (), (), (), 0, warnings=(f"is a {kind} archive without files",))
    for member in members:
        packed = file.source._replace(containers=(*outer, f"{kind}:{member.name}"))
        shown = member.name.removeprefix("./")
        inside = _File(packed, f"{file.name}/{shown}", shown, f"{file.place}/{shown}")
        if pattern := discover.matching_pattern(inside.name, options.exclude):
            yield excluded(inside.name, pattern)
            continue
        yield from _guarded(inside, options)


def _table(file: _File, form: str) -> FilePlan:
    with unpack.seekable(file.source) as opened:
        table = arrow_tables.scan(opened, form)
    portion = file.portion(form, "utf-8")
    portions = tuple(
        replace(portion, start=start, stop=stop, first_line=start + 1, columns=table.columns)
        for start, stop in table.bounds
    )
    warnings = table.warnings if portions else (*table.warnings, _NO_ROWS)
    split = sniff.split_of(file.name)
    return FilePlan(file.name, form, "utf-8", table.columns, (), portions, table.bytes, split, warnings)


def _text(file: _File, head: bytes, is_whole: bool, options: Options) -> Iterator[FilePlan]:
    encoding, mark = encodings.of_mark(head)
    if not encoding:
        encoding = options.encoding
        if encoding == "utf-8" and (wide := encodings.wide_without_mark(head)):
            raise RefusedError(f"is {wide} without a byte order mark: {encodings.setting_of(wide, options.param)}")
    if encodings.is_wide(encoding):
        file = file._replace(source=file.source._replace(encoding=encoding))
        head = _head(file.source)
    start = mark if encoding == "utf-8" else 0
    head = head[start:]
    encodings.check_is_text(head)
    form = sniff.format_of(head, file.inner, options.layout, is_whole)
    portion = replace(file.portion(form, encoding), start=start)
    if form == "json":
        encodings.check_head(head, encoding, options.param)
        if encoding != "utf-8":
            file = file._replace(source=file.source._replace(encoding=encoding))
        yield from _json(file, portion)
        return
    watch = encodings.Watch("utf-8" if file.source.encoding else encoding, options.param)
    stream = unpack.take(file.source, start)
    try:
        plan = _of_lines(file, portion, stream, head, watch)
    except RefusedError:
        # What looks like a stray quote in a file of another encoding is none.
        watch.close()
        raise
    unpack.give_back(file.source, stream)
    warning = watch.close()
    yield replace(plan, warnings=(*plan.warnings, warning)) if warning else plan


def _head(source: Source) -> bytes:
    stream = unpack.take(source)
    head = stream.read(sniff.HEAD_BYTES)
    stream.close()
    return head


def _of_lines(file: _File, portion: Portion, stream: Stream, head: bytes, watch: encodings.Watch) -> FilePlan:
    """The plan of JSON lines, CSV, plain text or a document."""
    encoding = watch.encoding
    columns: tuple[str, ...] = ()
    if portion.format == "csv":
        delimiter = delimited.delimiter_of(head, encoding)
        portion = replace(portion, format="tsv" if delimiter == "\t" else "csv", delimiter=delimiter)
        columns, bounds = delimited.scan(portion, stream, encoding, watch.see)
    elif portion.format == "document":
        for block in blocks(stream):
            watch.see(block.data)
        bounds = [(portion.start, stream.position, 1)]
    else:
        bounds = _line_bounds(stream, watch)
    portions = tuple(
        replace(portion, start=start, stop=stop, first_line=line, columns=columns) for start, stop, line in bounds
    )
    split = sniff.split_of(file.name)
    warnings = () if portions else (_NO_ROWS,)
    if portion.format in ("text", "document") and sniff.is_about_data(file.inner):
        warnings = (*warnings, _ABOUT_DATA.format(PurePosixPath(file.inner).name))
    size = stream.position
    return FilePlan(file.name, portion.format, portion.encoding, columns, (), portions, size, split, warnings)


def _line_bounds(stream: Stream, watch: encodings.Watch) -> list[tuple[int, int, int]]:
    """Start, stop and first line of each portion of a file in which a line is a row."""
    bounds: list[tuple[int, int, int]] = []
    start, end, line, lines = stream.position, stream.position, 1, 0
    for block in blocks(stream):
        if end > start and block.offset + block.length - start > PORTION_BYTES:
            bounds.append((start, end, line))
            start, line = end, lines + 1
        end = block.offset + block.length
        if block.is_cut:
            lines += 1
        else:
            watch.see(block.data)
            lines += count_lines(block.data)
    if end > start:
        bounds.append((start, end, line))
    return bounds


def _json(file: _File, portion: Portion) -> list[FilePlan]:
    stream = unpack.take(file.source, portion.start)
    found: list[FilePlan] = []
    for section in json_values.scan(stream):
        name = file.name if section.key is None else f"{file.name}#{discover.printable(section.key)}"
        portions = tuple(
            replace(portion, name=name, start=start, stop=stop, first_line=line, orientation=section.orientation)
            for start, stop, line in section.bounds
        )
        split = (section.key and sniff.split_of(section.key)) or sniff.split_of(file.name)
        size = sum((one.stop or 0) - one.start for one in portions)
        warnings = () if portions else (_NO_ROWS,)
        found.append(FilePlan(name, "json", portion.encoding, (), (), portions, size, split, warnings))
    stream.close()
    return found or [FilePlan(file.name, "json", portion.encoding, (), (), (), 0, warnings=(_NO_ROWS,))]
