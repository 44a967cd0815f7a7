"""What dvc.lock and the .dvc files name: the outputs from which a model is made again, each by its md5."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml.error import YAMLError

from tuneline import params
from tuneline.core import bounded_yaml
from tuneline.errors import PipelineError, one_line

_GRAPH = Path("dvc.yaml")
_LOCK = Path("dvc.lock")
_ALGORITHM = "md5"
_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage has made or a .dvc file brought."""

    path: str
    """Relative to the project's root."""
    md5: str
    """As DVC names it; of a folder that of its listing, with `.dir` at its end."""
    keeper: str
    """The stage, or the .dvc file."""
    is_cached: bool = True


def needed(stage: str | None = None) -> list[Output]:
    """All that the last stage was made from, and what it has made.

    Args:
        stage: only what this stage would read now, whatever it has read when it was made: that may be a person's own
            again.

    Returns:
        Outputs in the order in which they are made, .dvc files first; of what was never made nothing.
    """
    made = read(_LOCK).get("stages", {}) if _LOCK.exists() else {}
    stages, values = graph(), read(Path(params.PARAMS_FILE))
    order = list(stages)
    uncached = _uncached(stages, values)
    of_stages = [
        Output(entry["path"], entry["md5"], name, entry["path"] not in uncached)
        for name in order
        for entry in made.get(name, {}).get("outs", [])
        if _is_hashed(entry)
    ]
    if stage is not None:
        inputs = [filled(path, values) for path in stages[stage].get("deps", [])]
        of_stages = [out for out in of_stages if any(_overlap(out.path, path) for path in inputs)]
        return [*_of_pointers(inputs), *of_stages]
    wanted: dict[str, None] = {}
    waiting = [order[-1]]
    inputs = []
    while waiting:
        name = waiting.pop()
        paths = [entry["path"] for entry in made.get(name, {}).get("deps", [])]
        inputs += paths
        wanted[name] = None
        makers = {out.keeper for out in of_stages if any(_overlap(out.path, path) for path in paths)}
        waiting += makers - wanted.keys()
    return [*_of_pointers(inputs), *(out for out in of_stages if out.keeper in wanted)]


def _of_pointers(inputs: list[str]) -> Iterator[Output]:
    """Of the .dvc files beside and inside what stages read."""
    pointers = {f"{path}.dvc": None for path in inputs} | {
        str(one): None for path in inputs for one in _inside(Path(path))
    }
    for pointer in sorted(pointers):
        if Path(pointer).is_file():
            for entry in read(Path(pointer)).get("outs", []):
                if _is_hashed(entry):
                    yield Output((PurePosixPath(pointer).parent / entry["path"]).as_posix(), entry["md5"], pointer)


def _is_hashed(entry: dict[str, Any]) -> bool:
    """Whether DVC has noted the hash of an output; of what was imported without its bytes it has none yet."""
    return entry.get("hash") == _ALGORITHM and isinstance(entry.get("md5"), str)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dvc")) if folder.is_dir() else []


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _uncached(stages: dict[str, Any], values: Any) -> set[str]:
    """The outputs that dvc.yaml keeps out of the cache."""
    found = set()
    for stage in stages.values():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            if isinstance(out, dict):
                found |= {filled(path, values) for path, how in out.items() if how.get("cache") is False}
    return found


def filled(template: str, values: Any) -> str:
    """A text of dvc.yaml with each `${section.key}` replaced by its value.

    Args:
        template: the text.
        values: params, as nested dicts.
    """

    def value(match: re.Match[str]) -> str:
        found = values
        for key in match[1].split("."):
            found = found[key]
        return str(found)

    return _TEMPLATE.sub(value, template)


def read(file: Path) -> dict[str, Any]:
    """What a YAML file of DVC's, or params.yaml, holds.

    Raises:
        PipelineError: it is missing, no YAML, or no mapping.
    """
    try:
        value = bounded_yaml.load(file.read_text("utf-8"), "safe") or {}
    except FileNotFoundError:
        raise PipelineError(f"{file}: no such file; restore it with: git checkout -- {file}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{file}: cannot be read as YAML: {one_line(error)}; see: git diff -- {file}") from None
    if not isinstance(value, dict):
        raise PipelineError(f"{file}: must hold names with values; see: git diff -- {file}")
    return value


def graph(file: Path = _GRAPH) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml, by name, in their order.

    Raises:
        PipelineError: it cannot be read, or a stage is no mapping.
    """
    found = read(file).get("stages")
    if not isinstance(found, dict) or not found or not all(isinstance(stage, dict) for stage in found.values()):
        raise PipelineError(f"{file}: holds no stages as DVC reads them; see: git diff -- {file}")
    return found
