"""What makes a training exactly this one: two with the same fingerprint end in the same bytes."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from tuneline.core import files

_LIBRARIES = ("accelerate", "jinja2", "numpy", "peft", "tokenizers", "torch", "transformers", "trl")


def of(code: str, processor: Sequence[str], **parts: Any) -> str:
    """The fingerprint of a training.

    Args:
        code: the sha256 of the code that trains, by `stage_code.sha256`.
        processor: what it computes on.
        parts: what of params and data decides over it, as JSON values.

    Returns:
        A sha256 over the parts, the code, the libraries' versions and the processor.
    """
    return files.digest(
        {
            "parts": parts,
            "code": code,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "python": platform.python_version(),
            "processor": list(processor),
        }
    )
