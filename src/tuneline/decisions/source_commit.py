"""The git commit that holds what a version was made from, as it was: code, params, graph, locks and .dvc files.

It is made before a version is registered, from the working tree with all its uncommitted changes. The tag
`tuneline.source_commit` of the version holds its sha, and a ref of its own keeps it: refs/tuneline/<model>/v<number>.
"""

import hashlib
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tuneline import git, params, terminal
from tuneline.core import files
from tuneline.decisions import git_steps
from tuneline.environment import ENV_FILE
from tuneline.errors import GitError, RegistryError
from tuneline.pipeline import dvc_files, graph
from tuneline.registry.lineage import ENVIRONMENT_LOCKS, Lineage
from tuneline.registry.tracking import Tracker

TAG = "tuneline.source_commit"
"""The tag of a version with the sha of its commit."""
REFS = "refs/tuneline"
"""The prefix of the refs; git neither lists these refs as branches or tags nor fetches them unasked."""
_NEEDED = ("dvc.yaml", "dvc.lock", params.PARAMS_FILE, *ENVIRONMENT_LOCKS)
_CODE = ("src", "flows", "scripts", "pyproject.toml", "README.md", "requirements-training.lock")
_CONFIG = ".dvc/config"
# What a person needs to see first where a rebuild differs.
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "trl", "numpy")


def make(p: params.Params, origin: Lineage) -> str:
    """Make the commit of the working tree, where nothing is stale.

    Args:
        p: the params.
        origin: the lineage of the model.

    Returns:
        Its sha; empty if the project is not in a git repository.

    Raises:
        GitError: git fails.
        RegistryError: a file has changed since the lineage was read.
    """
    named = graph.recorded_paths()
    loose = git_steps.loose_places(p)

    def is_wanted(path: str) -> bool:
        if git_steps.is_of_dvc(path) or path == ENV_FILE.as_posix():
            return True
        return git_steps.is_below(path, {*_CODE, *named}) and git_steps.place_of(path, loose) is None

    commit = git.commit_working_tree(_message(p), more=_needed(), is_wanted=is_wanted, withheld=_secret_files())
    if commit and (changed := list(differences(commit, origin.tags()))):
        raise RegistryError(
            *changed, "a file changed during the registration, so the model is not registered; run `make run`"
        )
    return commit


def _needed() -> list[str]:
    pointers = {str(path) for pattern in dvc_files.POINTERS for path in Path().glob(pattern) if path.is_file()}
    return [*_NEEDED, *sorted(pointers)]


def _secret_files() -> list[str]:
    """The files that hold a password, which must not reach other clones."""
    found = [_CONFIG] if dvc_files.shared_secrets() else []
    text = ENV_FILE.read_text("utf-8", errors="replace") if ENV_FILE.is_file() else ""
    return [*found, *([ENV_FILE.as_posix()] if terminal.masked(text) != text else [])]


def _message(p: params.Params) -> str:
    libraries = "\n".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return (
        f"What a version of {p.registry.model} was made from\n\nMade by tuneline, and kept by a ref below {REFS}/.\n\n"
        f"Python {platform.python_version()}\n{libraries}\n{platform.system()} {platform.machine()}\n"
    )


def differences(commit: str, tags: Mapping[str, str]) -> list[str]:
    """How params.yaml, dvc.lock and the locks of a commit differ from what a version's tags say of them.

    Args:
        commit: its sha.
        tags: of the version.

    Raises:
        GitError: git fails, for example because an object is damaged.
    """
    read = {name: git.content_of(commit, name) for name in _NEEDED}
    hashed = {name: hashlib.sha256(value).hexdigest() for name, value in read.items() if value is not None}
    found = [f"{name}: commit {commit[:12]} does not hold it" for name in _NEEDED if name not in hashed]
    for name, tag in ((params.PARAMS_FILE, "tuneline.params_sha256"), ("dvc.lock", "tuneline.dvc_lock_sha256")):
        if name in hashed and hashed[name] != tags.get(tag):
            found.append(_differs(name, commit, hashed[name], tags.get(tag)))
    locks = files.digest([hashed.get(name) for name in ENVIRONMENT_LOCKS])
    if not found and locks != tags.get("tuneline.environment_sha256"):
        names = " and ".join(ENVIRONMENT_LOCKS)
        found.append(_differs(names, commit, locks, tags.get("tuneline.environment_sha256")))
    return found


def _differs(name: str, commit: str, there: str, registered: str | None) -> str:
    return (
        f"{name}: commit {commit[:12]} holds the sha256 {there[:12]}…, and the version was registered with "
        f"{str(registered)[:12]}…"
    )


def ref_name(model: str, version: str) -> str:
    """The ref of a version; dots that git does not allow at their place are written as %2E."""
    return f"{REFS}/{re.sub(r'[.](?=[.]|lock$|$)', '%2E', model)}/v{version}"


def free_name(name: str, commit: str, refs: Mapping[str, str]) -> str | None:
    """The name for a ref of a commit; None where a ref of this name, or of the other name, is of the commit already.

    Two registries number their versions alike, so a clone may have fetched the ref of another version of this number.
    Then the beginning of the sha is added to the name.

    Args:
        name: as `ref_name` gives it.
        commit: its sha.
        refs: name -> sha of the refs that exist.
    """
    longer = f"{name}-{commit[:12]}"
    if commit in (refs.get(name), refs.get(longer)):
        return None
    return longer if name in refs else name


def keep(tracker: Tracker, model: str) -> list[str]:
    """Set the refs that the versions of a model lack, such as that of a version whose `register` was killed.

    Args:
        tracker: the registry.
        model: the registered model's name.

    Returns:
        What a person should know, in sentences.
    """
    try:
        refs = git.refs_below(f"{REFS}/")
        for version, tags in tracker.all_version_tags(model).items():
            commit = tags.get(TAG, "")
            name = free_name(ref_name(model, version), commit, refs)
            # A version that another clone has registered has its commit there.
            if name and is_sha(commit) and git.has_commit(commit):
                git.set_ref(name, commit)
    except GitError as error:
        return [f"git cannot keep the sources of a version: {problem}" for problem in error.problems]
    return []


def is_sha(text: str) -> bool:
    """Whether a tag holds a sha of git; anyone who may write to the registry can write something else into it."""
    return re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text) is not None
