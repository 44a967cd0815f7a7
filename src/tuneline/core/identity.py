"""The identity of code, of a training and of a folder, as sha256 digests.

`code_deps` reads the one list of a stage's code: the `deps` in dvc.yaml. It tells DVC when a stage is stale, and it is
part of a training's fingerprint and of the key under which the champion's scores are kept.
"""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuneline.core import bounded_yaml, files

MANIFEST = "manifest.json"
"""The file of a folder that holds the sha256 of every other file under its key `files`; it is written last."""
_PROJECT = Path(__file__).resolve().parents[3]
_LIBRARIES = ("accelerate", "jinja2", "numpy", "peft", "tokenizers", "torch", "transformers", "trl")


def code_deps(stage: str, project: Path = _PROJECT) -> list[str]:
    """The `deps` of a stage that are in src/: the code that can change its result.

    Args:
        stage: its name in dvc.yaml.
        project: the folder of dvc.yaml.

    Returns:
        Files and folders, relative to the project.
    """
    graph = bounded_yaml.load((project / "dvc.yaml").read_text("utf-8"), "safe")
    return [dep for dep in graph["stages"][stage]["deps"] if dep.startswith("src/")]


def code_sha256(paths: Iterable[str], project: Path = _PROJECT) -> str:
    """The digest of all files at some paths, templates included.

    Args:
        paths: files and folders, relative to the project.
        project: the folder that contains them.

    Returns:
        A sha256 over the relative path and the bytes of every file.
    """
    found = {file for path in paths for file in (project / path, *(project / path).rglob("*")) if file.is_file()}
    sources = sorted(file for file in found if file.parent.name != "__pycache__")
    return files.digest({file.relative_to(project).as_posix(): files.sha256_file(file) for file in sources})


def compute_fingerprint(code: str, processor: Sequence[str], **parts: Any) -> str:
    """The fingerprint of a training: two trainings with the same fingerprint write the same bytes.

    Args:
        code: the `code_sha256` of the code that trains.
        processor: the processor that computes.
        parts: the params and digests of data that can change the result, as JSON values.

    Returns:
        A sha256 over the parts, the code, the libraries' versions and the processor.
    """
    return files.digest({"parts": parts, "code": code, **surroundings(processor)})


def surroundings(processor: Sequence[str]) -> dict[str, Any]:
    """What decides over the bits of a training besides params, data and code: libraries, Python and processor.

    Args:
        processor: the processor that computes.
    """
    return {
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "processor": list(processor),
    }


def is_complete(folder: Path) -> bool:
    """Whether the folder has a manifest, and exactly the files that the manifest names, with their hashes."""
    try:
        manifest = files.read_json(folder / MANIFEST)
        expected = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = files.sha256_tree(folder)
    del found[MANIFEST]
    return found == expected
