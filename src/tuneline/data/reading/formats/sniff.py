"""Detecting the format of a file by its content; the name decides only where the content fits several formats."""

import csv
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import orjson

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, RefusedError
from tuneline.data.reading.formats.json_files import find_value_end, is_object_of_splits, table_orientation
from tuneline.data.reading.guards import magic

_ABOUT_DATA = frozenset(("readme", "license", "licence", "copying", "notice", "changelog", "changes", "citation"))
_PLAIN_SUFFIXES = (".txt", ".text", ".csv", ".tsv", ".log", ".md", "")
_SPLIT = re.compile(
    r"(?:^|[-_. /#])(?:(?P<train>train|training)|(?P<validation>validation|valid|val|dev)|"
    r"(?P<test>test|testing|eval|evaluation))(?=$|[-_. /\d])",
    re.IGNORECASE,
)
_SPACE = b" \t\r\n"


def split_in_name(name: str) -> str | None:
    """The split that is named in a file's name, or in a key of an object of splits.

    Args:
        name: with forward slashes, with or without a suffix.

    Returns:
        train, validation or test, by the last such word in the name; None if it has no such word.
    """
    found = [match.lastgroup for match in _SPLIT.finditer(name)]
    return found[-1] if found else None


def is_about_data(name: str) -> bool:
    """Whether a file's name suggests that it describes other files, as README.md and LICENSE do.

    Args:
        name: with forward slashes.
    """
    return PurePosixPath(name).name.partition(".")[0].casefold() in _ABOUT_DATA


def detect_container(head: bytes) -> str:
    """gzip, zstd, zip or tar by the first bytes of a file; empty for any other file."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head):
        return "zstd"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else ""


def detect_table(head: bytes) -> str:
    """parquet or arrow by the first bytes of a file; empty for any other file."""
    if head.startswith((b"PAR1", b"PARE")):
        return "parquet"
    # An Arrow stream starts with a mark and the length of its schema.
    is_stream = head.startswith(b"\xff\xff\xff\xff") and head[7:8] == b"\0" and len(head) > 8
    return "arrow" if is_stream or head.startswith(b"ARROW1") else ""


def detect_text_format(head: bytes, name: str, layout: str, is_whole: bool) -> str:
    """The format of a text file: jsonl, json, csv, text or document.

    Args:
        head: its first bytes without a byte order mark, in an encoding that contains ASCII.
        name: its name, without the suffixes of containers.
        layout: rows or documents.
        is_whole: whether `head` is the whole file.

    Raises:
        RefusedError: the file is in a format that has no rows, such as YAML or Markdown.
    """
    suffix = PurePosixPath(name).suffix.lower()
    what, remedy = magic.find_document(head, suffix)
    if what:
        if layout == "documents":
            return "document"
        about = f"; if it only describes the other files, leave it out with `--exclude {PurePosixPath(name).name}`"
        raise RefusedError(
            f"is {what}: {remedy}, or read each file as one document with `data.layout: documents` "
            f"(`--layout documents`){about if is_about_data(name) else ''}"
        )
    if head.lstrip(_SPACE)[:1] in (b"{", b"["):
        form = _json_form(head, suffix, is_whole)
        if form:
            return form
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".json":
        return "json"
    if suffix in (".csv", ".tsv"):
        return "csv"
    if layout == "documents":
        return "document"
    if suffix in (".txt", ".text"):
        return "text"
    return "csv" if _is_table(head) else "text"


def _json_form(head: bytes, suffix: str, is_whole: bool) -> str:
    """jsonl or json; empty for a plain text that starts with a bracket."""
    lines = [line for line in head.splitlines(keepends=True) if line.strip()]
    if not is_whole and lines and not lines[-1].endswith((b"\n", b"\r")):
        lines.pop()
    parsed = [_parse(line) for line in lines[:20]]
    objects = sum(isinstance(value, dict) for value in parsed)
    # In an array with one row per line, the last line is an object too.
    if objects and 2 * objects >= len(parsed) + head.lstrip(_SPACE).startswith(b"["):
        is_table = len(lines) == 1 and is_whole and (is_object_of_splits(head) or table_orientation(head, is_whole))
        return "json" if is_table else "jsonl"
    first = head.lstrip(_SPACE)
    by_lines = suffix in (".jsonl", ".ndjson")
    if first[:1] == b"{":
        if by_lines and not lines:
            return "json" if table_orientation(head, is_whole) else "jsonl"
        if by_lines:
            return "json" if len(lines) > 1 and not parsed[0] and _is_spread(first) else "jsonl"
        is_json = suffix == ".json" or re.match(rb'\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\})', first)
        return "json" if is_json else ""
    if by_lines and len(lines) > 1 and isinstance(parsed[0], list):
        return "jsonl"
    if suffix in _PLAIN_SUFFIXES:
        # `[verse 1]` and `["Hello," she said]` are plain text.
        inner = first[1:].lstrip(_SPACE)
        end = find_value_end(inner, 0)
        value = _parse(inner[:end]) if end else None
        return "json" if isinstance(value, dict | list) and inner[end:].lstrip(_SPACE)[:1] in (b",", b"]") else ""
    return "json"


def _is_spread(data: bytes) -> bool:
    """Whether a file starts with an object that is written over several lines."""
    end = find_value_end(data, 0)
    # If the first line of JSON lines is cut off, its brackets match only in a later line, and the text is not JSON.
    return isinstance(_parse(data[:end]), dict) if end else is_object_of_splits(data)


def _parse(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _is_table(head: bytes) -> bool:
    lines = [line.decode("latin-1") for line in head[:65_536].splitlines(keepends=True)[:-1] or [head[:65_536]]]
    delimiter, share, columns = best_delimiter([line for line in lines if line.strip()][:50])
    return bool(delimiter) and columns > 1 and share == 1.0 and len(lines) > 1


def best_delimiter(lines: list[str]) -> tuple[str, float, int]:
    """The character between the cells of a table.

    Args:
        lines: the first lines, with their line ends.

    Returns:
        The character, the share of the rows that have as many cells as the first row, and the number of these cells; a
        comma, 1.0 and 1 if the first row has one cell.
    """
    found = [(",", 1.0, 1)]
    for delimiter in ",\t;|":
        if not lines or delimiter not in lines[0]:
            continue
        counts = list(_cell_counts(lines, delimiter))
        if counts and counts[0] > 1:
            found.append((delimiter, counts.count(counts[0]) / len(counts), counts[0]))
    return max(found[1:] or found, key=lambda candidate: candidate[1:])


def _cell_counts(lines: list[str], delimiter: str) -> Iterator[int]:
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue
        if cells:
            yield len(cells)
