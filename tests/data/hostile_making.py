"""How hostile and odd inputs are made, and what is said of each."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROW = b'{"text": "good"}\n'
"""A row that is 17 bytes long."""


class Case(NamedTuple):
    """One file."""

    name: str
    content: bytes
    verdict: str
    """accepted, some (rows set aside) or refused."""
    rejected: tuple[tuple[int, int, str], ...] = ()
    """Line, byte offset and reason code."""
    message: str = ""
    """Words of the refusal, or of a warning."""
    rows: int = 0
    """Accepted."""
    options: Mapping[str, str] = MappingProxyType({})
    file: str = ""
    """The file of the set that is meant, where it is not the only one."""


def between(row: bytes) -> bytes:
    """A row between two good ones."""
    return ROW + row + b"\n" + ROW


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return file.getvalue()


def tarred(
    *members: tuple[str, bytes], mode: str = "w", change: Callable[[tarfile.TarInfo], None] | None = None
) -> bytes:
    """A tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    return file.getvalue()


def as_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def as_device(info: tarfile.TarInfo) -> None:
    info.type, info.size = tarfile.CHRTYPE, 0


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """A parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def arrow(columns: dict[str, Any], stream: bool, compression: str | None = None) -> bytes:
    """An Arrow file or stream."""
    file = io.BytesIO()
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def flipped(data: bytes, at: int) -> bytes:
    """With one byte changed."""
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


CHINESE = "中国很大，我们走吧。\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n"
JAPANESE = "今日は天気がいいですね。\n日本語のテキストです。\nこれはペンです。\n"
FRENCH = "Le café est très bon.\nDéjà vu à Noël.\nOù est la forêt ?\n"
LONG = 2_000_000
