"""The content of a file without some of its rows; the bytes of all other rows stay as they are.

In Parquet and Arrow files, which hold columns, the values of the other rows stay as they are.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from tuneline.data.reading.formats import json_files
from tuneline.data.reading.guards import encodings
from tuneline.data.removing.found_rows import FoundRows
from tuneline.errors import DataError

_LINES = ("jsonl", "csv", "tsv", "text")
_SPACE = b" \t\r\n"


def refusal(found: FoundRows, path: Path) -> str | None:
    """Why rows of a file cannot be removed, with the remedy; None if they can.

    Args:
        found: the rows.
        path: of the file.
    """
    kinds = {(portion.format, portion.containers, portion.orientation) for portion in found.plan.portions}
    containers = {container for _, names, _ in kinds for container in names}
    if containers:
        inside = " and ".join(sorted(name.partition(":")[0] for name in containers))
        return f"{path}: rows of a file inside {inside} cannot be removed; unpack it in the set, then run this again"
    if any(orientation for _, _, orientation in kinds):
        return (
            f"{path}: is one JSON object with a table in it, from which single rows cannot be removed; write one row "
            "per line, then run this again"
        )
    if {portion.path for portion in found.plan.portions} != {str(path)}:
        return f"{path}: cannot be changed in place; write one row per line, then run this again"
    if any(encodings.is_wide(portion.encoding) for portion in found.plan.portions):
        return f"{path}: is in {found.plan.encoding}; convert it to UTF-8, then run this again"
    return None


def without(found: FoundRows, path: Path, target: Path) -> bool:
    """Write a file without the rows that are meant.

    Args:
        found: the rows; `refusal` has been asked.
        path: of the file.
        target: the file to write.

    Returns:
        Whether a row is left; if not, nothing is written.

    Raises:
        DataError: the file holds other rows than were found.
    """
    if len(found.meant) == len(found.starts):
        return False
    kind = found.plan.portions[0].format
    if kind == "parquet":
        table = _kept(pq.read_table(path), found, path)
        compression = pq.ParquetFile(path).metadata.row_group(0).column(0).compression
        pq.write_table(table, target, compression=compression if compression != "UNCOMPRESSED" else "none")
    elif kind == "arrow":
        _write_arrow(found, path, target)
    elif kind in _LINES:
        target.write_bytes(_without_lines(path.read_bytes(), found.starts, found.meant))
    else:
        target.write_bytes(_without_values(path.read_bytes(), [found.starts[number] for number in found.meant]))
    return True


def _without_lines(content: bytes, starts: Sequence[int], meant: Sequence[int]) -> bytes:
    """The content without rows, each of which ends where the next one starts."""
    kept, at = [], 0
    for number in meant:
        kept.append(content[at : starts[number]])
        at = starts[number + 1] if number + 1 < len(starts) else len(content)
    return b"".join([*kept, content[at:]])


def _without_values(content: bytes, starts: Sequence[int]) -> bytes:
    """A JSON text without the values at some offsets, and without the commas that belong to them."""
    kept, at = bytearray(), 0
    for start in starts:
        kept += content[at:start]
        end = json_files.find_value_end(content, start)
        after = _skip_space(content, end)
        if content[after : after + 1] == b",":
            at = _skip_space(content, after + 1)
            continue
        bare = kept.rstrip(_SPACE)
        if bare.endswith(b","):
            kept = bare[:-1]
        at = end
    return bytes(kept + content[at:])


def _skip_space(content: bytes, at: int) -> int:
    while content[at : at + 1] in (b" ", b"\t", b"\r", b"\n"):
        at += 1
    return at


def _kept(table: pa.Table, found: FoundRows, path: Path) -> pa.Table:
    if table.num_rows != len(found.starts):
        raise DataError(
            f"{path}: has {table.num_rows} rows, of which only {len(found.starts)} were read; nothing is changed"
        )
    meant = set(found.meant)
    return table.take(pa.array([number for number in range(table.num_rows) if number not in meant], pa.int64()))


def _write_arrow(found: FoundRows, path: Path, target: Path) -> None:
    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        table = _kept(reader.read_all(), found, path)
    with pa.OSFile(str(target), "wb") as sink:
        writer = pa.ipc.new_file(sink, table.schema) if is_file else pa.ipc.new_stream(sink, table.schema)
        with writer:
            writer.write_table(table)
