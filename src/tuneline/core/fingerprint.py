"""What makes a training exactly this one: two with the same fingerprint end in the same bytes."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuneline.core import files

_TRAINING = ("core", "encoding", "modeling", "training", "pretraining", "finetuning")
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
    package = Path(__file__).parents[1]
    paths = [
        path for folder in _TRAINING for pattern in ("*.py", "*.jinja") for path in (package / folder).rglob(pattern)
    ]
    return files.digest({path.relative_to(package).as_posix(): files.sha256_file(path) for path in paths})
