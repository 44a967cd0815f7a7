"""What makes a training exactly this one: two with the same fingerprint end in the same bytes."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuneline import files

_LIBRARIES = ("accelerate", "jinja2", "numpy", "peft", "tokenizers", "torch", "transformers", "trl")


def of(processor: Sequence[str], **parts: Any) -> str:
    """The fingerprint of a training.

    Args:
        processor: what it computes on.
        parts: what of params and data decides over it, as JSON values.

    Returns:
        A sha256 over the parts, this package's code, the libraries' versions and the processor.
    """
    return files.digest(
        {
            "parts": parts,
            "code": code(),
            "libraries": {name: version(name) for name in _LIBRARIES},
            "python": platform.python_version(),
            "processor": list(processor),
        }
    )


def code() -> str:
    """The digest of the source that trains."""
    room = Path(__file__).parent
    sources = {path.name: files.sha256_file(path) for path in [*sorted(room.glob("*.py")), *room.glob("templates/*")]}
    return files.digest(sources | {"files.py": files.sha256_file(Path(files.__file__))})
