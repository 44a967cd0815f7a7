"""Files that a model folder must not hold: pickles, code, programs and archives, and links out of it.

They are found by name and by content. This project would never load them; other programs that load a registered model
might.
"""

import os
import pickletools
import re
import zlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

_PICKLE = "is a pickle, which can run code when it is loaded"
_CODE = "is Python code"
_PROGRAM = "is a program"
_ARRAYS = "is an array of NumPy or an HDF5 file, which can carry code"
_ARCHIVE = "is an archive or compressed, as torch and joblib save pickles"
_SUFFIXES = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"), _PICKLE),
    **dict.fromkeys((".py", ".pyc", ".pyo", ".pyw", ".pyi", ".pyx", ".pyz", ".ipynb"), _CODE),
    **dict.fromkeys((".so", ".pyd", ".dll", ".dylib", ".exe"), _PROGRAM),
}
_MAGIC = (
    (re.compile(rb"\x80[\x02-\x05].", re.DOTALL), _PICKLE),
    (re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)|\x1f\x8b|BZh\d|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c"), _ARCHIVE),
    # xz's older format, LZ4 and Zstandard, and tar, whose header has its mark further on.
    (re.compile(rb"\x5d\0\0|\x04\x22\x4d\x18|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL), _ARCHIVE),
    (re.compile(rb"\x93NUMPY|\x89HDF\r\n"), _ARRAYS),
    (re.compile(rb"\x7fELF|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe|MZ.{0,60}\0", re.DOTALL), _PROGRAM),
    (re.compile(rb"#![^\n]*python"), _CODE),
    (re.compile(rb"#! */"), _PROGRAM),
)
_TEXT_PICKLE = re.compile(rb"[(c\])}lLIVSNdaiFg]")
"""How a pickle of protocol 0 or 1 may begin; it has no header."""
_LONGEST_TEXT_PICKLE = 1 << 20
_HEAD = 512


def unsafe(folder: Path) -> dict[Path, str]:
    """Pickles, code, programs and archives anywhere below a model folder.

    Args:
        folder: of a model, or of a version.

    Returns:
        Path -> what the file is, such as `is Python code`.
    """
    return {path: what for path in sorted(folder.rglob("*")) if path.is_file() and (what := _what(path))}


def _what(path: Path) -> str | None:
    """What makes a file unsafe, in words; None for any other file."""
    if by_name := _SUFFIXES.get(path.suffix.lower()):
        return by_name
    with path.open("rb") as file:
        head = file.read(_HEAD)
    by_content = next((what for magic, what in _MAGIC if magic.match(head)), None)
    if by_content is None and _is_zlib(head):
        return _ARCHIVE
    if by_content is None:
        return _PICKLE if _is_text_pickle(path, head) else None
    # The length at the beginning of safetensors may look like any header.
    return None if path.suffix == ".safetensors" and _is_safetensors(path) else by_content


def _is_zlib(head: bytes) -> bool:
    """Whether the first bytes are of zlib data, as joblib writes them; `x^` also begins a text."""
    if not re.match(rb"\x78[\x01\x5e\x9c\xda]", head):
        return False
    try:
        zlib.decompressobj().decompress(head)
    except zlib.error:
        return False
    return True


def _is_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def _is_text_pickle(path: Path, head: bytes) -> bool:
    """Whether a small file is a pickle of protocol 0 or 1; its instructions are listed, not executed."""
    if not _TEXT_PICKLE.match(head) or path.stat().st_size > _LONGEST_TEXT_PICKLE:
        return False
    data = path.read_bytes()
    if not data.endswith(b"."):
        return False
    try:
        names = [(operation.name, position) for operation, _, position in pickletools.genops(data)]
    except (ValueError, IndexError, UnicodeError, OverflowError):
        return False
    # A word with a full stop, such as `a.`, consists of instructions too, but makes nothing.
    return names[-1] == ("STOP", len(data) - 1) and len(names) > 2


def foreign(folder: Path) -> dict[Path, str]:
    """Links out of a model folder, devices and pipes.

    A snapshot in the cache of the Hugging Face hub may link to all files of its repository.

    Args:
        folder: of a model, or of a version.

    Returns:
        Path -> what it is, such as `is neither a file nor a folder`.
    """
    is_snapshot = folder.parent.name == "snapshots"
    home = os.path.realpath(folder.parent.parent if is_snapshot else folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
            found[path] = f"is a link to {path.readlink()}, outside of the model folder"
        elif path.exists() and not (path.is_file() or path.is_dir()):
            found[path] = "is neither a file nor a folder"
    return found


def is_plain_name(name: object) -> bool:
    """Whether a value is the name of a file in its own folder: text without a path."""
    return isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\\0]", name)
