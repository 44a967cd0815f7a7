"""Writing so that nothing half-written is ever read as whole; hashes; JSON lines and parquet."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.errors import UnreadableFileError, one_line
from tuneline.work import WORK

# Bytes that the kernel is asked to copy at once: a multiple of every file system's blocks.
_AT_ONCE = 1 << 30
# Bytes; a report or an account of this project's holds some thousands.
_LARGEST_JSON = 1 << 26
_PARTIAL = ".partial"
# Behind the name of a folder that makes room for the one which replaces it.
_ASIDE = ".replaced.partial"
# In the name of what is being written; the ids of processes are of versions before.
_TOKEN = re.compile(r"[0-9a-f]{12}|\d+")
_OF_A_WRITE = re.compile(rf"\..+\.({_TOKEN.pattern})(\.replaced)?\.partial")
TEMPORARY = WORK / "temporary"
"""The folders that are gone when their process has ended."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it is synced to disk and renamed over `path`.

    Args:
        path: the file to be made or replaced; its folder is made.

    Yields:
        An empty file to write to, on the same file system.
    """
    with _beside(path, Path.touch) as beside:
        yield beside
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; on success every file is synced and the folder takes `path`'s place.

    Args:
        path: the folder to be made or replaced. What a kill in the middle of the replacement has left beside it is put
            back first.

    Yields:
        An empty folder, on the same file system.
    """
    for left in _left_of(path, _ASIDE):
        with _claimed(left) as is_claimed:
            if is_claimed:
                _put_back(left, path)
    with _beside(path, Path.mkdir) as beside:
        yield beside
        for file in beside.rglob("*"):
            _sync(file)
        _sync(beside)
        # A folder cannot be renamed over one that holds files, so the old one makes room, and goes last.
        aside = path.with_name(f".{path.name}.{_token()}{_ASIDE}")
        with _claimed(path):
            try:
                with suppress(FileNotFoundError):
                    path.replace(aside)
                beside.replace(path)
                _sync(path.parent)
            finally:
                _put_back(aside, path)


def _put_back(aside: Path, path: Path) -> None:
    """The old folder goes where the new one stands; where only the first rename of `atomic_folder` was done, it comes
    back."""
    if path.exists():
        _remove(aside)
    else:
        with suppress(FileNotFoundError):
            aside.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` for what is needed on the way; it is gone afterwards.

    Args:
        path: what is being made.

    Yields:
        The folder, on the same file system; one that a killed process left is removed first.
    """
    with _beside(path.with_name(f"{path.name}-work"), Path.mkdir) as beside:
        yield beside


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder for what is gone afterwards, in the project's work/.

    Yields:
        The folder, by its absolute path; those that killed processes have left there are removed first.
    """
    place = TEMPORARY.absolute()
    place.mkdir(parents=True, exist_ok=True)
    for left in place.iterdir():
        remove_left(left)
    with _owned(lambda: place / _token(), Path.mkdir) as folder:
        yield folder


@contextmanager
def _beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Where this process writes what is to become `path`; what killed processes have left there goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left_of(path, _PARTIAL):
        remove_left(left)
    with _owned(lambda: path.with_name(f".{path.name}.{_token()}{_PARTIAL}"), make) as beside:
        yield beside


def _left_of(path: Path, end: str) -> list[Path]:
    """What lies beside `path` under the names that processes give to what they write."""
    start = f".{path.name}."
    found = path.parent.glob(f"{glob.escape(start)}*{end}")
    return [one for one in found if _TOKEN.fullmatch(one.name.removeprefix(start).removesuffix(end))]


def _token() -> str:
    """No two are alike, on whatever machine or in whatever container they are made."""
    return secrets.token_hex(6)


@contextmanager
def _owned(name: Callable[[], Path], make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder that is this process's as long as the block runs, and is gone afterwards.

    Whose it is the kernel knows: the lock on it ends with its process, whatever the process's id, or its container.

    Args:
        name: gives a path that is not there yet.
        make: makes it.
    """
    while True:
        path = name()
        make(path)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            # Another process took it for left over before it was locked.
            continue
        # Where a file system knows no such locks, what is left over stays, as nobody can claim it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        _remove(path)
        # Of those, too, that a fork has made of it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether nobody writes a file or folder, so that it is this process's while the block runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        # It is gone, or may not be read by this user.
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_claimed = _is_at(descriptor, path)
    except OSError:
        is_claimed = False
    try:
        yield is_claimed
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def is_left(path: Path) -> bool:
    """Whether a file or folder that was being written has no process any more that writes it."""
    with _claimed(path) as is_claimed:
        return is_claimed


def remove_left(path: Path) -> None:
    """Remove a file or folder that was being written, if no process writes it any more."""
    with _claimed(path) as is_claimed:
        if is_claimed:
            _remove(path)


def being_written(place: Path) -> list[Path]:
    """What lies in a folder under the names that `atomic_file`, `atomic_folder` and `work_folder` give."""
    return sorted(one for one in place.glob(f".*{_PARTIAL}") if _OF_A_WRITE.fullmatch(one.name))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of a file; where the file system can, the copy takes no space until one of the two is written to.

    Args:
        source: the file; of a link what it leads to.
        target: the file to be made or replaced, with the permissions of a new file; the source itself stays as it is.
    """
    if target.exists() and source.samefile(target):
        return
    if hasattr(os, "copy_file_range") and _cloned(source, target):
        return
    shutil.copyfile(source, target)


def _cloned(source: Path, target: Path) -> bool:
    """Whether the kernel has copied the file: btrfs and XFS share the blocks of both then."""
    with source.open("rb") as read, target.open("wb") as write:
        try:
            while os.copy_file_range(read.fileno(), write.fileno(), _AT_ONCE):
                pass
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise OSError(error.errno, error.strerror, str(target)) from None
            # Across file systems, or where the file system has no such copy.
            return False
        # A file of the kernel's own tells no size, and some kernels copy nothing of it here.
        size = os.fstat(read.fileno()).st_size
        return size > 0 and os.fstat(write.fileno()).st_size == size


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder into `target`, which may be there, file by file as `copy` does."""
    shutil.copytree(source, target, copy_function=lambda file, to: copy(Path(file), Path(to)), dirs_exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as beside:
        beside.write_text(text, "utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a UTF-8 JSON file.

    Raises:
        FileNotFoundError: there is none.
        UnreadableFileError: it is something else, or larger or deeper than what this project writes.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise UnreadableFileError(f"{path}: is larger than {_LARGEST_JSON:,} bytes, so it is not what was written")
    if not content.strip():
        raise UnreadableFileError(f"{path}: is empty")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise UnreadableFileError(f"{path}: nests too deep to be what was written") from None
    except ValueError as error:
        raise UnreadableFileError(f"{path}: is not JSON in UTF-8: {one_line(error)}") from None


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """The JSON object of a file that a stage or a decision has written.

    Args:
        path: the file.
        keys: what it must hold; a key inside an object is written behind a dot.

    Raises:
        UnreadableFileError: it is missing, cannot be read, is no object, or lacks keys; with the remedy.
    """
    try:
        value = read_json(path)
        lacking = [repr(key) for key in keys if not _holds(value, key)]
        if isinstance(value, dict) and not lacking:
            return value
        problem = f"{path}: lacks {', '.join(lacking)}" if isinstance(value, dict) else f"{path}: is not a JSON object"
    except FileNotFoundError:
        raise UnreadableFileError(f"{path}: is not there; run `make run`, which makes it again") from None
    except UnreadableFileError as error:
        problem = str(error)
    raise UnreadableFileError(f"{problem}; delete it and run `make run`, which makes it again")


def _holds(value: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_file(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table`, atomically; the same table gives the same bytes."""
    with atomic_file(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The table of a parquet file, or of a folder of them in the order of their names; or only `columns` of it."""
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return pa.concat_tables(_parquet(part, columns) for part in parts)


def _parquet(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            # The machine's, and not parquet's.
            raise
        remedy = "delete it and run `make run`, which makes it again"
        raise UnreadableFileError(f"{path}: is not parquet as it was written: {one_line(error)}; {remedy}") from None


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> dict[str, str]:
    """The sha256 of every file below `folder`.

    Returns:
        Relative path with forward slashes -> sha256 in hex, in the order of the paths.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def digest(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys; of a tree's hashes, the tree's digest."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_path(path: Path) -> str:
    """The sha256 of a file, or the digest of a folder's tree of hashes."""
    return digest(sha256_tree(path)) if path.is_dir() else sha256_file(path)
