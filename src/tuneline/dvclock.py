"""What dvc.lock and the .dvc files name: the outputs from which a model is made again, each by its md5."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tuneline import boundedyaml, params

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
    made = _read(_LOCK).get("stages", {}) if _LOCK.exists() else {}
    graph, values = _read(_GRAPH)["stages"], _read(Path(params.PARAMS_FILE))
    order = list(graph)
    uncached = _uncached(graph, values)
    of_stages = [
        Output(entry["path"], entry["md5"], name, entry["path"] not in uncached)
        for name in order
        for entry in made.get(name, {}).get("outs", [])
        if entry.get("hash") == _ALGORITHM
    ]
    if stage is not None:
        read = [filled(path, values) for path in graph[stage].get("deps", [])]
        of_stages = [out for out in of_stages if any(_overlap(out.path, path) for path in read)]
        return [*_of_pointers(read), *of_stages]
    wanted: dict[str, None] = {}
    waiting = [order[-1]]
    read = []
    while waiting:
        name = waiting.pop()
        paths = [entry["path"] for entry in made.get(name, {}).get("deps", [])]
        read += paths
        wanted[name] = None
        makers = {out.keeper for out in of_stages if any(_overlap(out.path, path) for path in paths)}
        waiting += makers - wanted.keys()
    return [*_of_pointers(read), *(out for out in of_stages if out.keeper in wanted)]


def _of_pointers(read: list[str]) -> Iterator[Output]:
    """Of the .dvc files beside and inside what stages read."""
    pointers = {f"{path}.dvc": None for path in read} | {str(one): None for path in read for one in _inside(Path(path))}
    for pointer in sorted(pointers):
        if Path(pointer).is_file():
            for entry in _read(Path(pointer)).get("outs", []):
                if entry.get("hash") == _ALGORITHM:
                    yield Output((PurePosixPath(pointer).parent / entry["path"]).as_posix(), entry["md5"], pointer)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dvc")) if folder.is_dir() else []


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _uncached(graph: dict[str, Any], values: Any) -> set[str]:
    """The outputs that dvc.yaml keeps out of the cache."""
    found = set()
    for stage in graph.values():
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


def _read(file: Path) -> dict[str, Any]:
    return boundedyaml.load(file.read_text("utf-8"), "safe") or {}
