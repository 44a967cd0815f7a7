"""The one env file of the project: addresses and telemetry switches, read before any tool is imported."""

import os
from pathlib import Path

from dotenv import dotenv_values

ENV_FILE = Path("mlflow/tuneline.env")


def load(root: Path | None = None) -> bool:
    """Put the env file's values into the environment; what is set already stays.

    Args:
        root: the project's root; the working directory where not given.

    Returns:
        Whether anything was added.
    """
    root = (root or Path.cwd()).resolve()
    os.environ.setdefault("TUNELINE_ROOT", str(root))
    missing = {name: value or "" for name, value in dotenv_values(root / ENV_FILE).items() if name not in os.environ}
    os.environ.update(missing)
    return bool(missing)
