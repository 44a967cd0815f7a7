"""work/search/NAME/search.json: what a search was begun with, so that it continues with the same or is refused."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneline import git, params
from tuneline.core import files, identity
from tuneline.decisions import git_steps, kept_trials
from tuneline.errors import ParamsError, PipelineError, UnreadableFileError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph
from tuneline.search.space import FILE, Space, Value, defaults

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
# What trials need and git may not know yet; never a raw set.
_CODE = (
    "src",
    "scripts",
    "pyproject.toml",
    "mlflow/tuneline.env",
    "data/expectations",
    "data/harness",
    "data/checks.yaml",
)


@dataclass(frozen=True)
class Record:
    """What a search was begun with."""

    name: str
    head: str
    """The commit whose experiments the trials are."""
    snapshot: str
    """A commit of the project as it was."""
    identity: str
    space: Mapping[str, Any]
    default: Mapping[str, Value]
    """The values of the first trial, those of params.yaml."""
    is_begun: bool = False
    """Whether the storage has the search."""

    def save(self) -> None:
        """Write the record."""
        files.write_json(_file(self.name), asdict(self))

    def begun(self) -> "Record":
        """The record of a search that the storage has."""
        return replace(self, is_begun=True)


def folder_of(name: str) -> Path:
    """The folder of a search.

    Raises:
        ParamsError: the name is part of paths and of the names of experiments, and it cannot be.
    """
    if not _NAME.fullmatch(name):
        raise ParamsError(f"--name {name}: must be lower-case letters, digits and hyphens, at most 40")
    return kept_trials.FOLDER / name


def _file(name: str) -> Path:
    return folder_of(name) / "search.json"


def read(name: str) -> Record | None:
    """The record of a search; None if there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = _file(name)
    if not path.exists():
        return None
    value = files.read_object(path, "name", "head", "snapshot", "identity", "space", "default")
    if not _is_of(value, name):
        raise UnreadableFileError(f"{path}: is not what the search '{name}' has written; begin it anew with --fresh")
    return Record(**value)


def _is_of(value: Mapping[str, Any], name: str) -> bool:
    """Whether an object is the record of a search; its commits become arguments of git, and its name a path."""
    try:
        Space.model_validate(value["space"])
    except ValidationError:
        return False
    return (
        value.keys() <= {field.name for field in fields(Record)}
        and value["name"] == name
        and isinstance(value["identity"], str)
        and isinstance(value["default"], dict)
        and isinstance(value.get("is_begun", False), bool)
        and all(isinstance(commit := value[key], str) and _COMMIT.fullmatch(commit) for key in ("head", "snapshot"))
    )


def check_space(record: Record, space: Space) -> None:
    """Refuse to continue a search with another space.

    Raises:
        ParamsError: names the keys that differ.
    """
    now = space.model_dump()
    # A search may have been begun before a key existed.
    if Space.model_validate(record.space) != space:
        before, after = dict(record.space["space"]), now["space"]
        keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
        keys += sorted(key for key in now if key != "space" and now[key] != record.space.get(key))
        raise ParamsError(
            f"{FILE}: search '{record.name}' was begun with another space ({', '.join(keys)}); restore it, or "
            f"{_anew(record)}"
        )


def check_inputs(record: Record, space: Space, p: Params) -> None:
    """Refuse to continue a search where further trials could not be compared with its own.

    Raises:
        PipelineError: data, base, code or other params have changed.
    """
    if record.identity != compute_identity(space, p):
        raise PipelineError(
            f"search '{record.name}': data, base, code or params have changed since it was begun, so that further "
            f"trials could not be compared with its own; restore them, or {_anew(record)}"
        )


def _anew(record: Record) -> str:
    return f"begin a new one with --name NAME, or replace it with --fresh (its trials are in {folder_of(record.name)})"


def compute_identity(space: Space, p: Params) -> str:
    """The digest of everything that decides what a trial measures, besides the searched values."""
    values = p.model_dump()
    for key in space.space:
        *sections, name = key.split(".")
        node: Any = values
        for section in sections:
            node = node[section]
        node.pop(name, None)
    of_folds = {}
    if space.folds:
        code = [*identity.code_deps("evaluate"), "src/tuneline/crossvalidation"]
        of_folds = {"evaluation": identity.code_sha256(code, Path.cwd()), "evaluate": values["evaluate"]}
    return files.digest(
        {
            **of_folds,
            "space": space.sha256,
            "code": identity.code_sha256(identity.code_deps("finetune"), Path.cwd()),
            "inputs": sorted((one.path, one.md5) for one in graph.recorded_inputs("finetune")),
            "task": values["task"],
            "finetune": values["finetune"],
            "mixture": values["data"]["mixture"],
            "augment": values["data"]["augment"],
            "compute": {name: value for name, value in values["compute"].items() if name != "threads"},
        }
    )


def begin(name: str, space: Space, p: Params) -> Record:
    """Keep the project as it is now, for the trials of a new search.

    Raises:
        GitError: git fails.
        PipelineError: the project is not in a git repository with a commit.
    """
    head = git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not head:
        raise PipelineError(
            "the project has no commit, whose experiments the trials are; run: git add -A && git commit"
        )

    def is_wanted(path: str) -> bool:
        return git_steps.is_of_dvc(path) or git_steps.is_below(path, set(_CODE))

    snapshot = git.commit_working_tree(
        f"search {name}",
        more=("dvc.yaml", "dvc.lock", params.PARAMS_FILE),
        is_wanted=is_wanted,
        # An experiment can be pushed.
        withheld=(".dvc/config",) if dvc_files.shared_secrets() else (),
    )
    git.ask("update-ref", "--no-deref", f"{kept_trials.REFS}/{name}", snapshot)
    record = Record(name, head, snapshot, compute_identity(space, p), space.model_dump(), defaults(space, p))
    record.save()
    return record
