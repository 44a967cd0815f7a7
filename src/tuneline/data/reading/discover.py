"""The files of a raw set: finding, excluding and opening them."""

import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tuneline.errors import DataError

FORMATS = "JSON lines, JSON, CSV, TSV, Parquet, Arrow and plain text, also in gzip, zstd, zip or tar"
_SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FoundFile(NamedTuple):
    """A file of a set."""

    path: Path
    name: str
    """Relative to the set, with forward slashes; if the set is one file, the name of the file."""
    refusal: str
    """Why it is not opened, and the remedy; empty if it can be opened."""


def find_files(path: Path) -> list[FoundFile]:
    """The files of a raw set in the order of their names, without hidden ones; at least one.

    Args:
        path: a folder, or one file.

    Raises:
        DataError: the path does not exist, or has no files.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file or folder; `dvc repro sample` makes the built-in corpus, `dvc pull` fetches a set "
            "that DVC tracks, `tuneline use PATH` adds your own data"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be accessed: {error.strerror}; give another path") from None
    if not stat.S_ISDIR(mode):
        return [FoundFile(path, printable(path.name), _refusal(path, mode))]
    found: list[FoundFile] = []
    for folder, folders, names in os.walk(path, onerror=lambda error: found.append(_refused_folder(path, error))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *names):
            file = Path(folder, name)
            if not name.startswith(".") and not stat.S_ISDIR(mode := file.lstat().st_mode):
                found.append(FoundFile(file, printable(file.relative_to(path).as_posix()), _refusal(file, mode)))
    if not found:
        raise DataError(f"{path}: holds no files; put {FORMATS} there, or add your own data with `tuneline use PATH`")
    return sorted(found, key=lambda file: file.name)


def matching_pattern(name: str, patterns: Sequence[str]) -> str:
    """The first pattern that excludes a file, with the rules of .gitignore; empty if none does.

    Args:
        name: of the file, relative to the set, with forward slashes.
        patterns: a pattern without a slash is compared with every part of the name, a pattern with a slash with the
            whole name and with each of its folders.
    """
    path = PurePosixPath(name)
    paths = [name, *(parent.as_posix() for parent in path.parents if parent.name)]
    for pattern in patterns:
        plain = pattern.removeprefix("./").strip("/")
        if any(fnmatchcase(part, plain) for part in (paths if "/" in plain else path.parts)):
            return pattern
    return ""


def _refusal(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return f"is a symbolic link to {path.readlink()}, which may be any file; put (or name) the file itself"
    if not stat.S_ISREG(mode):
        what = _SPECIAL_FILES.get(stat.S_IFMT(mode), "a special file")
        return f"is {what}, not a regular file; copy its content to a file"
    if not path.name.isprintable():
        return "has a name with control characters or with bytes that are not UTF-8; rename it"
    return ""


def printable(name: str) -> str:
    """A name with escapes for the characters that cannot be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _refused_folder(root: Path, error: OSError) -> FoundFile:
    folder = Path(error.filename)
    name = printable(folder.relative_to(root).as_posix())
    return FoundFile(folder, name, f"cannot be entered: {error.strerror}; change its permissions")


def open_regular(path: Path) -> int:
    """A file descriptor of a regular file, to be closed; links and pipes that were put there meanwhile are refused.

    Raises:
        DataError: the file cannot be read or is not a regular file; the message does not have its name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise DataError("may not be read by this user; change its permissions") from None
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}; copy it to a local disk") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError("is not a regular file; copy its content to a file")
    return descriptor
