"""Files on disk -> raw rows, each with its place: what is read, what is set aside, and what is refused by name and why.

By content, not by name: a gzip, a pickle or an error page is seen whatever it is called, and nothing is ever loaded,
run or repaired here. One pass over every file makes its plan; its portions can then be read by any process.
"""

import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson

from tuneline.data import containers, delimited, encodings, formats, jsonlines, jsonvalues, places, plans, tables, texts
from tuneline.data.rows import FilePlan, Options, Portion, RawFile, Rejected, Row
from tuneline.data.streams import UNPACKING_ERRORS, RefusedError, Stream
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
        Plans in the order of the files' names; a file that is refused carries why.

    Raises:
        DataError: nothing is there, or the encoding is unknown.
    """
    encodings.check(options.encoding)
    found: list[FilePlan] = []
    left = _FIRST_CHARACTERS_OF_ALL
    for file in places.find(path):
        shown = places.shown(str(file.path))
        if file.refusal:
            found.append(FilePlan(file.name, "", "", (), (), (), 0, refusal=f"{shown}: {file.refusal}"))
            continue
        source = containers.source(file.path, ())
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
        with containers.seekable(containers.source(path, portion.containers)) as file:
            yield from tables.read(portion, file)
        return
    if encodings.is_wide(encoding) or (portion.format == "json" and encoding != "utf-8"):
        source, encoding = containers.source(path, portion.containers, encoding), "utf-8"
    else:
        source = containers.source(path, portion.containers)
    stream = containers.take(source, portion.start)
    finished = False
    try:
        yield from _of_format(portion, stream, encoding)
        finished = True
    finally:
        if finished:
            containers.give_back(source, stream)
        else:
            stream.close()


def _of_format(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    if portion.format == "jsonl":
        return jsonlines.read(portion, stream, encoding)
    if portion.format == "json":
        return jsonvalues.read(portion, stream)
    if portion.format in ("csv", "tsv"):
        return delimited.read(portion, stream, encoding)
    if portion.format == "document":
        return texts.read_document(portion, stream, encoding)
    return texts.read_lines(portion, stream, encoding)


_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
}
# What a file's first bytes say against reading it, and what to do about it.
_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data: run `git lfs pull`"),
    (b"\x1f\x8b", "gzip: unpack it with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "zstd: unpack it with `unzstd`"),
    (b"BZh91AY&SY", "bzip2: unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "xz: unpack it with `unxz`"),
    (b"PK\x03\x04", "a zip archive, or a spreadsheet: unpack or export it"),
    (b"PAR1", "parquet: export it as JSON lines"),
    (b"ARROW1", "arrow: export it as JSON lines"),
    (b"\x93NUMPY", "a numpy array: export it as JSON lines"),
    (b"\x80\x02", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x03", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x04", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x05", "a pickle, which is never loaded: export it as JSON lines"),
    (b"%PDF-", "a PDF: extract its text"),
    (b"SQLite format 3\x00", "a SQLite database: export a table as CSV"),
    (b"\xff\xfe\x00\x00", "UTF-32: convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\x00\x00\xfe\xff", "UTF-32: convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"),
)
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_UTF8_BOM = b"\xef\xbb\xbf"


def find(path: Path) -> list[Path]:
    """The files of a raw set, in the order of their names.

    Args:
        path: a folder, or one file.

    Returns:
        Regular files; hidden ones are left out.

    Raises:
        DataError: nothing is there, or something that is no regular file.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; `dvc repro sample` makes the built-in corpus, `dvc pull` fetches a set "
            "that DVC keeps, `tuneline use PATH` takes your own"
        )
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: is neither a folder nor a regular file")
    found: list[Path] = []
    problems: list[str] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(Path(folder, name) for name in [*folders, *names] if not name.startswith(".")):
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode):
                found.append(file)
            elif stat.S_ISLNK(mode):
                problems.append(f"{file}: is a symbolic link, which may show any file; put the file itself there")
            elif not stat.S_ISDIR(mode):
                problems.append(f"{file}: is no regular file; take it away")
    if problems:
        raise DataError(*problems)
    if not found:
        raise DataError(
            f"{path}: holds no files; put {places.FORMATS} there, or take your own set with `tuneline use PATH`"
        )
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def read_set(path: Path, encoding: str) -> list[RawFile]:
    """Every file of a raw set.

    Args:
        path: a folder, or one file.
        encoding: of the files, by Python's name.

    Returns:
        The files in the order of their names.

    Raises:
        DataError: a file that cannot be read as a whole, all of them named; or no row at all.
    """
    if "\n".encode(encoding) != b"\n":
        raise DataError(f"data.encoding: {encoding} is not read; convert the files with `iconv -f {encoding} -t UTF-8`")
    read: list[RawFile] = []
    problems: list[str] = []
    for file in find(path):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            read.append(read_file(file, name, encoding))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)
    if not any(file.rows or file.rejected for file in read):
        raise DataError(f"{path}: holds no rows, in {len(read)} file(s): {', '.join(file.name for file in read[:5])}")
    return read


def read_file(path: Path, name: str, encoding: str) -> RawFile:
    """One file.

    Args:
        path: where it is.
        name: what rows call it.
        encoding: by Python's name; a UTF-8 byte order mark wins over it.

    Returns:
        Its rows, and those set aside.

    Raises:
        DataError: it is something that is not read, or is broken as a whole.
    """
    try:
        content = path.read_bytes()
    except PermissionError:
        raise DataError(f"{path}: may not be read by this user; change its permissions") from None
    _refuse_other_content(path, content)
    start = 0
    if content.startswith(_UTF8_BOM):
        start, encoding = len(_UTF8_BOM), "utf-8"
    form = _format(path, content[start:])
    if form == "jsonl":
        return formats.read_jsonl(name, content, start, encoding)
    if form == "text":
        return formats.read_text(name, content, start, encoding)
    return formats.read_csv(path, name, content, start, encoding)


def _refuse_other_content(path: Path, content: bytes) -> None:
    for magic, what in _MAGIC:
        if content.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if content[257:262] == b"ustar":
        raise DataError(f"{path}: is a tar archive: unpack it with `tar -x`")
    if _HTML.match(content):
        raise DataError(f"{path}: is an HTML page, such as a server sends instead of the data: download it again")
    if b"\0" in content[:8192]:
        raise DataError(f"{path}: holds bytes of zero, so it is no text; read are {places.FORMATS}")


def _format(path: Path, content: bytes) -> str:
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        named = f"with the suffix {path.suffix}" if path.suffix else "without a suffix"
        raise DataError(f"{path}: unknown kind of file {named}; read are {places.FORMATS}")
    first_line = content.lstrip().split(b"\n", 1)[0].strip()
    if form == "jsonl" and first_line[:1] == b"[":
        raise DataError(f"{path}: is one JSON array; make it a row a line with `jq -c '.[]'`")
    if form == "jsonl" and first_line == b"{":
        raise DataError(f"{path}: spreads its JSON over several lines; make it a row a line with `jq -c .`")
    if form != "jsonl" and first_line[:1] == b"{" and _parses(first_line):
        return "jsonl"
    return form


def _parses(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
