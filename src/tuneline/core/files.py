"""Reading and writing files so that no reader ever finds a half-written one; and the sha256 of files and folders."""

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
from safetensors import SafetensorError

from tuneline.errors import UnreadableFileError, one_line
from tuneline.work import WORK

_COPIED_AT_ONCE = 1 << 30
"""Bytes of one call of copy_file_range: a multiple of the block size of every file system."""
_LARGEST_JSON = 1 << 26
"""Bytes; the project's own JSON files have some thousands."""
_TEMPORARY = ".partial"
_REPLACED = ".replaced.partial"
"""The end of the temporary name of a folder that `atomic_folder` is replacing."""
_TOKEN = re.compile(r"[0-9a-f]{12}|\d+")
"""The part of a temporary name that makes it unique; earlier versions used process ids."""
_TEMPORARY_NAME = re.compile(rf"\.(?P<name>.+)\.({_TOKEN.pattern})(?P<replaced>\.replaced)?\.partial")
TEMPORARY = WORK / "temporary"
"""The folder in which `temporary_folder` makes its folders."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically: the caller writes a temporary file, which is then synced and renamed to `path`.

    Args:
        path: the file to make or replace; its folder is made too.

    Yields:
        The temporary file, empty and on the same file system.
    """
    with _temporary(path, Path.touch) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: the caller fills a temporary folder, which is then synced and renamed to `path`.

    Args:
        path: the folder to make or replace. If an earlier replacement was killed halfway, the old folder is restored
            first.

    Yields:
        The temporary folder, empty and on the same file system.
    """
    for abandoned in _temporaries_of(path, _REPLACED):
        with _claimed(abandoned) as is_claimed:
            if is_claimed:
                _finish_replacing(abandoned, path)
    with _temporary(path, Path.mkdir) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        # A folder cannot be renamed over a folder with files, so the old one is renamed first and removed last.
        replaced = path.with_name(f".{path.name}.{_new_token()}{_REPLACED}")
        with _claimed(path):
            try:
                with suppress(FileNotFoundError):
                    path.replace(replaced)
                temporary.replace(path)
                _sync(path.parent)
            finally:
                _finish_replacing(replaced, path)


def _finish_replacing(replaced: Path, path: Path) -> None:
    """Remove the old folder if the new one has its place; else rename the old one back."""
    if path.exists():
        _remove(replaced)
    else:
        with suppress(FileNotFoundError):
            replaced.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder next to `path` for intermediate files, and remove it at the end.

    Args:
        path: the file or folder that is being made.

    Yields:
        The folder, on the same file system. A folder that a killed process has left is removed first.
    """
    with _temporary(path.with_name(f"{path.name}-work"), Path.mkdir) as temporary:
        yield temporary


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make an empty folder in the project's work/, and remove it at the end.

    Yields:
        The absolute path of the folder. Folders that killed processes have left are removed first.
    """
    parent = TEMPORARY.absolute()
    parent.mkdir(parents=True, exist_ok=True)
    for path in parent.iterdir():
        remove_abandoned(path)
    with _owned(lambda: parent / _new_token(), Path.mkdir) as folder:
        yield folder


@contextmanager
def _temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a temporary file or folder that is to become `path`; what killed processes have left is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in _temporaries_of(path, _TEMPORARY):
        remove_abandoned(other)
    with _owned(lambda: path.with_name(f".{path.name}.{_new_token()}{_TEMPORARY}"), make) as temporary:
        yield temporary


def _temporaries_of(path: Path, end: str) -> list[Path]:
    """The temporary files and folders of `path`, of this process and of others."""
    start = f".{path.name}."
    found = path.parent.glob(f"{glob.escape(start)}*{end}")
    return [other for other in found if _TOKEN.fullmatch(other.name.removeprefix(start).removesuffix(end))]


def _new_token() -> str:
    """A token that is unique also between machines and containers, which may have the same process ids."""
    return secrets.token_hex(6)


@contextmanager
def _owned(new_name: Callable[[], Path], make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a file or folder that this process owns during the block, and remove it at the end.

    The owner holds a lock of the kernel, which ends with its process. So another process sees whether the owner lives,
    in whatever container.

    Args:
        new_name: returns a path that does not exist.
        make: makes the file or folder.
    """
    while True:
        path = new_name()
        make(path)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            # Before it was locked, another process has taken it for abandoned.
            continue
        # On a file system without such locks no process can claim it, so it is never removed as abandoned.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        _remove(path)
        # Unlocks the copies of the descriptor that forked processes have, too.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Lock a file or folder during the block; yields False if another process owns it, or it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
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


def is_abandoned(path: Path) -> bool:
    """Whether the process that made a temporary file or folder has ended."""
    with _claimed(path) as is_claimed:
        return is_claimed


def remove_abandoned(path: Path) -> None:
    """Remove a temporary file or folder if the process that made it has ended."""
    with _claimed(path) as is_claimed:
        if is_claimed:
            _remove(path)


def find_temporary(folder: Path) -> list[Path]:
    """The temporary files and folders in a folder that `atomic_file`, `atomic_folder` and `work_folder` have made.

    A folder that a killed `atomic_folder` has renamed and not replaced is left out: it is the only copy.
    """
    named = [(path, _TEMPORARY_NAME.fullmatch(path.name)) for path in folder.glob(f".*{_TEMPORARY}")]
    return sorted(
        path for path, match in named if match and (not match["replaced"] or (folder / match["name"]).exists())
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def full_disk_as_os_error(folder: Path) -> Iterator[None]:
    """Turn the errors that torch and safetensors raise on a full disk into an OSError with errno ENOSPC.

    Args:
        folder: the folder that the block writes to.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        # The message of torch is only about an unexpected position in its archive.
        if "No space left" in str(error) or not shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        raise


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of a file. Where the file system can share blocks, the copy takes no space until one changes.

    Args:
        source: the file; a link is followed.
        target: the file to make or replace, with the permissions of a new file.
    """
    if target.exists() and source.samefile(target):
        return
    if hasattr(os, "copy_file_range") and _copied_by_kernel(source, target):
        return
    shutil.copyfile(source, target)


def _copied_by_kernel(source: Path, target: Path) -> bool:
    """Copy with copy_file_range, which shares blocks on btrfs and XFS; returns whether the copy is complete."""
    with source.open("rb") as read, target.open("wb") as write:
        try:
            while os.copy_file_range(read.fileno(), write.fileno(), _COPIED_AT_ONCE):
                pass
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise OSError(error.errno, error.strerror, str(target)) from None
            # The file system has no such copy, or the files are on two file systems.
            return False
        # Files of the kernel (in /proc) have the size 0, and some kernels copy nothing of them.
        size = os.fstat(read.fileno()).st_size
        return size > 0 and os.fstat(write.fileno()).st_size == size


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder into `target`, which may exist, with `copy` for each file."""
    shutil.copytree(source, target, copy_function=lambda file, to: copy(Path(file), Path(to)), dirs_exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a UTF-8 JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableFileError: the file is not JSON, or larger or nested deeper than any file that this project writes.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise UnreadableFileError(f"{path}: is larger than {_LARGEST_JSON:,} bytes, so this project did not write it")
    if not content.strip():
        raise UnreadableFileError(f"{path}: is empty")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise UnreadableFileError(f"{path}: nests too deep, so this project did not write it") from None
    except ValueError as error:
        raise UnreadableFileError(f"{path}: is not JSON in UTF-8: {one_line(error)}") from None


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """The JSON object in a file that a stage or a decision has written.

    Args:
        path: the file.
        keys: keys that the object must have; `a.b` is the key b of the object at a.

    Raises:
        UnreadableFileError: the file is missing, is not a JSON object, or lacks keys; with the remedy.
    """
    try:
        value = read_json(path)
        lacking = [repr(key) for key in keys if not _has_key(value, key)]
        if isinstance(value, dict) and not lacking:
            return value
        problem = f"{path}: lacks {', '.join(lacking)}" if isinstance(value, dict) else f"{path}: is not a JSON object"
    except FileNotFoundError:
        raise UnreadableFileError(f"{path}: does not exist; run `make run`, which makes it again") from None
    except UnreadableFileError as error:
        problem = str(error)
    raise UnreadableFileError(f"{problem}; delete it and run `make run`, which makes it again")


def _has_key(value: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table`, atomically; the same table gives the same bytes."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The table in a parquet file, or in all parquet files of a folder in the order of their names.

    Args:
        path: the file or folder.
        columns: the columns to read; None: all.
    """
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return pa.concat_tables(_read_parquet_file(part, columns) for part in parts)


def _read_parquet_file(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            # An error of the machine, not of the file's content.
            raise
        remedy = "delete it and run `make run`, which makes it again"
        raise UnreadableFileError(f"{path}: is not a complete parquet file: {one_line(error)}; {remedy}") from None


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> dict[str, str]:
    """The sha256 of every file below `folder`.

    Returns:
        Relative path with forward slashes -> sha256 in hex, sorted by path.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def digest(value: Any) -> str:
    """The sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # Names of files may be no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_path(path: Path) -> str:
    """The sha256 of a file, or the digest of a folder's `sha256_tree`."""
    return digest(sha256_tree(path)) if path.is_dir() else sha256_file(path)
