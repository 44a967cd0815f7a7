"""Files as streams of what is in them: gzip, zstd, zip and tar are unpacked while reading.

A stream from the middle of a compressed file can only be had by unpacking what is before it. So a stream that is given
back waits for whoever reads on from there: portions that are read in their order unpack a file once.
"""

import errno
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from tuneline.data.reading.containers import archives
from tuneline.data.reading.containers.archives import Member
from tuneline.data.reading.containers.byte_streams import BLOCK, RefusedError, Stream, transcoded
from tuneline.data.reading.discover import open_regular

MAX_UNPACKED_BYTES = 50_000_000_000
"""Of one file or member."""
MAX_RATIO = 200
"""Unpacked bytes for a packed one, from 16 MB on; text comes to 3 to 20."""
MAX_DEPTH = 2
"""Of containers in containers: `.tar.gz` are two."""

_RATIO_FROM = 16_000_000
_PACKED_BLOCK = 1 << 18
_MAX_WAITING = 4


class Source(NamedTuple):
    """What a stream is a stream of."""

    path: str
    changed: tuple[int, int]
    """Size and time: a file that was replaced is another."""
    containers: tuple[str, ...]
    encoding: str
    """From which it is transcoded to UTF-8; empty: bytes as they are."""


_waiting: dict[Source, Stream] = {}


def source(path: Path, containers: tuple[str, ...], encoding: str = "") -> Source:
    """The source of a stream.

    Args:
        path: of the file on disk.
        containers: as in `Portion`, from the outside to the inside.
        encoding: from which to transcode; empty: bytes as they are.
    """
    status = path.stat()
    return Source(str(path), (status.st_size, status.st_mtime_ns), containers, encoding)


def take(of: Source, offset: int = 0) -> Stream:
    """A stream at an offset; to be given back, or closed.

    Args:
        of: its source.
        offset: in the unpacked (and transcoded) bytes.

    Returns:
        The stream. Reading it raises `RefusedError` where a limit is passed, and one of `UNPACKING_ERRORS` where it is
        broken.
    """
    stream = _waiting.pop(of, None)
    if stream is not None and stream.position > offset:
        stream.close()
        stream = None
    if stream is None:
        stream = _open(of)
    stream.skip_to(offset)
    return stream


def give_back(of: Source, stream: Stream) -> None:
    """Let a stream wait for who reads on from where it is.

    Args:
        of: its source.
        stream: in good order.
    """
    if not (of.containers or of.encoding):
        stream.close()
        return
    if (other := _waiting.pop(of, None)) is not None:
        other.close()
    _waiting[of] = stream
    while len(_waiting) > _MAX_WAITING:
        _waiting.pop(next(iter(_waiting))).close()


def _open(of: Source) -> Stream:
    if of.encoding:
        return transcoded(take(of._replace(encoding="")), of.encoding)
    if not of.containers:
        file = os.fdopen(open_regular(Path(of.path)), "rb", buffering=0)
        return Stream(file.read, file.close, file.seek)
    outer = of._replace(containers=of.containers[:-1])
    kind, _, name = of.containers[-1].partition(":")
    if kind == "zip":
        return _zip_member(_zip(outer), name)
    if kind == "tar":
        return _tar_member(outer, _tar(outer)[name])
    return _gzip(take(outer)) if kind == "gzip" else _zstd(take(outer))


def members(of: Source, kind: str) -> list[Member]:
    """The files in an archive, in its order.

    Args:
        of: the archive.
        kind: zip or tar.

    Returns:
        The members; hidden ones are left out.

    Raises:
        RefusedError: the archive is broken or would harm.
    """
    return archives.zip_members(_zip(of)) if kind == "zip" else list(_tar(of).values())


def seekable(of: Source) -> BinaryIO:
    """A file that can be read from any place; what is packed is unpacked to a temporary file without a name.

    Args:
        of: its source.

    Returns:
        To be closed by the caller.
    """
    if not of.containers:
        return os.fdopen(open_regular(Path(of.path)), "rb")
    stream = take(of)
    descriptor, name = tempfile.mkstemp(prefix="tuneline-")
    Path(name).unlink()
    file = os.fdopen(descriptor, "w+b")
    try:
        while data := stream.read(BLOCK):
            file.write(data)
        file.seek(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise RefusedError(
            f"finds no room in {Path(name).parent} to be unpacked: unpack it yourself, or set TMPDIR to a larger disk"
        ) from None
    finally:
        stream.close()
    return file


@lru_cache(maxsize=_MAX_WAITING)
def _zip(of: Source) -> zipfile.ZipFile:
    return archives.open_zip(seekable(of))


@lru_cache(maxsize=_MAX_WAITING)
def _tar(of: Source) -> dict[str, Member]:
    stream = take(of)
    found = archives.tar_members(stream)
    stream.close()
    return {member.name: member for member in found}


@lru_cache(maxsize=_MAX_WAITING)
def _unpacked(of: Source) -> BinaryIO:
    return seekable(of)


def _tar_member(outer: Source, member: Member) -> Stream:
    end = member.offset + member.size
    if outer.containers and len(_tar(outer)) > 1:
        # Unpacked once: each member is read several times, and every time all that is before it would be unpacked.
        part = _Part(_unpacked(outer), member.offset, end)
        return Stream(part.read, lambda: None, part.seek)
    stream = take(outer, member.offset)
    return Stream(
        lambda size: stream.read(min(size, end - stream.position)),
        lambda: give_back(outer, stream),
        (lambda offset: stream.skip_to(member.offset + offset)),
    )


class _Part:
    """A part of a file; several may be read from one file in turn."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self._at = start

    def seek(self, offset: int) -> None:
        self._at = self._start + offset

    def read(self, size: int) -> bytes:
        data = os.pread(self._file.fileno(), max(0, min(size, self._end - self._at)), self._at)
        self._at += len(data)
        return data


def _zip_member(archive: zipfile.ZipFile, name: str) -> Stream:
    info = archive.getinfo(name)
    file = archive.open(info)
    return _limited(file.read, file.close, lambda: info.compress_size)


def _limited(read: Callable[[int], bytes], close: Callable[[], object], packed: Callable[[], int]) -> Stream:
    """A stream that ends in words at the limits.

    Args:
        read: gives at most so many bytes, none at the end.
        close: when no more is wanted.
        packed: how many packed bytes have been used up, or will be.
    """
    unpacked = 0

    def limited(size: int) -> bytes:
        nonlocal unpacked
        data = read(min(size, BLOCK))
        unpacked += len(data)
        if unpacked > MAX_UNPACKED_BYTES:
            raise RefusedError(f"unpacks to more than {MAX_UNPACKED_BYTES:,} bytes: unpack it, and split it")
        if unpacked > _RATIO_FROM and unpacked > MAX_RATIO * packed():
            raise RefusedError(
                f"unpacks to more than {MAX_RATIO} times its size, as bombs do: if you trust it, unpack it yourself"
            )
        return data

    return Stream(limited, close)


def _gzip(stream: Stream) -> Stream:
    """All members of a gzip file, one after the other, each up to its check sum."""
    unpacker = zlib.decompressobj(wbits=31)
    waiting = b""

    def read(size: int) -> bytes:
        nonlocal unpacker, waiting
        while True:
            if unpacker.eof:
                waiting = waiting.lstrip(b"\0") or stream.read(_PACKED_BLOCK).lstrip(b"\0")
                if not waiting:
                    return b""
                unpacker = zlib.decompressobj(wbits=31)
            packed = waiting or stream.read(_PACKED_BLOCK)
            data = unpacker.decompress(packed, size)
            waiting = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if data:
                return data
            if not packed and not unpacker.eof:
                raise EOFError("it ends before its end mark")

    return _limited(read, stream.close, lambda: stream.position)


def _zstd(stream: Stream) -> Stream:
    unpacked = pa.CompressedInputStream(pa.PythonFile(_Readable(stream), mode="r"), "zstd")
    return _limited(lambda size: cast(bytes, unpacked.read(size)), stream.close, lambda: stream.position)


class _Readable:
    """A stream as pyarrow takes it."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        return self._stream.read(size)
