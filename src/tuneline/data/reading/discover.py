"""Where the files of a set are, and which of them are no files at all."""

import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tuneline.errors import DataError

FORMATS = "JSON lines, JSON, CSV, TSV, Parquet, Arrow and plain text, also in gzip, zstd, zip or tar"


class Place(NamedTuple):
    """One file of a set."""

    path: Path
    name: str
    """Relative to the set, with forward slashes; of a set that is one file, its own name."""
    refusal: str
    """Why it is not even opened; empty where it may be."""


def find(path: Path) -> list[Place]:
    """The files of a raw set, in the order of their names; hidden ones are left out.

    Args:
        path: a folder, or one file.

    Returns:
        At least one.

    Raises:
        DataError: nothing is there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file or folder; `dvc repro sample` makes the built-in corpus, `dvc pull` fetches a set "
            "that DVC keeps, `tuneline use PATH` takes your own"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at: {error.strerror}; give another path") from None
    if not stat.S_ISDIR(mode):
        return [Place(path, printable(path.name), _refusal(path, mode))]
    found: list[Place] = []
    for folder, folders, names in os.walk(path, onerror=lambda error: found.append(_closed(path, error))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *names):
            file = Path(folder, name)
            if not name.startswith(".") and not stat.S_ISDIR(mode := file.lstat().st_mode):
                found.append(Place(file, printable(file.relative_to(path).as_posix()), _refusal(file, mode)))
    if not found:
        raise DataError(f"{path}: holds no files; put {FORMATS} there, or take your own set with `tuneline use PATH`")
    return sorted(found, key=lambda place: place.name)


def matching_pattern(name: str, patterns: Sequence[str]) -> str:
    """The first pattern that leaves a file out, as .gitignore reads patterns; empty where none does.

    Args:
        name: of the file, relative to the set, with forward slashes.
        patterns: one without a slash is held against every part of the name, one with a slash against all of it and
            against its folders.
    """
    path = PurePosixPath(name)
    wholes = [name, *(parent.as_posix() for parent in path.parents if parent.name)]
    for pattern in patterns:
        plain = pattern.removeprefix("./").strip("/")
        if any(fnmatchcase(part, plain) for part in (wholes if "/" in plain else path.parts)):
            return pattern
    return ""


def _refusal(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return f"is a symbolic link to {path.readlink()}, which may show any file; put (or name) the file itself"
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    if not stat.S_ISREG(mode):
        return f"is no regular file but {kinds.get(stat.S_IFMT(mode), 'something else')}; copy its content to a file"
    if not path.name.isprintable():
        return "has a name that cannot be shown: control characters, or bytes that are no UTF-8; rename it"
    return ""


def printable(name: str) -> str:
    """A name as it may stand in a report: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _closed(root: Path, error: OSError) -> Place:
    folder = Path(error.filename)
    name = printable(folder.relative_to(root).as_posix())
    return Place(folder, name, f"cannot be entered: {error.strerror}; change its permissions")


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, never of a link or a pipe that was put there meanwhile.

    Args:
        path: of the file.

    Returns:
        To be closed by the caller.

    Raises:
        DataError: it may not be read, or is no regular file; without the file's name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise DataError("may not be read by this user; change its permissions") from None
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}; copy it to a local disk") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError("is no regular file; copy its content to a file")
    return descriptor
