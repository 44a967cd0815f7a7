"""The one env file of the project, and Prefect's login: in force before any tool is imported."""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from tuneline import prefect_login
from tuneline.errors import SetupError
from tuneline.terminal import visible
from tuneline.work import WORK

ENV_FILE = Path("mlflow/tuneline.env")

# What tools read as something else in the path of a project: ? and % in addresses of databases, ' in what MLflow tells
# its database, $ in Prefect's settings, braces in what DVC prints, : in the PATH. scripts/setup.sh says the same.
_UNFIT = "?%'${}:"


def unfit_characters(path: str) -> str:
    """What of a path keeps a project from lying there, in words; empty where nothing does."""
    found = [character for character in _UNFIT if character in path]
    if not path.isprintable():
        found.append("characters that cannot be printed")
    return " and ".join(found)


def enter() -> None:
    """Put the env file's values, and Prefect's login, into the environment of this process; what is set already stays.

    Where anything was missing the process starts itself again: libgomp reads its settings before any Python code runs,
    so they hold only in a new image of the process. Called first by whatever a person or another tool starts.

    Raises:
        SetupError: the working directory is no project or has a path that tools misread, or the environment is another
            project's.
    """
    root = Path.cwd()
    if not (root / ENV_FILE).is_file():
        raise SetupError(f"{root}: holds no {ENV_FILE}; run this in the project's root")
    if found := unfit_characters(str(root)):
        shown = visible(str(root)).replace("\n", "\\n")
        raise SetupError(
            f"{shown}: the path of a project may not hold {found}, which MLflow, Prefect or DVC read as "
            "something else; rename the folder"
        )
    if os.environ.setdefault("TUNELINE_ROOT", str(root)) != str(root):
        raise SetupError(
            f"this shell is set up for the project in {os.environ['TUNELINE_ROOT']}, not for {root}: "
            "open another shell, or unset TUNELINE_ROOT and what mlflow/tuneline.env sets"
        )
    # Prefect makes its own folder, but not the one above it. DVC lets everybody write into some of what it keeps there.
    (root / WORK).mkdir(mode=0o700, exist_ok=True)
    # `python` and the tools' commands are those of this Python, whether or not its environment is activated.
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != here:
        os.environ["PATH"] = os.pathsep.join([here, path])
    if found := missing_variables(root):
        os.environ.update(found)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def missing_variables(root: Path) -> dict[str, str]:
    """What the environment of this process lacks, of the env file's values and of Prefect's login.

    Args:
        root: of the project; the login is made in its folder work/ where it is missing.
    """
    found = {name: value or "" for name, value in dotenv_values(root / ENV_FILE).items() if name not in os.environ}
    return found | prefect_login.missing_settings(root, os.environ | found)
