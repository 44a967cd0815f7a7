"""How records become tokens for a model: the mode that is stored in its folder."""

from pathlib import Path

from tuneline.core import files
from tuneline.errors import ModelError

MODE_FILE = "tuneline.json"
PLAIN = "plain"
"""The mode in which a text, or a pair's prompt and completion, is trained as written plus end-of-text."""
CHAT = "chat"
"""The mode in which conversations go through the tokenizer's chat template, and what the assistant says is learnt."""
CLASSIFICATION = "classification"
REGRESSION = "regression"
_MODES = (PLAIN, CHAT, CLASSIFICATION, REGRESSION)


def mode_of(folder: Path) -> str:
    """How records become tokens for the model in `folder`, as stored with it."""
    path = folder / MODE_FILE
    try:
        stored = files.read_json(path)["mode"]
    except FileNotFoundError:
        return PLAIN
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f'{path}: is not as it was written; it must be {{"mode": "{PLAIN}"}}') from None
    if stored not in _MODES:
        raise ModelError(f"{path}: mode {stored!r} is unknown here; known: {', '.join(_MODES)}")
    return stored
