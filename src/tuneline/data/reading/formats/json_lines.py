"""JSON lines: one object per line; and the reason why a JSON text is rejected."""

import json
from collections.abc import Iterator

import orjson

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Stream, read_blocks
from tuneline.data.reading.formats import strict_json
from tuneline.data.reading.raw_rows import (
    Portion,
    Rejected,
    Row,
    excerpt,
    new_row,
    reject_encoding,
    reject_too_long,
    reject_zero_byte,
)


def read(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion; empty lines are skipped.

    Args:
        portion: the portion to read.
        stream: at the start of the portion.
        encoding: of the stream.

    Yields:
        Rows and rejected rows.
    """
    line = portion.first_line
    is_utf8 = encoding == "utf-8"
    for block in read_blocks(stream, portion.stop):
        if block.is_cut:
            yield reject_too_long(portion, line, block.offset, block.length, block.data, encoding)
            line += 1
            continue
        offset = block.offset
        spaced = strict_json.has_spaced_keys(block.data)
        is_long = block.length > MAX_ROW_BYTES
        for data in block.data.splitlines(keepends=True):
            if is_utf8:
                values = None if is_long and len(data) > MAX_ROW_BYTES else strict_json.load(data, spaced)
                if values is not None:
                    yield new_row(Row, (line, offset, values))
                elif data.strip():
                    yield reject(portion, line, offset, data)
            else:
                yield from _read_encoded(portion, line, offset, data, encoding)
            offset += len(data)
            line += 1


def _read_encoded(portion: Portion, line: int, offset: int, data: bytes, encoding: str) -> Iterator[Row | Rejected]:
    """The row of a line in an encoding other than UTF-8."""
    try:
        text = data.decode(encoding).strip()
    except UnicodeDecodeError as error:
        yield reject_encoding(portion, line, offset, data, error)
        return
    if not text:
        return
    encoded = text.encode()
    values = strict_json.load(encoded, True) if len(encoded) <= MAX_ROW_BYTES else None
    yield reject(portion, line, offset, encoded) if values is None else Row(line, offset, values)


def reject(portion: Portion, line: int, offset: int, data: bytes) -> Rejected:
    """The rejected row of a JSON text that cannot be a row, with the reason.

    Args:
        portion: the portion of the text.
        line: the line on which it starts.
        offset: of its first byte.
        data: the text, in UTF-8 unless it is broken.
    """
    if len(data) > MAX_ROW_BYTES:
        return reject_too_long(portion, line, offset, len(data), data, "utf-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return reject_encoding(portion, line, offset, data, error)
    if "\0" in text:
        return reject_zero_byte(portion, line, offset, text)
    reason, detail = _find_problem(data, text)
    return Rejected(portion.name, line, offset, reason, detail, excerpt(text.strip()))


def _find_problem(data: bytes, text: str) -> tuple[str, str]:
    """The reason code and the detail."""
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _find_syntax_error(text, error)
    try:
        strict_json.check(data)
    except strict_json.UnsoundError as error:
        return error.reason, error.detail
    return "not-an-object", f"a row must be an object, and this is {strict_json.describe_type(values)}"


def _find_syntax_error(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    if "surrogate" in str(error):
        return "lone-surrogate", "half of a surrogate pair, such as \\ud800 alone"
    if "depth" in str(error):
        return "too-deep", f"nested more than {strict_json.MAX_DEPTH} deep"

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text.rstrip(), parse_constant=refuse, parse_int=float)
    except json.JSONDecodeError as problem:
        return "json", f"{problem.msg.removesuffix(' at')} at character {problem.pos}"
    except RecursionError:
        return "too-deep", f"nested more than {strict_json.MAX_DEPTH} deep"
    except ValueError as constant:
        return "not-finite", f"{constant} is not a JSON value"
    return ("not-finite", "a number that is too large") if "infinity" in str(error) else ("json", str(error))
