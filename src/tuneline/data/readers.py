"""Bytes on disk -> raw rows, each with its place; what cannot be read is set aside with a reason, never repaired.

Read by content: JSON lines, CSV and TSV, and plain text with a row a line. A file that is something else is refused by
name, whole; a row that is broken is set aside, alone.
"""

import codecs
import csv
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tuneline.errors import DataError

MAX_ROW_BYTES = 1_000_000
"""A longer line is a broken file more often than a row."""

FORMATS = "JSON lines (.jsonl), CSV (.csv), TSV (.tsv) and plain text with a row a line (.txt)"

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}
# What a file's first bytes say against reading it, and what to do about it.
_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data: run `git lfs pull`"),
    (b"\x1f\x8b", "gzip: unpack it with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "zstd: unpack it with `unzstd`"),
    (b"BZh", "bzip2: unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "xz: unpack it with `unxz`"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet): unpack or export it"),
    (b"PAR1", "parquet: export it as JSON lines"),
    (b"ARROW1", "arrow: export it as JSON lines"),
    (b"\x80\x02", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x03", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x04", "a pickle, which is never loaded: export it as JSON lines"),
    (b"\x80\x05", "a pickle, which is never loaded: export it as JSON lines"),
    (b"%PDF", "a PDF: extract its text"),
    (b"SQLite format 3\x00", "a SQLite database: export a table as CSV"),
    (b"\xff\xfe\x00\x00", "UTF-32: convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\x00\x00\xfe\xff", "UTF-32: convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"),
)
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_UTF8_BOM = b"\xef\xbb\xbf"
_KEY = re.compile(rb'"\s*:')
_EXCERPT = 200
_SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """A row as it stands in its file."""

    line: int
    """1-based line on which it starts."""
    offset: int
    """Of its first byte in the file."""
    values: dict[str, Any]
    """Column -> value."""


class Rejected(NamedTuple):
    """A row that is set aside."""

    source: str
    """The file, relative to the set."""
    line: int
    offset: int
    reason: str
    """A code, such as `json` or `repeated-key`."""
    detail: str
    row: str
    """The beginning of the row."""

    def describe(self) -> str:
        """The place and the reason, for a person."""
        return f"{self.source}:{self.line}: {self.reason}: {self.detail}"


@dataclass
class RawFile:
    """The rows of one file."""

    name: str
    """Relative to the set, with forward slashes."""
    format: str
    """jsonl, csv, tsv or text."""
    columns: list[str]
    """In the order of their first occurrence."""
    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, line: int, offset: int, reason: str, detail: str, row: str) -> None:
        """Set a row aside."""
        self.rejected.append(Rejected(self.name, line, offset, reason, detail, excerpt(row)))


def excerpt(text: str) -> str:
    """The beginning of a row, short enough for a report."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


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
        raise DataError(f"{path}: holds no files; put {FORMATS} there, or take your own set with `tuneline use PATH`")
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
    paths = find(path)
    read: list[RawFile] = []
    problems: list[str] = []
    for file in paths:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        try:
            read.append(read_file(file, name, encoding))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)
    if not any(file.rows or file.rejected for file in read):
        raise DataError(f"{path}: holds no rows in {len(read)} file(s): {', '.join(file.name for file in read[:5])}")
    return read


def read_file(path: Path, name: str, encoding: str) -> RawFile:
    """One file.

    Args:
        path: where it is.
        name: what rows call it.
        encoding: by Python's name; a UTF-8 byte order mark is allowed.

    Returns:
        Its rows, and those set aside.

    Raises:
        DataError: it is something that is not read, or is broken as a whole.
    """
    content = path.read_bytes()
    _refuse_other_content(path, content)
    start = len(_UTF8_BOM) if content.startswith(_UTF8_BOM) else 0
    if start and not content[start:].strip():
        content = b""
    form = _format(path, content[start:])
    if form == "jsonl":
        return _read_jsonl(name, content, start, encoding)
    if form == "text":
        return _read_text(name, content, start, encoding)
    return _read_csv(path, name, form, content, start, encoding)


def _refuse_other_content(path: Path, content: bytes) -> None:
    for magic, what in _MAGIC:
        if content.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if _HTML.match(content):
        raise DataError(f"{path}: is an HTML page, such as a server sends instead of the data: download it again")
    if b"\0" in content[:8192]:
        raise DataError(f"{path}: holds bytes of zero, so it is no text; read are {FORMATS}")


def _format(path: Path, content: bytes) -> str:
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise DataError(f"{path}: unknown kind of file {path.suffix or 'without a suffix'!r}; read are {FORMATS}")
    first = content.lstrip()[:1]
    if form == "jsonl" and first == b"[":
        raise DataError(f"{path}: is one JSON array; make it a row a line with `jq -c '.[]'`")
    if form in ("csv", "tsv", "text") and first == b"{" and _parses(content.lstrip().split(b"\n", 1)[0]):
        return "jsonl"
    return form


def _parses(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _lines(content: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Line number, offset and bytes of every line: \\n, \\r\\n and \\r end a line, U+2028 does not."""
    offset = start
    for number, line in enumerate(content[start:].splitlines(keepends=True), 1):
        yield number, offset, line
        offset += len(line)


def _decode(line: bytes, encoding: str) -> tuple[str, str]:
    """The text and what is wrong with it, if anything."""
    try:
        return line.decode(encoding), ""
    except UnicodeDecodeError as error:
        detail = f"byte 0x{line[error.start]:02x} at {error.start} is no {encoding}; data.encoding names another"
        return line.decode(encoding, "backslashreplace"), detail


def _read_jsonl(name: str, content: bytes, start: int, encoding: str) -> RawFile:
    file = RawFile(name, "jsonl", [])
    columns: dict[str, None] = {}
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    for number, offset, line in _lines(content, start):
        data = line.strip()
        if not data:
            continue
        if len(data) > MAX_ROW_BYTES:
            file.reject(
                number, offset, "too-long", f"{len(data)} bytes in one row", data[:_EXCERPT].decode("utf-8", "replace")
            )
            continue
        text, problem = _decode(data, encoding)
        if problem:
            file.reject(number, offset, "encoding", problem, text)
            continue
        if not is_utf8:
            data = text.encode()
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            file.reject(number, offset, *_diagnose(text, error), text)
            continue
        if not isinstance(values, dict):
            file.reject(number, offset, "not-an-object", f"a row is an object, here is {kind(values)}", text)
            continue
        # Every key is followed by a colon, so as many keys as colons after quotes means that none came twice.
        if len(_KEY.findall(data)) != _count_keys(values) and (key := _repeated_key(text)) is not None:
            file.reject(number, offset, "repeated-key", f"{key!r} stands twice in one object", text)
            continue
        columns.update(dict.fromkeys(values))
        file.rows.append(Row(number, offset, values))
    file.columns = list(columns)
    return file


def kind(value: Any) -> str:
    """What a JSON value is, for a person."""
    names = {list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "null")


def _diagnose(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    """The reason code and the detail of a row that orjson refuses."""
    if "surrogate" in str(error):
        return "lone-surrogate", "half a character, as \\ud800 without its partner"
    if "depth" in str(error):
        return "too-deep", "nested more than 1,024 deep"

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as problem:
        return "json", f"{problem.msg} at character {problem.pos}"
    except RecursionError:
        return "too-deep", "nested too deep"
    except ValueError as constant:
        return "not-finite", f"{constant} is no JSON value"
    return "json", str(error)


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_count_keys, value))
    return 0


def _repeated_key(text: str) -> str | None:
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)

    json.loads(text, object_pairs_hook=check)
    return repeated[0] if repeated else None


def _read_text(name: str, content: bytes, start: int, encoding: str) -> RawFile:
    file = RawFile(name, "text", ["text"])
    for number, offset, line in _lines(content, start):
        data = line.rstrip(b"\r\n")
        if not data.strip():
            continue
        text, problem = _decode(data, encoding)
        if len(data) > MAX_ROW_BYTES:
            file.reject(number, offset, "too-long", f"{len(data)} bytes in one row", text)
        elif problem:
            file.reject(number, offset, "encoding", problem, text)
        else:
            file.rows.append(Row(number, offset, {"text": text}))
    return file


def _read_csv(path: Path, name: str, form: str, content: bytes, start: int, encoding: str) -> RawFile:
    """Cells stay text: "NA", "null" and "00123" are what they say."""
    places: list[tuple[int, int]] = []

    def lines() -> Iterator[str]:
        for number, offset, line in _lines(content, start):
            places.append((number, offset))
            yield line.decode(encoding, "surrogateescape")

    source = lines()
    header = next(source, None)
    if header is None:
        return RawFile(name, form, [])
    delimiter = "\t" if form == "tsv" else max(",;\t|", key=header.count)
    csv.field_size_limit(MAX_ROW_BYTES)
    columns = next(csv.reader([header], delimiter=delimiter, strict=True))
    if doubled := sorted({column for column in columns if columns.count(column) > 1}):
        raise DataError(f"{path}:1: column(s) {', '.join(map(repr, doubled))} stand twice; rename one of them")
    file = RawFile(name, form, columns)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        first = len(places)
        try:
            cells = next(reader)
        except StopIteration:
            return file
        except csv.Error as error:
            line, offset = places[min(first, len(places) - 1)]
            if "unexpected end of data" in str(error):
                raise DataError(
                    f"{path}:{line}: a quote that opens here is never closed; close it, or double it"
                ) from None
            file.reject(line, offset, "csv", str(error), "")
            continue
        line, offset = places[first]
        if not cells:
            continue
        text = delimiter.join(cells)
        if len(cells) != len(columns):
            file.reject(line, offset, "columns", f"{len(cells)} cells under {len(columns)} columns", text)
        elif not text.isascii() and _SURROGATE.search(text):
            file.reject(line, offset, "encoding", f"bytes that are no {encoding}; data.encoding names another", text)
        else:
            file.rows.append(Row(line, offset, dict(zip(columns, cells, strict=True))))
