"""The lineage of a model: digests of all that it was made from, read from the workspace."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tuneline import git, params
from tuneline.core import files
from tuneline.errors import GitError

ENVIRONMENT_LOCKS = ("requirements.lock", "requirements-torch.lock")
"""The versions of all libraries."""
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


_PATH = r"(?P<path>[\w.~/-]+?)(?:\.git)?/?"
_WEB = re.compile(rf"https?://(?:[^@/]*@)?(?P<host>[\w.-]+(?::\d+)?)/{_PATH}")
_SSH = re.compile(rf"(?:ssh://)?(?:[^@/]*@)(?P<host>[\w.-]+)(?::\d+/|[:/]){_PATH}")
_SHA = re.compile("[0-9a-f]{40,64}")


@dataclass(frozen=True)
class Lineage:
    """What a version names about its origin; a digest is a sha256 in hex, that of a folder by `files.sha256_path`."""

    fingerprint: str
    """Of the training: params, data, base, code, threads, libraries, instruction set."""
    model_sha256: str
    data_sha256: str
    base_sha256: str
    evaluation_sha256: str
    params_sha256: str
    dvc_lock_sha256: str
    environment_sha256: str
    """Of requirements.lock and requirements-torch.lock."""
    git_commit: str
    git_dirty: str
    """"true" if code, params, graph or locks differ from the commit, "false" if not; "unknown" with the reason if git
    fails."""

    def tags(self) -> dict[str, str]:
        """The lineage as MLflow tags: `tuneline.NAME` -> value."""
        return {f"tuneline.{name}": value for name, value in asdict(self).items()}

    def is_same_but_for_git(self, other: "Lineage") -> bool:
        """Whether all digests are equal; a commit changes none of them."""
        return self == replace(other, git_commit=self.git_commit, git_dirty=self.git_dirty)


def pinned(locks: str) -> dict[str, list[str]]:
    """Name -> versions of the packages that locks pin; several versions where Pythons need different ones.

    Args:
        locks: their text.
    """
    found: dict[str, list[str]] = {}
    for line in locks.splitlines():
        if (pin := _PIN.match(line)) and pin[2] not in found.setdefault(pin[1], []):
            found[pin[1]].append(pin[2])
    return found


def read_lineage(p: params.Params) -> Lineage:
    """The lineage of the model in the workspace, where nothing is stale.

    Args:
        p: the params.
    """
    reports = Path(p.paths.reports)
    return Lineage(
        fingerprint=files.read_object(reports / "training.json", "fingerprint")["fingerprint"],
        model_sha256=files.sha256_path(Path(p.paths.finetuned)),
        data_sha256=files.sha256_path(Path(p.paths.clean)),
        base_sha256=files.sha256_path(Path(p.paths.base)),
        evaluation_sha256=files.sha256_path(reports / "evaluation.json"),
        params_sha256=files.sha256_file(Path(params.PARAMS_FILE)),
        dvc_lock_sha256=files.sha256_file(Path("dvc.lock")),
        environment_sha256=files.digest([files.sha256_file(Path(name)) for name in ENVIRONMENT_LOCKS]),
        **git_state(),
    )


def git_state() -> dict[str, str]:
    """`git_commit` ("none" before the first commit) and `git_dirty` of the working tree; "unknown" if git fails."""
    try:
        commit = git.ask("rev-parse", "--verify", "--quiet", "HEAD")
        dirty = git.ask(
            "status", "--porcelain", "--", "src", "flows", "dvc.yaml", params.PARAMS_FILE, *ENVIRONMENT_LOCKS
        )
    except GitError as error:
        # The digests identify the model's origin all the same.
        return {"git_commit": "unknown", "git_dirty": f"unknown: {error}"}
    return {"git_commit": commit or "none", "git_dirty": "true" if dirty or not commit else "false"}


def code_url(commit: str) -> str | None:
    """The web page of a commit at the remote `origin`; None without such a remote, commit or page.

    Args:
        commit: its sha, or why there is none.
    """
    try:
        remote = git.ask("config", "--get", "remote.origin.url")
    except GitError:
        return None
    return page_of_commit(remote, commit)


def page_of_commit(remote: str, commit: str) -> str | None:
    """The web page of a commit, without the user and password of the remote's address; None if it has none.

    Args:
        remote: the address of a remote, as git knows it.
        commit: the sha.
    """
    found = _WEB.fullmatch(remote) or _SSH.fullmatch(remote)
    if found is None or not _SHA.fullmatch(commit):
        return None
    return f"https://{found['host']}/{found['path']}/commit/{commit}"
