"""Splits as tokens, kept on disk and memory-mapped: a row is read from the disk when it is asked for.

    work/tokens/data-clean-train/<identity>/ids.npy, ids.ends.npy, …, manifest.json

The identity is a digest of everything that decides over a token. An entry counts only with its manifest, which names
the sha256 of every file; it is written beside its place, synced and renamed. Of a split only the newest entry stays.
"""

import shutil
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerBase

from tuneline import processes
from tuneline.core import files
from tuneline.core.identity import MANIFEST, code_sha256, compute_fingerprint, is_complete
from tuneline.encoding.examples import Flat, FlatRows
from tuneline.encoding.truncation import Account
from tuneline.work import WORK

FOLDER = WORK / "tokens"
"""Where the entries of all splits are kept."""
# What encoding imports, all of it.
_CODE = ("src/tuneline/core", "src/tuneline/encoding")

Rows = TypeVar("Rows", bound=FlatRows[Any])


def identity(tokenizer: PreTrainedTokenizerBase, **parts: Any) -> str:
    """The digest of what decides over tokens: the tokenizer as it is, the code, the libraries, and these parts.

    Args:
        tokenizer: with the chat template that is used.
        parts: the rows' own digest, and what else decides over them, as JSON values.
    """
    # A call without limits: one that cut its texts would leave that in the tokenizer's files.
    tokenizer("")
    with files.temporary_folder() as folder:
        tokenizer.save_pretrained(folder)
        its_files = files.sha256_tree(folder)
    return compute_fingerprint(code_sha256(_CODE), (), tokenizer=its_files, **parts)


def place_of(split: Path, folder: Path) -> Path:
    """The folder of a split's entries."""
    return folder / "-".join(part for part in split.parts if part not in (split.anchor, ".."))


def kept(
    place: Path, key: str, kind: type[Rows], portions: Iterable[Sequence[Any]], account: Callable[[], Account]
) -> tuple[Rows, Account]:
    """The rows of an entry; made first where there is none that is whole, by one process while others wait.

    Args:
        place: the folder of a split's entries.
        key: by `identity`.
        kind: of the rows.
        portions: makes them.
        account: of all of them, once they are made.

    Returns:
        The rows, memory-mapped, and the account.
    """
    entry = place / key
    found = _read(entry, kind)
    if found is None:
        with processes.exclusive(place.with_name(f"{place.name}.lock"), f"the tokens in {place}", wait=True):
            found = _read(entry, kind)
            if found is None:
                with files.atomic_folder(entry) as beside:
                    _write(beside, kind, portions)
                    manifest = {"account": account().__dict__, "files": files.sha256_tree(beside)}
                    files.write_json(beside / MANIFEST, manifest)
                for other in place.iterdir():
                    if other != entry:
                        shutil.rmtree(other)
                found = _read(entry, kind)
    assert found is not None
    return found


def _read(entry: Path, kind: type[Rows]) -> tuple[Rows, Account] | None:
    """The entry, or None where it is not whole; another process may take it away meanwhile."""
    try:
        if not is_complete(entry):
            return None
        parts = {name: Flat(*(_mapped(path) for path in _paths(entry, name))) for name in kind.PARTS}
        stored = files.read_json(entry / MANIFEST)["account"]
    except FileNotFoundError:
        return None
    return kind.of(parts), Account.of(stored)


def _write(folder: Path, kind: type[FlatRows[Any]], portions: Iterable[Sequence[Any]]) -> None:
    with ExitStack() as stack:
        grown: dict[str, tuple[_Growing, _Growing]] = {}
        for name, code in kind.PARTS.items():
            values, ends = _paths(folder, name)
            grown[name] = (
                stack.enter_context(_Growing(values, np.dtype(code))),
                stack.enter_context(_Growing(ends, np.dtype(np.int64))),
            )
        for portion in portions:
            for name, part in kind(portion).parts.items():
                values, ends = grown[name]
                ends.extend(np.asarray(part.ends, np.int64) + values.count)
                values.extend(part.values)


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.npy", folder / f"{name}.ends.npy"


def _mapped(path: Path) -> np.ndarray:
    # A plain array over the mapping: memmap's own slices are many times as slow.
    return np.asarray(np.load(path, mmap_mode="r"))


class _Growing:
    """An .npy file of one dimension that grows: numpy leaves room in the header for its length."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path, self._dtype = path, dtype
        self.count = 0
        """Numbers that it holds."""

    def extend(self, values: np.ndarray | array) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self.count += len(values)

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._write_header()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.count,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
