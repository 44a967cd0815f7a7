"""Text from data and from models, made harmless for a terminal."""

import unicodedata

_JOINERS = "\u200c\u200d"
"""They join or separate letters and emoji, and steer nothing."""


def visible(text: str) -> str:
    """The text with every character spelt out that would steer a terminal, or turn the reading order around."""
    return "".join(
        character
        if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
