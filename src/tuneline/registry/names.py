"""Names and texts that a person or a file gives, checked before they reach MLflow; pure functions of text."""

import re

from tuneline import terminal
from tuneline.errors import RegistryError

_ALIAS = re.compile(r"[\w-]{1,255}")
"""MLflow's own rule."""
_LONGEST = 2000
"""Characters of a text; MLflow's params hold 6,000."""
_VERSION = re.compile(r"[vV]([0-9]+)")


def alias_problem(alias: str) -> str | None:
    """Why no version can have an alias, with the remedy; None if a version can have it.

    Args:
        alias: as a person has typed it.
    """
    if number := _VERSION.fullmatch(alias):
        return f"{alias} is no alias, because MLflow keeps such names for numbers; write: --version {number[1]}"
    if not _ALIAS.fullmatch(alias) or not alias.isprintable():
        shown = terminal.shortened(repr(alias))
        return f"{shown} cannot be an alias; an alias has 1 to 255 letters, digits, - and _, such as champion"
    return None


def storable(text: str) -> str:
    """A text as MLflow's databases can hold it: without control characters, passwords, and what is too long.

    Args:
        text: such as a reason, with names from data or from the file system.
    """
    safe = terminal.safe_text(text)
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 1]}…"


def quoted(text: str) -> str:
    """A text as a value in a filter of MLflow, which knows no escapes.

    Raises:
        RegistryError: the text could end the value and say something else.
    """
    if not text.isprintable() or set(text) & set("'\"`\\"):
        raise RegistryError(
            f"{terminal.shortened(repr(text))}: holds quotes or control characters, which no name in the registry has; "
            "it was not written by tuneline"
        )
    return f"'{text}'"
