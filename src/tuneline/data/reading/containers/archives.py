"""Zip and tar archives: what is in them, and the refusal of those that would harm."""

import re
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
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
from typing import BinaryIO, NamedTuple

from tuneline.data.reading.containers.byte_streams import RefusedError, Stream

MAX_MEMBERS = 10_000
"""Of one archive."""

_MAX_ZIP_DIRECTORY = 4_000_000
_MAX_TAR_HEADER = 65_536
_REGULAR = (b"0", b"\0", b"7")
_TAR_KINDS = {
    SYMTYPE: "a symbolic link",
    LNKTYPE: "a hard link",
    CHRTYPE: "a device",
    BLKTYPE: "a device",
    FIFOTYPE: "a named pipe",
}
_OFFICE = "is an Office document: save it as CSV or plain text"
_KINDS_OF_ZIP = (
    (re.compile(r"\[Content_Types\]\.xml"), _OFFICE),
    (re.compile(r"META-INF/manifest\.xml|mimetype"), "is an OpenDocument or EPUB file: save it as CSV or plain text"),
    (
        re.compile(r"(?:.*/)?data\.pkl"),
        "is a saved PyTorch object, a pickle, which is never loaded: export it as JSON lines",
    ),
    (re.compile(r"[^/]+\.npy"), "is a numpy archive: export it as JSON lines"),
    (re.compile(r"META-INF/MANIFEST\.MF"), "is a Java program: it holds no rows; take it away"),
)


class Member(NamedTuple):
    """A regular file in an archive."""

    name: str
    offset: int
    """Of its first byte in a tar archive; 0 in a zip archive."""
    size: int
    """Unpacked, as the archive says."""


def _check(kind: str, names: list[str]) -> None:
    if len(names) > MAX_MEMBERS:
        raise RefusedError(f"is a {kind} archive of more than {MAX_MEMBERS:,} members; unpack it to a folder")
    for name in names:
        parts = re.split(r"[/\\]", name)
        if not parts[0] or ".." in parts or re.match(r"[A-Za-z]:", name) or not name.isprintable():
            raise RefusedError(
                f"is a {kind} archive whose member {name!r} would climb out of it; do not trust it, pack it anew"
            )
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise RefusedError(f"is a {kind} archive that holds {name!r} {count} times; keep one of them")


def _is_shown(name: str) -> bool:
    """Hidden members are left out as hidden files of a folder are."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.removeprefix("./").split("/"))


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The directory of a zip archive, looked at before zipfile believes it.

    Args:
        file: the archive, from which members are read later.

    Returns:
        The archive.

    Raises:
        RefusedError: it is broken, too large, a document of another kind, or has a member that is no harmless file.
    """
    end = file.seek(0, 2)
    tail_from = max(0, end - 65_557 - 20)
    file.seek(tail_from)
    tail = file.read()
    # zipfile reads the whole directory at once, whatever size the archive claims for it.
    for mark, form, size_at in ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40)):
        at = tail.rfind(mark)
        if at >= 0 and len(tail) >= at + size_at + 8:
            (size,) = struct.unpack_from(form, tail, at + size_at)
            if size > _MAX_ZIP_DIRECTORY and size != 0xFFFFFFFF:
                raise RefusedError(f"is a zip archive of more than {MAX_MEMBERS:,} members; unpack it to a folder")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise RefusedError(f"is a zip archive that is not whole ({error}): copy or download it again") from None
    infos = archive.infolist()
    for pattern, what in _KINDS_OF_ZIP:
        if any(pattern.fullmatch(info.filename) for info in infos):
            raise RefusedError(what)
    _check("zip", [info.filename for info in infos])
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise RefusedError(
                f"is a zip archive whose member {info.filename!r} is a link or a device; pack the file itself"
            )
        if info.flag_bits & 1:
            raise RefusedError("is a zip archive with a password: unpack it yourself")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError("is a zip archive packed in an unusual way: pack it anew with `zip`")
    return archive


def zip_members(archive: zipfile.ZipFile) -> list[Member]:
    """The files in a zip archive, in its order, without hidden ones."""
    infos = [info for info in archive.infolist() if not info.is_dir() and _is_shown(info.filename)]
    return [Member(info.filename, 0, info.file_size) for info in infos]


def tar_members(stream: Stream) -> list[Member]:
    """The files in a tar archive, in its order, without hidden ones; read to its end.

    Args:
        stream: the archive, at its beginning.

    Returns:
        The members.

    Raises:
        RefusedError: it is cut off or broken, or has a member that is no harmless file.
    """
    members = list(_tar_entries(stream))
    _check("tar", [member.name.removeprefix("./") or "." for member in members])
    stream.drain()
    return [member for member in members if member.size >= 0 and _is_shown(member.name)]


def _tar_entries(stream: Stream) -> Iterator[Member]:
    """Files, and folders as members of size -1."""
    long_name, long_size, count = "", -1, 0
    while True:
        header = stream.read(BLOCKSIZE)
        if len(header) < BLOCKSIZE:
            raise RefusedError("is a tar archive that ends in the middle: copy or download it again")
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
                raise RefusedError("is a tar archive with an oversized header; pack it anew with `tar`")
            data = stream.read(_padded(info.size))[: info.size]
            if info.type == GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type == XHDTYPE:
                fields = dict(_pax_fields(data))
                long_name = fields.get("path", long_name)
                size = fields.get("size", "")
                long_size = int(size) if size.isascii() and size.isdecimal() else long_size
                if any(key.startswith("GNU.sparse") for key in fields):
                    raise RefusedError("is a tar archive with a sparse member; pack it anew with `tar` and no --sparse")
            continue
        name, size = long_name or info.name, max(info.size, long_size)
        long_name, long_size = "", -1
        if info.type == DIRTYPE:
            yield Member(name.rstrip("/") or ".", 0, -1)
            continue
        if info.type not in _REGULAR:
            what = _TAR_KINDS.get(info.type, "of an unusual kind")
            raise RefusedError(f"is a tar archive whose member {name!r} is {what}; pack the file itself")
        start = stream.position
        yield Member(name, start, size)
        stream.skip_to(start + _padded(size))


def _padded(size: int) -> int:
    return -(-size // BLOCKSIZE) * BLOCKSIZE


def _pax_fields(data: bytes) -> Iterator[tuple[str, str]]:
    for match in re.finditer(rb"\d+ ([^=\n]+)=([^\n]*)\n", data):
        yield match[1].decode("utf-8", "replace"), match[2].decode("utf-8", "surrogateescape")
