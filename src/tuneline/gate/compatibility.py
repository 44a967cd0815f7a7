"""What kind of model a folder holds, read from its small files alone."""

from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.errors import ModelError

_NAMED = 5


def mismatch(candidate: Path, other: Path) -> str | None:
    """Why two models cannot be measured on the same rows, or None.

    Args:
        candidate: a model folder.
        other: that of the model that it is to be compared with.

    Returns:
        What is wrong with the other, as it goes on after its name.

    Raises:
        ModelError: a folder lacks one of these files.
    """
    mine, theirs = mode(candidate), mode(other)
    if mine != theirs:
        return f"is of another task: its mode is {theirs}, the candidate's {mine}"
    if mine == "classification":
        own, known = _labels(candidate), _labels(other)
        differences = [
            f"{what} {', '.join(map(repr, sorted(names)[:_NAMED]))}{' and more' if len(names) > _NAMED else ''}"
            for what, names in (("does not know", own - known), ("knows besides", known - own))
            if names
        ]
        if differences:
            return f"has other labels than the candidate: it {' and '.join(differences)}"
        several = [_json(folder / "config.json").get("problem_type") for folder in (candidate, other)]
        if several[0] != several[1]:
            return f"was made for {several[1]}, the candidate for {several[0]}"
    return None


def mode(folder: Path) -> str:
    """How records become tokens for a model: plain, chat, classification or regression.

    Args:
        folder: the model's.

    Raises:
        ModelError: the file that says so is not as it was written.
    """
    path = folder / "tuneline.json"
    return _json(path).get("mode", "plain") if path.is_file() else "plain"


def _labels(folder: Path) -> set[str]:
    return set(_json(folder / "config.json").get("id2label", {}).values())


def _json(path: Path) -> dict[str, Any]:
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: missing or not as it was written; fetch or make the model again")
    return value
