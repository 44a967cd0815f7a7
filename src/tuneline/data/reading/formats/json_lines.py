"""JSON lines: an object a line; and what makes any JSON text a row, or a row that is set aside."""

import json
from collections.abc import Iterator

import orjson

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, Block, Stream, blocks
from tuneline.data.reading.formats import plain_text, strict_json
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt, new_row


def read(portion: Portion, stream: Stream, encoding: str) -> Iterator[Row | Rejected]:
    """The rows of a portion.

    Args:
        portion: what is read.
        stream: at its start.
        encoding: of the stream.

    Yields:
        Rows, and what is set aside; blank lines lie between them.
    """
    line = portion.first_line
    is_utf8 = encoding == "utf-8"
    for block in blocks(stream, portion.stop):
        if block.is_cut:
            yield plain_text.too_long(portion, line, block, encoding)
            line += 1
            continue
        offset = block.offset
        spaced = strict_json.has_spaced_keys(block.data)
        is_long = block.length > MAX_ROW_BYTES
        for data in block.data.splitlines(keepends=True):
            # Only an object is taken here; whatever is odd about a line is found out below.
            if is_utf8:
                values = None if is_long and len(data) > MAX_ROW_BYTES else strict_json.load(data, spaced)
                if values is not None:
                    yield new_row(Row, (line, offset, values))
                elif data.strip():
                    yield diagnose(portion, line, offset, data)
            else:
                yield from _in_other_encoding(portion, line, offset, data, encoding)
            offset += len(data)
            line += 1


def _in_other_encoding(
    portion: Portion, line: int, offset: int, data: bytes, encoding: str
) -> Iterator[Row | Rejected]:
    try:
        text = data.decode(encoding).strip()
    except UnicodeDecodeError as error:
        yield plain_text.wrong_encoding(portion, line, offset, data, error)
        return
    if not text:
        return
    encoded = text.encode()
    values = strict_json.load(encoded, True) if len(encoded) <= MAX_ROW_BYTES else None
    yield diagnose(portion, line, offset, encoded) if values is None else Row(line, offset, values)


def diagnose(portion: Portion, line: int, offset: int, data: bytes) -> Rejected:
    """What is wrong with a JSON text that is no row.

    Args:
        portion: that it is in.
        line: on which it begins.
        offset: of its first byte.
        data: UTF-8, as it should be.

    Returns:
        The row that is set aside.
    """
    if len(data) > MAX_ROW_BYTES:
        return plain_text.too_long(portion, line, Block(offset, data[:1000], len(data), 0), "utf-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return plain_text.wrong_encoding(portion, line, offset, data, error)
    if "\0" in text:
        return plain_text.nul_byte(portion, line, offset, text)
    reason, detail = _problem(data, text)
    return Rejected(portion.name, line, offset, reason, detail, excerpt(text.strip()))


def _problem(data: bytes, text: str) -> tuple[str, str]:
    """The reason code and the detail."""
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _syntax(text, error)
    try:
        strict_json.check(data)
    except strict_json.UnsoundError as error:
        return error.reason, error.detail
    return "not-an-object", f"a row is an object, here is {strict_json.describe_type(values)}"


def _syntax(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    if "surrogate" in str(error):
        return "lone-surrogate", "half a character, such as \\ud800 without its partner"
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
        return "not-finite", f"{constant} is no JSON value"
    return ("not-finite", "a number too large to be one") if "infinity" in str(error) else ("json", str(error))
