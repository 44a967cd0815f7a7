"""What dvc.yaml, dvc.lock and the .dvc files hold: the stages, and the files and folders that a model is made from."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml.error import YAMLError

from tuneline import params
from tuneline.core import bounded_yaml
from tuneline.errors import PipelineError, one_line

GRAPH = Path("dvc.yaml")
LOCK = Path("dvc.lock")
_ALGORITHM = "md5"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_EACH = "foreach"
_ASIDE = ("_twin@", "_without@")
"""In the names of stages that the last stage does not depend on: they train and measure for comparison only."""
_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage has made, or that a .dvc file names."""

    path: str
    """Relative to the project's root."""
    md5: str
    """As DVC writes it; of a folder the md5 of its listing, with `.dir` at its end."""
    keeper: str
    """The name of the stage, or the path of the .dvc file."""
    is_cached: bool = True


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of params.yaml or of a YAML file of DVC.

    Raises:
        PipelineError: the file is missing, or is not YAML, or is not a mapping.
    """
    try:
        return parse_yaml(file.read_bytes(), str(file), f"see: git diff -- {file}")
    except FileNotFoundError:
        raise PipelineError(f"{file}: no such file; restore it with: git checkout -- {file}") from None


def parse_yaml(content: bytes, name: str, remedy: str) -> dict[str, Any]:
    """The value of such a file.

    Args:
        content: the bytes.
        name: of the file, for the message.
        remedy: the end of the message.

    Raises:
        PipelineError: it is not YAML, or not a mapping.
    """
    try:
        value = bounded_yaml.load(content.decode("utf-8"), "safe") or {}
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{name}: cannot be read as YAML: {one_line(error)}; {remedy}") from None
    if not isinstance(value, dict):
        raise PipelineError(f"{name}: must hold names with values; {remedy}")
    return value


def read_stages(file: Path = GRAPH) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml, by name, in their order; a stage with `foreach` as its stages `name@item`.

    Raises:
        PipelineError: the file cannot be read, a stage is not a mapping, or params.yaml lacks the list of a foreach.
    """
    document = read_yaml(file)
    found = document.get("stages")
    if not isinstance(found, dict) or not found or not all(isinstance(stage, dict) for stage in found.values()):
        raise PipelineError(f"{file}: holds no stages as DVC reads them; see: git diff -- {file}")
    if not any(_EACH in stage for stage in found.values()):
        return found
    return expand(document, read_yaml(file.with_name(params.PARAMS_FILE)))


def expand(document: dict[str, Any], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml as `read_stages` gives them.

    Args:
        document: the value of dvc.yaml, with stages.
        values: of the params.yaml beside it.

    Raises:
        PipelineError: params.yaml lacks the list of a foreach.
    """
    for defaults in document.get("vars", []):
        values = _merged(defaults, values)
    return {name: stage for one, part in document["stages"].items() for name, stage in _expanded(one, part, values)}


def _merged(defaults: Any, values: Any) -> Any:
    """The values, and the groups of `vars` that they lack; DVC merges these too, and refuses any other overlap."""
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return {**defaults, **values, **{key: _merged(defaults[key], values[key]) for key in defaults.keys() & values}}


def _expanded(name: str, stage: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stages that DVC makes of a stage."""
    if _EACH not in stage:
        yield name, stage
        return
    key = str(stage[_EACH]).removeprefix("${").removesuffix("}")
    items: Any = values
    for part in key.split("."):
        items = items.get(part) if isinstance(items, dict) else None
    if isinstance(items, dict):
        for one, item in items.items():
            yield f"{name}@{one}", _filled(stage.get("do", {}), {"key": one, "item": item})
        return
    if not isinstance(items, list):
        raise PipelineError(
            f"{params.PARAMS_FILE}: {key}: must be a list, for which {GRAPH} has the stage {name}; add to the section "
            f"{key.partition('.')[0]}: {key.rpartition('.')[2]}: []"
        )
    for item in items:
        yield f"{name}@{item}", _filled(stage.get("do", {}), {"item": item})


def _filled(value: Any, of_item: dict[str, Any]) -> Any:
    """A part of a stage with `${key}`, `${item}` and `${item.…}` replaced; what params.yaml fills in stays."""
    if isinstance(value, dict):
        return {_filled(key, of_item): _filled(one, of_item) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, of_item) for one in value]
    if not isinstance(value, str):
        return value
    return _TEMPLATE.sub(
        lambda match: fill_template(match[0], of_item) if match[1].split(".")[0] in of_item else match[0], value
    )


def _is_aside(stage: str) -> bool:
    return any(part in stage for part in _ASIDE)


def aside_stages() -> list[str]:
    """The stages of twins and of trainings without some rows, which the last stage does not need, in their order."""
    return [name for name in read_stages() if _is_aside(name)]


def variant_stages() -> list[str]:
    """The stages of data.augment, in the order of dvc.yaml."""
    return [name for name in read_stages() if "@" in name and not _is_aside(name)]


def aside_outputs() -> list[Output]:
    """What these stages have made, as `recorded_outputs`."""
    stages = read_stages()
    return [one for one in _outputs_of_stages(read_locked_stages(), stages) if _is_aside(one.keeper)]


def left_outputs() -> list[str]:
    """What a stage has made that params.yaml no longer names, inside a folder that another stage reads as a whole."""
    stages, values = read_stages(), read_yaml(Path(params.PARAMS_FILE))
    read = {fill_template(dep, values) for stage in stages.values() for dep in stage.get("deps", [])}
    return [
        entry["path"]
        for name, locked in read_locked_stages().items()
        if name not in stages
        for entry in locked.get("outs", [])
        if read & {parent.as_posix() for parent in PurePosixPath(entry["path"]).parents}
    ]


def shared_folders(folder: Path = Path()) -> list[str]:
    """The folders that a stage reads as a whole and into which the stages of a foreach write, each its own part.

    Args:
        folder: that of dvc.yaml and params.yaml.

    Returns:
        Paths relative to the folder.

    Raises:
        PipelineError: one of the two cannot be read.
    """
    stages, values = read_yaml(folder / GRAPH).get("stages", {}), read_yaml(folder / params.PARAMS_FILE)
    inner = [stage.get("do", stage) for stage in stages.values()]
    parents = {out.rpartition("/")[0] for stage in inner for out in stage.get("outs", []) if isinstance(out, str)}
    read = dict.fromkeys(dep for stage in inner for dep in stage.get("deps", []) if dep in parents)
    return [fill_template(dep, values) for dep in read]


def make_shared_folders(folder: Path = Path()) -> None:
    """Make the `shared_folders`: DVC refuses a folder that does not exist, also where no stage writes into it."""
    for shared in shared_folders(folder):
        (folder / shared).mkdir(parents=True, exist_ok=True)


def stage_names() -> list[str]:
    """The names of the stages, in the order of dvc.yaml."""
    return list(read_stages())


def needed_stages() -> set[str]:
    """The last stage, those of `aside_stages`, and all that they depend on, by dvc.yaml and params.yaml."""
    stages, values = read_stages(), read_yaml(Path(params.PARAMS_FILE))

    def paths(stage: str, *keys: str) -> list[str]:
        entries = [entry for key in keys for entry in stages[stage].get(key, [])]
        return [fill_template(entry if isinstance(entry, str) else next(iter(entry)), values) for entry in entries]

    made = {stage: paths(stage, "outs", "metrics") for stage in stages}
    needed: set[str] = set()
    waiting = [list(stages)[-1], *(name for name in stages if _is_aside(name))]
    while waiting:
        stage = waiting.pop()
        needed.add(stage)
        read = paths(stage, "deps")
        waiting += [one for one, outs in made.items() if any(_overlap(a, b) for a in outs for b in read)]
        waiting = [one for one in waiting if one not in needed]
    return needed


def fill_template(template: str, values: Any) -> str:
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


def read_locked_stages() -> dict[str, dict[str, Any]]:
    """The stages that dvc.lock records, by name; empty where no stage has run."""
    return read_yaml(LOCK).get("stages", {}) if LOCK.exists() else {}


def recorded_paths() -> set[str]:
    """The files and folders that dvc.lock names: what its stages have read, and what they have made."""
    return {
        entry["path"]
        for stage in read_locked_stages().values()
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]
    }


@dataclass(frozen=True)
class Recorded:
    """What the files of DVC record of a model, wherever they were read from, such as from a git commit."""

    stages: dict[str, dict[str, Any]]
    """Of dvc.yaml."""
    locked: dict[str, dict[str, Any]]
    """The stages of dvc.lock."""
    values: dict[str, Any]
    """Of params.yaml."""
    pointers: dict[str, dict[str, Any]]
    """The path of each .dvc file -> its content."""
    in_git: tuple[str, ...]
    """All files that git holds."""

    def stage_names(self) -> list[str]:
        """The last stage and all stages that it depends on, in the order of dvc.yaml."""
        wanted, _ = _wanted(self.locked, self.stages, self._outputs())
        return [name for name in self.stages if name in wanted]

    def md5s(self) -> set[str]:
        """The md5 of all that dvc.lock and the .dvc files name."""
        entries = [one for stage in self.locked.values() for key in ("deps", "outs") for one in stage.get(key, [])]
        entries += [one for pointer in self.pointers.values() for one in pointer.get("outs", [])]
        return {entry["md5"] for entry in entries if _has_md5(entry)}

    def outputs(self) -> list[Output]:
        """What these stages have made."""
        wanted = self.stage_names()
        return [output for output in self._outputs() if output.keeper in wanted]

    def inputs(self) -> list[Output]:
        """What these stages have read and neither a stage has made nor git holds: the sets and bases under DVC."""
        made = [output.path for output in self.outputs()]
        found: dict[str, Output] = {}
        for name in self.stage_names():
            for entry in self.locked.get(name, {}).get("deps", []):
                path = entry["path"]
                if any(_overlap(path, one) for one in made):
                    continue
                near = [
                    one
                    for one in self.pointers
                    if one == f"{path}.dvc" or PurePosixPath(path) in PurePosixPath(one).parents
                ]
                for pointer in near:
                    found |= {output.path: output for output in _outputs_in_pointer(pointer, self.pointers[pointer])}
                if not near and _has_md5(entry) and not any(_overlap(path, one) for one in self.in_git):
                    found[path] = Output(path, entry["md5"], name)
        return list(found.values())

    def _outputs(self) -> list[Output]:
        return _outputs_in_lock(self.locked, self.stages, _uncached(self.stages, self.values))


def recorded_outputs() -> list[Output]:
    """The outputs of the last stage, and all outputs that it was made from, as dvc.lock and the .dvc files record them.

    Returns:
        Outputs in the order in which they are made, those of .dvc files first; an output that was never made is absent.
    """
    locked, stages = read_locked_stages(), read_stages()
    of_stages = _outputs_of_stages(locked, stages)
    wanted, inputs = _wanted(locked, stages, of_stages)
    return [*_outputs_of_pointers(inputs), *(out for out in of_stages if out.keeper in wanted)]


def _wanted(
    locked: dict[str, Any], stages: dict[str, Any], of_stages: list[Output]
) -> tuple[dict[str, None], list[str]]:
    """The last stage and all stages that it depends on, and what they have read."""
    wanted: dict[str, None] = {}
    waiting = [list(stages)[-1]]
    inputs: list[str] = []
    while waiting:
        name = waiting.pop()
        paths = [entry["path"] for entry in locked.get(name, {}).get("deps", [])]
        inputs += paths
        wanted[name] = None
        makers = {out.keeper for out in of_stages if any(_overlap(out.path, path) for path in paths)}
        waiting += makers - wanted.keys()
    return wanted, inputs


def recorded_inputs(stage: str) -> list[Output]:
    """The recorded outputs that a stage reads according to dvc.yaml, whatever it read when it was made.

    Returns:
        As `recorded_outputs`.
    """
    stages, values = read_stages(), read_yaml(Path(params.PARAMS_FILE))
    inputs = [fill_template(path, values) for path in stages[stage].get("deps", [])]
    of_stages = _outputs_of_stages(read_locked_stages(), stages)
    read = [out for out in of_stages if any(_overlap(out.path, path) for path in inputs)]
    return [*_outputs_of_pointers(inputs), *read]


def _outputs_of_stages(locked: dict[str, Any], stages: dict[str, Any]) -> list[Output]:
    return _outputs_in_lock(locked, stages, _uncached(stages, read_yaml(Path(params.PARAMS_FILE))))


def _outputs_in_lock(locked: dict[str, Any], stages: dict[str, Any], uncached: set[str]) -> list[Output]:
    return [
        Output(entry["path"], entry["md5"], name, entry["path"] not in uncached)
        for name in stages
        for entry in locked.get(name, {}).get("outs", [])
        if _has_md5(entry)
    ]


def _outputs_of_pointers(inputs: list[str]) -> Iterator[Output]:
    """The outputs of the .dvc files next to and inside the inputs of stages."""
    pointers = {f"{path}.dvc" for path in inputs}
    pointers |= {str(file) for path in inputs if Path(path).is_dir() for file in Path(path).glob("*.dvc")}
    for pointer in sorted(pointers):
        if Path(pointer).is_file():
            yield from _outputs_in_pointer(pointer, read_yaml(Path(pointer)))


def _outputs_in_pointer(pointer: str, value: dict[str, Any]) -> Iterator[Output]:
    for entry in value.get("outs", []):
        if _has_md5(entry):
            yield Output((PurePosixPath(pointer).parent / entry["path"]).as_posix(), entry["md5"], pointer)


def imported_sets(p: params.Params) -> list[Path]:
    """The .dvc files of the sets (raw set and mixture) that `dvc import` or `dvc import-url` brought."""
    raws = (Path(p.data.raw), *sorted(Path(p.paths.mixture).glob("*/")))
    pointers = (raw.with_name(f"{raw.name}.dvc") for raw in raws)
    return [pointer for pointer in pointers if pointer.exists() and "deps" in read_yaml(pointer)]


def _has_md5(entry: dict[str, Any]) -> bool:
    """Whether DVC has recorded the md5 of an output; it has none yet where only the address was imported."""
    return entry.get("hash") == _ALGORITHM and _MD5.fullmatch(str(entry.get("md5"))) is not None


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _uncached(stages: dict[str, Any], values: dict[str, Any]) -> set[str]:
    """The outputs that dvc.yaml keeps out of the cache."""
    return {
        fill_template(path, values)
        for stage in stages.values()
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]
        if isinstance(out, dict)
        for path, options in out.items()
        if options.get("cache") is False
    }
