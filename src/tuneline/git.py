"""What git says of the working tree; the only file that asks git."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import GitError

# What git's exit code says: there is an answer, and it is no.
_NO = 1
_NO_REPOSITORY = "not a git repository"
_TRUSTED = re.compile(r"git config --global --add safe\.directory .+")
_INDEX = re.compile(r"index file|bad signature|bad index")


@dataclass(frozen=True)
class Change:
    """A file that differs from the last commit."""

    path: str
    """Relative to the working directory; of a file that git does not know yet, too."""
    is_new: bool
    """Whether git does not know it yet."""
    is_staged: bool
    """Whether `git add` has nothing left to do for it."""


def changed_files() -> list[Change]:
    """The files below the working directory that git neither ignores nor holds as they are; empty without a repository.

    Raises:
        GitError: there is a repository, and git does not say what it holds.
    """
    prefix = ask("rev-parse", "--show-prefix")
    listed = ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    found = []
    for entry in filter(None, listed.split("\0")):
        state, path = entry[:2], entry[3:]
        found.append(Change(path.removeprefix(prefix), is_new=state == "??", is_staged=state[1] == " "))
    return found


def held_lock() -> Path | None:
    """The lock that a git which changes the repository holds, or has left when it was killed; None where there is none.

    Raises:
        GitError: there is a repository, and git does not say where it is.
    """
    place = ask("rev-parse", "--git-path", "index.lock")
    return Path(place) if place and Path(place).is_file() else None


def committed_text(path: Path) -> str:
    """The text that the last commit holds of a file, without the newline at its end; empty where it holds none.

    Args:
        path: relative to the working directory.

    Raises:
        GitError: there is a repository, and git does not say what it holds.
    """
    blob = ask("rev-parse", "--verify", "--quiet", f"HEAD:./{path.as_posix()}")
    return ask("cat-file", "blob", blob) if blob else ""


def ask(*arguments: str) -> str:
    """What `git ARGUMENTS…` prints, without the newline at its end.

    Args:
        arguments: a command that ends with exit code 1 where the answer is no, and with another where git refuses.

    Returns:
        The answer; empty where it is no, or where the working directory is in no repository.

    Raises:
        GitError: there is a repository, and git does not answer; says what git says, and the remedy.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            # Its words are looked into, and it shall not wait for another git.
            env=os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        repository = _repository()
        if repository is None:
            return ""
        raise GitError(
            f"{repository}: holds this project's history, and git cannot be run ({error.strerror}); install git, or "
            "put it on the PATH"
        ) from None
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    if done.returncode == _NO or (_NO_REPOSITORY in done.stderr and _repository() is None):
        return ""
    raise GitError(_problem(arguments[0], done))


def _repository() -> Path | None:
    """The `.git` of the working directory or of a folder above it; an empty folder of that name is not looked at."""
    here = Path.cwd()
    for place in (folder / ".git" for folder in (here, *here.parents)):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            return place
    return None


def _problem(command: str, done: subprocess.CompletedProcess[str]) -> str:
    """What git says, and what to do about it, in a line."""
    said = done.stderr.strip() or f"exit code {done.returncode}"
    if trusted := _TRUSTED.search(said):
        first = said.splitlines()[0]
        return f"git {command}: {first}; if you trust all that is in it: {trusted[0]}"
    words = " ".join(said.split())
    if _INDEX.search(words):
        index = shlex.quote(_index())
        return f"git {command}: {words}; make the index anew, which leaves your files alone: rm {index} && git reset"
    if _NO_REPOSITORY in words:
        return f"git {command}: {words}, although {_repository()} is there; put it back as it was, or move it away"
    return f"git {command}: {words}; mend what git says, and look with: git status"


def _index() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--git-path", "index"],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else ".git/index"
