"""Compares two model folders: tensors byte by byte, and all other files by their sha256."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from tuneline.core import files
from tuneline.errors import ModelError, one_line

_SUFFIX = ".safetensors"
_FLOATS = {
    "F64": (np.uint64, np.float64),
    "F32": (np.uint32, np.float32),
    "F16": (np.uint16, np.float16),
    "BF16": (np.uint16, np.float32),
}
"""The types in safetensors: their bits, and the type in which numpy computes with them."""
_SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison of two model folders."""

    tensors: int
    """Tensors of the first folder."""
    others: int
    """Files of the first folder that hold no tensors."""
    differences: tuple[str, ...]
    """What differs, in sentences; empty if both folders are identical."""

    @property
    def is_identical(self) -> bool:
        """Whether all tensors and files are equal."""
        return not self.differences

    def shown(self) -> list[str]:
        """The first differences, and how many there are."""
        more = len(self.differences) - _SHOWN
        return [*self.differences[:_SHOWN], *([f"and {more:,} more differences"] if more > 0 else [])]


def compare(made: Path, registered: Path, ignored: Sequence[str] = ()) -> Comparison:
    """Compare two model folders.

    Args:
        made: the folder that was built again.
        registered: the folder of the registered model.
        ignored: files, relative to the folders, that are not part of the model.

    Raises:
        ModelError: a file with the suffix .safetensors is damaged.
    """
    names = {
        folder: {name for name in files.sha256_tree(folder) if name not in ignored} for folder in (made, registered)
    }
    both = sorted(names[made] & names[registered])
    found = [
        f"{name}: the registered version has it, and the new model does not" for name in names[registered] - names[made]
    ]
    found += [
        f"{name}: the new model has it, and the registered version does not" for name in names[made] - names[registered]
    ]
    found.sort()
    for name in both:
        if files.sha256_file(made / name) == files.sha256_file(registered / name):
            continue
        if name.endswith(_SUFFIX):
            found += [f"{name}: {one}" for one in _compare_tensors(made / name, registered / name)]
        else:
            found.append(f"{name}: has other bytes")
    weights = [name for name in names[made] if name.endswith(_SUFFIX)]
    return Comparison(sum(_count(made / name) for name in weights), len(names[made]) - len(weights), tuple(found))


def _count(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            return len(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {one_line(error)}") from None


def _compare_tensors(made: Path, registered: Path) -> Iterator[str]:
    new, old = _read(made), _read(registered)
    for name in sorted(new.keys() | old.keys()):
        if name not in new or name not in old:
            yield f"tensor {name} is only in the {'new model' if name in new else 'registered version'}"
            continue
        forms = [f"{one['dtype']} {one['shape']}" for one in (new[name], old[name])]
        if forms[0] != forms[1]:
            yield f"tensor {name} is {forms[0]}, and {forms[1]} in the registered version"
        elif new[name]["data"] != old[name]["data"]:
            yield f"tensor {name} differs{_amount(new[name], old[name])}"
    if new == old:
        yield "the order of the tensors or the metadata differ, and all tensors are equal"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(deserialize(path.read_bytes()))
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {one_line(error)}") from None


def _amount(new: dict[str, Any], old: dict[str, Any]) -> str:
    """How many numbers differ, and by how much; empty for types that numpy does not have."""
    if new["dtype"] not in _FLOATS:
        return ""
    bits, kind = _FLOATS[new["dtype"]]
    raw = [np.frombuffer(one["data"], bits) for one in (new, old)]
    # A bfloat16 is the upper half of a float32.
    values = [
        one.view(kind) if bits(0).nbytes == kind(0).nbytes else (one.astype(np.uint32) << 16).view(kind) for one in raw
    ]
    apart = np.abs(values[0].astype(np.float64) - values[1].astype(np.float64))
    count = int((raw[0] != raw[1]).sum())
    return f" in {count:,} of {apart.size:,} numbers, by at most {np.nanmax(apart, initial=0):.2g}"
