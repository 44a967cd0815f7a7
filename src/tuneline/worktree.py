"""What git says of the working tree; the only file that asks git."""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A file that differs from the last commit."""

    path: str
    """Relative to the working directory; of a file that git does not know yet, too."""
    is_new: bool
    """Whether git does not know it yet."""
    is_staged: bool
    """Whether `git add` has nothing left to do for it."""


def changes() -> list[Change]:
    """The files below the working directory that git neither ignores nor holds as they are; empty without git."""
    prefix = ask("rev-parse", "--show-prefix")
    listed = ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    found = []
    for entry in filter(None, listed.split("\0")):
        state, path = entry[:2], entry[3:]
        found.append(Change(path.removeprefix(prefix), is_new=state == "??", is_staged=state[1] == " "))
    return found


def ask(*arguments: str) -> str:
    """What `git ARGUMENTS…` prints, without the newline at its end; empty where git fails."""
    done = subprocess.run(
        ["git", *arguments], capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
