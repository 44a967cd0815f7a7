"""The commands that put what a run has made into git and DVC, so that other clones get it."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from tuneline import git, params
from tuneline.errors import GitError
from tuneline.git import Change
from tuneline.pipeline import dvc_files, graph
from tuneline.registry import lineage

# The files of DVC and of the params that git holds.
_CONFIG = ".dvc/config"
_FILES = frozenset({"dvc.yaml", "dvc.lock", _CONFIG, params.PARAMS_FILE})
_NAMES = frozenset({".gitignore", ".dvcignore"})


def keep_commands(p: params.Params) -> list[str]:
    """The lines to show, with the commands to run so that another clone can go on from here; empty if git holds all.

    Args:
        p: the params.
    """
    try:
        changes, lock = git.changed_files(), git.held_lock()
    except GitError as error:
        return [f"git cannot keep what was made: {problem}" for problem in error.problems]
    has_remote = dvc_files.has_remote()
    secrets = dvc_files.shared_secrets()
    steps = plan_steps(changes, graph.recorded_paths(), loose_places(p), has_remote=has_remote, secrets=secrets)
    if steps and lock:
        steps.append(f"git adds nothing while {lock} exists; if no git is running, a killed git has left it: rm {lock}")
    return steps


def loose_places(p: params.Params) -> list[str]:
    """The patterns of folders that belong under DVC and not into git."""
    found = [p.data.raw, p.data.pretraining, f"{p.paths.mixture}/*"]
    found += [path for one in p.data.augment.back_translation.values() for path in (one.model, one.back)]
    return [*found, p.base.input] if p.base.source in ("path", "merge") else found


def full_commit(p: params.Params) -> str | None:
    """The commit that holds all that the model was made from: code, params, graph, locks and the .dvc files.

    Args:
        p: the params.

    Returns:
        Its sha; None where something differs from the last commit.
    """
    state = lineage.git_state()
    if state["git_dirty"] != "false" or keep_commands(p):
        return None
    return state["git_commit"]


def plan_steps(
    changes: Iterable[Change],
    named: set[str],
    data: Sequence[str],
    *,
    has_remote: bool,
    secrets: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """The lines of `keep_commands`, from plain values.

    Args:
        changes: the files that differ from the last commit.
        named: the files and folders that dvc.lock names; a folder stands for all files below it.
        data: patterns of folders that belong under DVC and not into git.
        has_remote: whether DVC has a remote to push to.
        secrets: each remote in .dvc/config with a password in an option: its name, and the option.
    """
    held_back = []
    if secrets:
        changes = list(changes)
        held_back = [_secret(*secrets[0], change) for change in changes if change.path == _CONFIG]
        changes = [change for change in changes if change.path != _CONFIG]
    return [*held_back, *_steps(changes, named, data, has_remote=has_remote)]


def _secret(remote: str, option: str, change: Change) -> str:
    modify = f".venv/bin/dvc remote modify --local {shlex.quote(remote)} {option}"
    plain = f"write the {option} without it" if option == "url" else f"delete the {option}"
    unstage = f", and unstage it with: git restore --staged {_CONFIG}" if change.is_staged else ""
    return (
        f"{_CONFIG}: remote '{remote}' contains a password ({option}), so do not commit this file{unstage}; keep the "
        f"password on this machine with: {modify} VALUE; and {plain} in {_CONFIG}"
    )


def _steps(changes: Iterable[Change], named: set[str], data: Sequence[str], *, has_remote: bool) -> list[str]:
    add: list[str] = []
    loose: list[str] = []
    is_staged = False
    for change in changes:
        folder = place_of(change.path, data) if change.is_new else None
        if folder is not None and not is_of_dvc(change.path):
            loose += [folder] if folder not in loose else []
        elif is_of_dvc(change.path) or is_below(change.path, named):
            is_staged = is_staged or change.is_staged
            add += [] if change.is_staged else [change.path]
    for folder in loose:
        add += [f"{folder}.dvc", f"{PurePosixPath(folder).parent}/.gitignore"]
    if not add and not is_staged:
        return []
    steps = [_command(".venv/bin/dvc", "add", *loose)] if loose else []
    steps += [_command("git", "add", *dict.fromkeys(add))] if add else []
    steps.append("git commit -m 'Train'")
    if has_remote:
        return ["to keep what was made: " + " && ".join([*steps, ".venv/bin/dvc push"])]
    return [
        "to keep what was made: " + " && ".join(steps),
        "the data and the models are only in this folder; to let other clones fetch them, first add a remote: "
        ".venv/bin/dvc remote add --default storage URL",
    ]


def is_of_dvc(path: str) -> bool:
    """Whether a file is one of those in which DVC or git describe the data, or params.yaml."""
    name = PurePosixPath(path).name
    return path in _FILES or name in _NAMES or name.endswith(".dvc") or path.startswith(".dvc/plots/")


def is_below(path: str, places: set[str]) -> bool:
    """Whether a path is one of `places`, or is inside one."""
    return not places.isdisjoint(map(str, [PurePosixPath(path), *PurePosixPath(path).parents]))


def place_of(path: str, patterns: Sequence[str]) -> str | None:
    """The file or folder at or above `path` that matches a pattern."""
    parts = PurePosixPath(path).parts
    for pattern in patterns:
        depth = len(PurePosixPath(pattern).parts)
        place = "/".join(parts[:depth])
        if len(parts) >= depth and PurePosixPath(place).match(pattern):
            return place
    return None


def _command(*words: str) -> str:
    # git and dvc would read a name that begins with a dash as an option.
    return shlex.join(
        word if place == 0 or not word.startswith("-") else f"./{word}" for place, word in enumerate(words)
    )
