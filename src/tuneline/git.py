"""What git knows about the working tree. Only this file runs git."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import GitError

# git's exit code for the answer no.
_NO = 1
_NO_REPOSITORY = "not a git repository"
_TRUSTED = re.compile(r"git config --global --add safe\.directory .+")
_INDEX = re.compile(r"index file|bad signature|bad index")


@dataclass(frozen=True)
class Change:
    """A file that differs from the last commit."""

    path: str
    """Relative to the working directory."""
    is_new: bool
    """Whether git does not know it yet."""
    is_staged: bool
    """Whether `git add` was run for it as it is."""


def changed_files() -> list[Change]:
    """The files below the working directory that differ from the last commit, ignored files left out.

    Returns:
        Empty without a repository.

    Raises:
        GitError: a repository exists, but git fails.
    """
    prefix = ask("rev-parse", "--show-prefix")
    listed = ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    found = []
    for entry in filter(None, listed.split("\0")):
        state, path = entry[:2], entry[3:]
        found.append(Change(path.removeprefix(prefix), is_new=state == "??", is_staged=state[1] == " "))
    return found


def held_lock() -> Path | None:
    """The lock file of a git that is changing the repository, or was killed then; None without such a file.

    Raises:
        GitError: a repository exists, but git fails.
    """
    place = ask("rev-parse", "--git-path", "index.lock")
    return Path(place) if place and Path(place).is_file() else None


def committed_text(path: Path) -> str:
    """The text of a file in the last commit, without the newline at its end; empty if the commit does not hold it.

    Args:
        path: relative to the working directory.

    Raises:
        GitError: a repository exists, but git fails.
    """
    blob = ask("rev-parse", "--verify", "--quiet", f"HEAD:./{path.as_posix()}")
    return ask("cat-file", "blob", blob) if blob else ""


def ask(*arguments: str) -> str:
    """The output of `git ARGUMENTS…`, without the newline at its end.

    Args:
        arguments: a command that exits with code 1 for the answer no, and with another code when git fails.

    Returns:
        The output; empty for the answer no, or if the working directory is not in a repository.

    Raises:
        GitError: a repository exists, but git fails; with git's message and the remedy.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            # English messages, because they are searched; and git must not wait for another git.
            env=os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        repository = _repository()
        if repository is None:
            return ""
        raise GitError(
            f"{repository}: is this project's repository, but git cannot be run ({error.strerror}); install git, or "
            "put it on the PATH"
        ) from None
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    if done.returncode == _NO or (_NO_REPOSITORY in done.stderr and _repository() is None):
        return ""
    raise GitError(_problem(arguments[0], done))


def _repository() -> Path | None:
    """The `.git` of the working directory or of a folder above it; an empty folder of that name does not count."""
    here = Path.cwd()
    for place in (folder / ".git" for folder in (here, *here.parents)):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            return place
    return None


def _problem(command: str, done: subprocess.CompletedProcess[str]) -> str:
    """git's message and the remedy, in a line."""
    message = done.stderr.strip() or f"exit code {done.returncode}"
    if trusted := _TRUSTED.search(message):
        first = message.splitlines()[0]
        return f"git {command}: {first}; if you trust its content: {trusted[0]}"
    words = " ".join(message.split())
    if _INDEX.search(words):
        index = shlex.quote(_index())
        return f"git {command}: {words}; make a new index, which does not change your files: rm {index} && git reset"
    if _NO_REPOSITORY in words:
        return f"git {command}: {words}, although {_repository()} exists; restore it, or move it away"
    return f"git {command}: {words}; repair what git reports, and check with: git status"


def _index() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--git-path", "index"],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else ".git/index"
