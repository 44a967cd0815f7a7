"""Texts as words and what stands between them, in every script. The words of Chinese are those that rjieba finds."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tuneline.data.records.scripts import WITHOUT_SPACES, character_class

_HAN = character_class(scope for scope in WITHOUT_SPACES if scope[0] >= 0x3400)
_UNSPACED = character_class()
_PIECE = re.compile(
    # A run of Han; one character of another script without spaces; a word; what is no word.
    rf"(?P<han>{_HAN}+)|(?P<character>{_UNSPACED})|(?P<word>(?:(?!{_UNSPACED})\w)+(?:['’-](?:(?!{_UNSPACED})\w)+)*)"
    rf"|(?P<between>[^\w]+)"
)
# The first of the punctuation that stands without spaces.
_WIDE = "\u3000"
# Spaces that no keyboard writes; one that a text lacks can stand between its words.
_MARKS = "\u2005\u2006\u2008"


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    is_word: bool


def pieces(text: str) -> list[Piece]:
    """The words of a text and what stands between them; joined, they are the text.

    Chinese is divided by rjieba, other scripts without spaces into their characters.
    """
    return list(_pieces(text))


def _pieces(text: str) -> Iterator[Piece]:
    for match in _PIECE.finditer(text):
        if match.lastgroup == "han":
            # It is an extra, which a text without Chinese does not need.
            import rjieba  # pyright: ignore[reportMissingImports]

            yield from (Piece(word, True) for word in rjieba.cut(match[0]))
        else:
            yield Piece(match[0], match.lastgroup != "between")


def spaced(text: str) -> tuple[str, str]:
    """A text with a mark between words that have no space between them, for a tool that finds words by spaces.

    Returns:
        The text, and the mark, which is a space of another kind; removed, it leaves the text as it was. The mark is
        empty if the text needs none.
    """
    mark = next((one for one in _MARKS if one not in text), "")
    found = pieces(text)
    parts = [found[0].text] if found else []
    for before, piece in pairwise(found):
        last = before.text[-1]
        # After `(` a word goes on, after the full stop of a script without spaces another one begins.
        begins = before.is_word or _is_unspaced(piece.text[0]) or last >= _WIDE
        parts += [mark, piece.text] if piece.is_word and begins and not last.isspace() else [piece.text]
    joined = "".join(parts)
    return joined, mark if mark and mark in joined else ""


def _is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in WITHOUT_SPACES)
