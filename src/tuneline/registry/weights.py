"""The size and type of the weights of a version, read from the headers of its files."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8"}


@dataclass(frozen=True)
class Weights:
    """The size and type of the stored weights of a model."""

    parameters: int
    """Numbers in all tensors."""
    dtype: str
    """With torch's name, such as float32; several are joined by " and "."""
    bytes: int
    """Of the weight files."""

    def tags(self) -> dict[str, str]:
        """The tags of a version: `tuneline.NAME` -> value."""
        return {f"tuneline.{name}": str(value) for name, value in asdict(self).items()}

    def describe(self) -> str:
        """In words, as in "812,032 parameters, float32, 3,255,112 bytes"."""
        return f"{self.parameters:,} parameters, {self.dtype}, {self.bytes:,} bytes"


def read_weights(folder: Path) -> Weights | None:
    """The size and type of the weights in a model folder; None if a file is broken or none is there."""
    count, kinds, size = 0, set(), 0
    try:
        for path in sorted(folder.glob("*.safetensors")):
            size += path.stat().st_size
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    count += math.prod(part.get_shape())
                    kinds.add(_DTYPES.get(part.get_dtype(), part.get_dtype()))
    except (OSError, SafetensorError):
        return None
    return Weights(count, " and ".join(sorted(kinds)), size) if kinds else None


def weight_tags(folder: Path) -> dict[str, str]:
    """The tags with the size and the type of the weights in a folder; empty where they cannot be read."""
    found = read_weights(folder)
    return found.tags() if found else {}
