"""The code that decides over the result of a stage: the `deps` of the stage in dvc.yaml that are in src/.

The same list tells DVC when a stage is stale, and is part of a training's fingerprint and of the key under which the
champion's scores are kept.
"""

from collections.abc import Iterable
from pathlib import Path

from tuneline.core import bounded_yaml, files

_PROJECT = Path(__file__).resolve().parents[3]


def deps(stage: str, project: Path = _PROJECT) -> list[str]:
    """The files and folders of code that a stage depends on.

    Args:
        stage: its name in dvc.yaml.
        project: the folder of dvc.yaml.

    Returns:
        Paths relative to the project.
    """
    graph = bounded_yaml.load((project / "dvc.yaml").read_text("utf-8"), "safe")
    return [dep for dep in graph["stages"][stage]["deps"] if dep.startswith("src/")]


def sha256(paths: Iterable[str], project: Path = _PROJECT) -> str:
    """The digest of all files at some paths, templates included.

    Args:
        paths: files and folders, relative to the project.
        project: the folder that they are in.

    Returns:
        A sha256 over the relative path and the bytes of every file.
    """
    found = {file for path in paths for file in (project / path, *(project / path).rglob("*")) if file.is_file()}
    sources = sorted(file for file in found if file.parent.name != "__pycache__")
    return files.digest({file.relative_to(project).as_posix(): files.sha256_file(file) for file in sources})
