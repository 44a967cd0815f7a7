"""Reads the project's own task files as plain values, so that no code is among what lm-evaluation-harness reads.

The library calls Python for a tag, a class, and a metric that it does not know. It is given a copy, written from the
plain values, because what it reads must be what was checked.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml
from tuneline.errors import ModelError, one_line

FORMATS = ("json", "csv", "parquet", "text", "arrow")
_INCLUDE = "include"
# Keys whose value the library calls or loads as code, or reads from another file.
_CALLED = ("class", "custom_dataset", "unsafe_code", "use_prompt")


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The task files of a folder, with what they include.

    Args:
        folder: the folder.

    Returns:
        Name below the folder -> content.

    Raises:
        ModelError: a file is not a mapping in YAML, calls code, or includes a file outside of the folder.
    """
    problems: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    # The library reads files of this name; others only where a file includes them.
    for path in sorted(folder.rglob("*.yaml")):
        merged = _merged(path, folder, (), problems)
        if merged is not None:
            problems += [f"{path}: {problem}" for problem in _called(merged)]
            found[path.relative_to(folder).as_posix()] = merged
    if problems:
        raise ModelError(*dict.fromkeys(problems))
    return found


def write(tasks: Mapping[str, dict[str, Any]], folder: Path) -> None:
    """Write task files for the library.

    Args:
        tasks: what `load` gave.
        folder: where to.
    """
    writer = YAML(typ="safe", pure=True)
    # The library reads YAML 1.1, in which an unquoted yes is a boolean.
    writer.version = (1, 1)
    folder.mkdir()
    for name, task in tasks.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as out:
            writer.dump(task, out)


def _merged(path: Path, folder: Path, including: tuple[Path, ...], problems: list[str]) -> dict[str, Any] | None:
    """A file over the files that it includes, as the library merges them; None after a problem."""
    place = path.resolve()
    if not place.is_relative_to(folder.resolve()):
        problems.append(f"{path}: lies outside of {folder}; copy it there and include the copy")
        return None
    if place in including:
        problems.append(f"{path}: includes itself")
        return None
    try:
        text = path.read_text("utf-8")
        if tags := bounded_yaml.foreign_tags(text):
            problems += [
                f"{path}:{line}: calls Python ({tag}), and a task file may not; write the template as text"
                for line, tag in tags
            ]
            return None
        content = bounded_yaml.load(text, "safe")
    except FileNotFoundError:
        problems.append(f"{path}: no such file, but {including[-1].name} includes it")
        return None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        problems.append(f"{path}: cannot be read as YAML: {one_line(error)}")
        return None
    if not isinstance(content, dict):
        problems.append(f"{path}: must be a mapping, such as task: NAME")
        return None
    includes = content.pop(_INCLUDE, [])
    merged: dict[str, Any] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        if not isinstance(name, str):
            problems.append(f"{path}: {_INCLUDE}: {name!r} is not the name of a file")
            continue
        # As the library does: relative to the file, behind a link relative to the file that it leads to.
        included = Path(os.path.normpath(path.parent / name))
        inner = _merged(included, folder, (*including, place), problems)
        merged |= {key: value for key, value in (inner or {}).items() if key != "task_list"}
    return merged | content


def _called(config: dict[str, Any]) -> Iterator[str]:
    """What the library would run as code or read from elsewhere, in a task or in the tasks of a group."""
    for key in _CALLED:
        if config.get(key):
            yield f"{key}: is code, and a task file may not hold any; remove the key"
    dataset = config.get("dataset_path")
    if dataset is not None and dataset not in FORMATS and not _is_of_hub(dataset):
        yield (
            f"dataset_path: {dataset!r} is neither {', '.join(FORMATS)} (with dataset_kwargs: data_files) nor the "
            "OWNER/NAME of a data set of the Hub that is on this machine"
        )
    metrics = config.get("metric_list")
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, dict) and metric.get("hf_evaluate"):
            yield f"metric_list: hf_evaluate of {metric.get('metric')} loads code; name a metric of the library itself"
    if _INCLUDE in config:
        yield f"{_INCLUDE}: stands inside of a group; a file includes others only at its top"
    inner = config.get("task")
    for task in inner if isinstance(inner, list) else []:
        if isinstance(task, dict):
            yield from _called(task)


def _is_of_hub(name: Any) -> bool:
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return False
    return all(part.strip(".") and part.replace("-", "a").replace(".", "a").isidentifier() for part in name.split("/"))
