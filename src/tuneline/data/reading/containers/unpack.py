"""Files as byte streams: gzip, zstd, zip and tar are unpacked while they are read, and harmful archives are refused.

To read a compressed file from its middle, all bytes before it must be unpacked. So a stream that is no longer needed
can be kept for the next reader: portions that are read in their order unpack a file once.
"""

import errno
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from tarfile import (
    BLKTYPE,
    BLOCKSIZE,
    CHRTYPE,
    DIRTYPE,
    FIFOTYPE,
    GNUTYPE_LONGNAME,
    LNKTYPE,
    SYMTYPE,
    XGLTYPE,
    XHDTYPE,
    HeaderError,
    TarInfo,
)
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from tuneline.data.reading.containers.byte_streams import (
    BLOCK,
    MAX_RATIO,
    RATIO_FROM,
    RefusedError,
    Stream,
    transcode,
)
from tuneline.data.reading.discover import open_regular

MAX_UNPACKED_BYTES = 50_000_000_000
"""Of one file or member."""
MAX_DEPTH = 2
"""Containers inside of each other; a `.tar.gz` is two."""
MAX_MEMBERS = 10_000
"""Of one archive."""

_PACKED_BLOCK = 1 << 18
_MAX_KEPT = 4
_MAX_ZIP_DIRECTORY = 4_000_000
_MAX_TAR_HEADER = 65_536
_REGULAR_TAR_TYPES = (b"0", b"\0", b"7")
_REFUSED_TAR_TYPES = {
    SYMTYPE: "a symbolic link",
    LNKTYPE: "a hard link",
    CHRTYPE: "a device",
    BLKTYPE: "a device",
    FIFOTYPE: "a named pipe",
}
_REFUSED_ZIP_FILES = (
    (re.compile(r"\[Content_Types\]\.xml"), "is an Office document: save it as CSV or plain text"),
    (re.compile(r"META-INF/manifest\.xml|mimetype"), "is an OpenDocument or EPUB file: save it as CSV or plain text"),
    (
        re.compile(r"(?:.*/)?data\.pkl"),
        "is a saved PyTorch object, a pickle, which is never loaded: export it as JSON lines",
    ),
    (re.compile(r"[^/]+\.npy"), "is a numpy archive: export it as JSON lines"),
    (re.compile(r"META-INF/MANIFEST\.MF"), "is a Java program, which holds no rows; remove it"),
)


class Source(NamedTuple):
    """What a stream reads."""

    path: str
    changed: tuple[int, int]
    """Size in bytes and modification time in ns, so that a file that was replaced is another source."""
    containers: tuple[str, ...]
    encoding: str
    """From which the bytes are transcoded to UTF-8; empty: they are not."""


class Member(NamedTuple):
    """A regular file in an archive."""

    name: str
    offset: int
    """Of its first byte in a tar archive; 0 in a zip archive."""
    size: int
    """Unpacked, as the archive claims."""


_kept: dict[Source, Stream] = {}


def new_source(path: Path, containers: tuple[str, ...], encoding: str = "") -> Source:
    """The source of a stream.

    Args:
        path: of the file on disk.
        containers: as in `Portion`, from the outermost to the innermost.
        encoding: from which to transcode to UTF-8; empty: bytes as they are.
    """
    status = path.stat()
    return Source(str(path), (status.st_size, status.st_mtime_ns), containers, encoding)


def open_stream(source: Source, offset: int = 0) -> Stream:
    """A stream at an offset, for `keep_stream` or to be closed.

    Args:
        source: what to read.
        offset: in the unpacked (and transcoded) bytes.

    Returns:
        The stream. Its methods raise `RefusedError` at a limit, and one of `UNPACKING_ERRORS` if the file is broken.
    """
    stream = _kept.pop(source, None)
    if stream is not None and stream.position > offset:
        stream.close()
        stream = None
    if stream is None:
        stream = _open(source)
    stream.skip_to(offset)
    return stream


def keep_stream(source: Source, stream: Stream) -> None:
    """Keep a stream for the next reader of its source, who continues where it is now.

    Args:
        source: of the stream.
        stream: a stream of which no call has failed.
    """
    if not (source.containers or source.encoding):
        stream.close()
        return
    if (other := _kept.pop(source, None)) is not None:
        other.close()
    _kept[source] = stream
    while len(_kept) > _MAX_KEPT:
        _kept.pop(next(iter(_kept))).close()


def _open(source: Source) -> Stream:
    if source.encoding:
        return transcode(open_stream(source._replace(encoding="")), source.encoding)
    if not source.containers:
        file = os.fdopen(open_regular(Path(source.path)), "rb", buffering=0)
        return Stream(file.read, file.close, file.seek)
    outer = source._replace(containers=source.containers[:-1])
    kind, _, name = source.containers[-1].partition(":")
    if kind == "zip":
        return _open_zip_member(_open_zip(outer), name)
    if kind == "tar":
        return _open_tar_member(outer, _tar_members(outer)[name])
    return _open_gzip(open_stream(outer)) if kind == "gzip" else _open_zstd(open_stream(outer))


def list_members(source: Source, kind: str) -> list[Member]:
    """The files in an archive, in its order, without hidden ones.

    Args:
        source: the archive.
        kind: zip or tar.

    Raises:
        RefusedError: the archive is broken or harmful.
    """
    if kind == "tar":
        return list(_tar_members(source).values())
    infos = [info for info in _open_zip(source).infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    return [Member(info.filename, 0, info.file_size) for info in infos]


def open_seekable(source: Source) -> BinaryIO:
    """A file that can be read from any offset, to be closed; packed files are unpacked to a temporary file."""
    if not source.containers:
        return os.fdopen(open_regular(Path(source.path)), "rb")
    stream = open_stream(source)
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
            f"does not fit into {Path(name).parent} when unpacked: unpack it yourself, or set TMPDIR to a larger disk"
        ) from None
    finally:
        stream.close()
    return file


def _check_names(kind: str, names: list[str]) -> None:
    if len(names) > MAX_MEMBERS:
        raise RefusedError(f"is a {kind} archive of more than {MAX_MEMBERS:,} members; unpack it to a folder")
    for name in names:
        parts = re.split(r"[/\\]", name)
        if not parts[0] or ".." in parts or re.match(r"[A-Za-z]:", name) or not name.isprintable():
            raise RefusedError(
                f"is a {kind} archive with the member {name!r}, whose path leads out of the archive; do not trust it, "
                "pack it again"
            )
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise RefusedError(f"is a {kind} archive that holds {name!r} {count} times; keep one of them")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.removeprefix("./").split("/"))


@lru_cache(maxsize=_MAX_KEPT)
def _open_zip(source: Source) -> zipfile.ZipFile:
    """A zip archive whose directory was checked; raises RefusedError if it is broken, too large or harmful."""
    file = open_seekable(source)
    end = file.seek(0, 2)
    file.seek(max(0, end - 65_557 - 20))
    tail = file.read()
    # zipfile reads the whole directory at once, so its claimed size is checked first.
    for mark, form, size_at in ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40)):
        at = tail.rfind(mark)
        if at >= 0 and len(tail) >= at + size_at + 8:
            (size,) = struct.unpack_from(form, tail, at + size_at)
            if size > _MAX_ZIP_DIRECTORY and size != 0xFFFFFFFF:
                raise RefusedError(f"is a zip archive of more than {MAX_MEMBERS:,} members; unpack it to a folder")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise RefusedError(f"is not a complete zip archive ({error}): copy or download it again") from None
    infos = archive.infolist()
    for pattern, problem in _REFUSED_ZIP_FILES:
        if any(pattern.fullmatch(info.filename) for info in infos):
            raise RefusedError(problem)
    _check_names("zip", [info.filename for info in infos])
    for info in infos:
        file_type = stat.S_IFMT(info.external_attr >> 16)
        if file_type and not (stat.S_ISREG(file_type) or stat.S_ISDIR(file_type)):
            raise RefusedError(
                f"is a zip archive whose member {info.filename!r} is a link or a device; pack the file itself"
            )
        if info.flag_bits & 1:
            raise RefusedError("is a zip archive with a password: unpack it yourself")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError("is a zip archive with an unusual compression: pack it again with `zip`")
    return archive


@lru_cache(maxsize=_MAX_KEPT)
def _tar_members(source: Source) -> dict[str, Member]:
    """The files in a tar archive, without hidden ones; raises RefusedError if it is broken or harmful."""
    stream = open_stream(source)
    members = list(_read_tar_headers(stream))
    _check_names("tar", [member.name.removeprefix("./") or "." for member in members])
    stream.drain()
    stream.close()
    return {member.name: member for member in members if member.size >= 0 and not _is_hidden(member.name)}


def _read_tar_headers(stream: Stream) -> Iterator[Member]:
    """The files of a tar archive, and its folders as members of size -1."""
    long_name, long_size, count = "", -1, 0
    while True:
        header = stream.read(BLOCKSIZE)
        if len(header) < BLOCKSIZE:
            raise RefusedError("is a tar archive that is cut off: copy or download it again")
        if not header.strip(b"\0"):
            return
        try:
            info = TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (HeaderError, ValueError) as error:
            raise RefusedError(f"is a tar archive that is broken ({error}): copy or download it again") from None
        if info.size < 0:
            raise RefusedError("is a tar archive that is broken (a negative size): copy or download it again")
        count += 1
        if count > 2 * MAX_MEMBERS:
            raise RefusedError(f"is a tar archive of more than {MAX_MEMBERS:,} members; unpack it to a folder")
        if info.type in (GNUTYPE_LONGNAME, XHDTYPE, XGLTYPE):
            if info.size > _MAX_TAR_HEADER:
                raise RefusedError("is a tar archive with an oversized header; pack it again with `tar`")
            data = stream.read(_padded(info.size))[: info.size]
            if info.type == GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type == XHDTYPE:
                fields = dict(_pax_fields(data))
                long_name = fields.get("path", long_name)
                size = fields.get("size", "")
                long_size = int(size) if size.isascii() and size.isdecimal() else long_size
                if any(key.startswith("GNU.sparse") for key in fields):
                    raise RefusedError("is a tar archive with a sparse member; pack it again with `tar`, not --sparse")
            continue
        name, size = long_name or info.name, max(info.size, long_size)
        long_name, long_size = "", -1
        if info.type == DIRTYPE:
            yield Member(name.rstrip("/") or ".", 0, -1)
            continue
        if info.type not in _REGULAR_TAR_TYPES:
            what = _REFUSED_TAR_TYPES.get(info.type, "of an unusual type")
            raise RefusedError(f"is a tar archive whose member {name!r} is {what}; pack the file itself")
        start = stream.position
        yield Member(name, start, size)
        stream.skip_to(start + _padded(size))


def _padded(size: int) -> int:
    return -(-size // BLOCKSIZE) * BLOCKSIZE


def _pax_fields(data: bytes) -> Iterator[tuple[str, str]]:
    for match in re.finditer(rb"\d+ ([^=\n]+)=([^\n]*)\n", data):
        yield match[1].decode("utf-8", "replace"), match[2].decode("utf-8", "surrogateescape")


@lru_cache(maxsize=_MAX_KEPT)
def _unpacked_archive(source: Source) -> BinaryIO:
    return open_seekable(source)


def _open_tar_member(archive: Source, member: Member) -> Stream:
    end = member.offset + member.size
    if archive.containers and len(_tar_members(archive)) > 1:
        # Unpacked once: otherwise every reader of every member would unpack all that is before it.
        part = _FilePart(_unpacked_archive(archive), member.offset, end)
        return Stream(part.read, lambda: None, part.seek)
    stream = open_stream(archive, member.offset)
    return Stream(
        lambda size: stream.read(min(size, end - stream.position)),
        lambda: keep_stream(archive, stream),
        (lambda offset: stream.skip_to(member.offset + offset)),
    )


class _FilePart:
    """A part of a file, with a position of its own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self._at = start

    def seek(self, offset: int) -> None:
        self._at = self._start + offset

    def read(self, size: int) -> bytes:
        data = os.pread(self._file.fileno(), max(0, min(size, self._end - self._at)), self._at)
        self._at += len(data)
        return data


def _open_zip_member(archive: zipfile.ZipFile, name: str) -> Stream:
    info = archive.getinfo(name)
    file = archive.open(info)
    return _limited(file.read, file.close, lambda: info.compress_size)


def _limited(read: Callable[[int], bytes], close: Callable[[], object], packed: Callable[[], int]) -> Stream:
    """A stream that raises RefusedError at the limits.

    Args:
        read: takes a size and returns at most so many bytes; empty at the end.
        close: called when the stream is closed.
        packed: returns the number of packed bytes that were read, or that the member has.
    """
    unpacked = 0

    def limited(size: int) -> bytes:
        nonlocal unpacked
        data = read(min(size, BLOCK))
        unpacked += len(data)
        if unpacked > MAX_UNPACKED_BYTES:
            raise RefusedError(f"unpacks to more than {MAX_UNPACKED_BYTES:,} bytes: unpack it, and split it")
        if unpacked > RATIO_FROM and unpacked > MAX_RATIO * packed():
            raise RefusedError(
                f"unpacks to more than {MAX_RATIO} times its size, as bombs do: if you trust it, unpack it yourself"
            )
        return data

    return Stream(limited, close)


def _open_gzip(stream: Stream) -> Stream:
    """All members of a gzip file, one after the other; the checksum of each is checked."""
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


def _open_zstd(stream: Stream) -> Stream:
    unpacked = pa.CompressedInputStream(pa.PythonFile(_Readable(stream), mode="r"), "zstd")
    return _limited(lambda size: cast(bytes, unpacked.read(size)), stream.close, lambda: stream.position)


class _Readable:
    """A stream with the methods of a file that pyarrow needs."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        return self._stream.read(size)
