"""Sets the environment of a process, from the project's env file and Prefect's login, before any tool is imported."""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from tuneline import prefect_login
from tuneline.errors import SetupError
from tuneline.terminal import visible
from tuneline.work import WORK

ENV_FILE = Path("mlflow/tuneline.env")

# Characters of a project's path that tools misread: ? and % in addresses of databases, ' in MLflow's SQL, $ in
# Prefect's settings, braces in DVC's output, : in the PATH. scripts/setup.sh has the same list.
_UNFIT = "?%'${}:"


def unfit_characters(path: str) -> str:
    """The characters that the path of a project must not have, in words; empty if the path has none."""
    found = [character for character in _UNFIT if character in path]
    if not path.isprintable():
        found.append("characters that cannot be printed")
    return " and ".join(found)


def enter() -> None:
    """Put the values of the env file and Prefect's login into the environment; variables that are set already stay.

    If a variable was missing, the process replaces itself by a new one: libgomp reads its settings before any Python
    code runs. Every program that a person or another tool starts calls this first.

    Raises:
        SetupError: the working directory is not a project, or tools misread its path, or the environment is that of
            another project.
    """
    root = Path.cwd()
    if not (root / ENV_FILE).is_file():
        raise SetupError(f"{root}: has no file {ENV_FILE}; run this in the project's root")
    if found := unfit_characters(str(root)):
        shown = visible(str(root)).replace("\n", "\\n")
        raise SetupError(
            f"{shown}: the path of a project must not contain {found}, which MLflow, Prefect or DVC misread; "
            "rename the folder"
        )
    if os.environ.setdefault("TUNELINE_ROOT", str(root)) != str(root):
        raise SetupError(
            f"this shell is set up for the project in {os.environ['TUNELINE_ROOT']}, not for {root}: "
            "open another shell, or unset TUNELINE_ROOT and what mlflow/tuneline.env sets"
        )
    # Prefect makes its own folder, but not its parent. 700, because DVC makes folders there that everyone may write to.
    (root / WORK).mkdir(mode=0o700, exist_ok=True)
    # `python` and the commands of the tools must be those of this Python, even if its environment is not activated.
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != here:
        os.environ["PATH"] = os.pathsep.join([here, path])
    if found := missing_variables(root):
        os.environ.update(found)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def missing_variables(root: Path) -> dict[str, str]:
    """The variables of the env file and of Prefect's login that the environment of this process lacks.

    Args:
        root: of the project; a missing login is made in its folder work/.
    """
    found = {name: value or "" for name, value in dotenv_values(root / ENV_FILE).items() if name not in os.environ}
    return found | prefect_login.missing_settings(root, os.environ | found)
