"""Whether two models can be scored on the same rows, decided from the small files of their folders."""

from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.encoding.examples import CLASSIFICATION
from tuneline.errors import ModelError
from tuneline.modeling.model_folder import stored_mode

_MOST_NAMED = 5


def mismatch(candidate: Path, other: Path, called: str = "the candidate") -> str | None:
    """Why two models cannot be scored on the same rows; None where they can.

    Args:
        candidate: a model folder.
        other: the folder of the model that the candidate is compared with.
        called: what the sentence calls the model in `candidate`.

    Returns:
        What is wrong with the other model, as a sentence without its subject.

    Raises:
        ModelError: a folder lacks a file that is needed.
    """
    mine, theirs = stored_mode(candidate), stored_mode(other)
    if mine != theirs:
        return f"is of another task: its mode is {theirs}, and {called}'s mode is {mine}"
    return _label_mismatch(candidate, other, called) if mine == CLASSIFICATION else None


def _label_mismatch(candidate: Path, other: Path, called: str) -> str | None:
    mine, theirs = (_config(folder) for folder in (candidate, other))
    own, known = (_labels(config, folder) for config, folder in ((mine, candidate), (theirs, other)))
    differences = [
        f"{what} {', '.join(map(repr, sorted(names)[:_MOST_NAMED]))}{' and more' if len(names) > _MOST_NAMED else ''}"
        for what, names in (("lacks", own - known), ("also has", known - own))
        if names
    ]
    if differences:
        return f"has other labels than {called}: it {' and '.join(differences)}"
    if mine.get("problem_type") != theirs.get("problem_type"):
        return f"was trained for {theirs.get('problem_type')}, and {called} for {mine.get('problem_type')}"
    return None


def _labels(config: dict[str, Any], folder: Path) -> set[str]:
    found = config.get("id2label")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ModelError(f"{folder / 'config.json'}: id2label does not name the labels; fetch or make the model again")
    return set(found.values())


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: missing or damaged; fetch or make the model again")
    return value
