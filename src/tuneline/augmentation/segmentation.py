"""Texts as words and what stands between them, in every script. The words of Chinese are those that rjieba finds."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from tuneline.data.records.scripts import WITHOUT_SPACES, character_class

_HAN = character_class(scope for scope in WITHOUT_SPACES if scope[0] >= 0x3400)
_UNSPACED = character_class()
_PIECE = re.compile(
    # A run of Han; one character of another script without spaces; a word; what is no word.
    rf"(?P<han>{_HAN}+)|(?P<character>{_UNSPACED})|(?P<word>(?:(?!{_UNSPACED})\w)+(?:['’-](?:(?!{_UNSPACED})\w)+)*)"
    rf"|(?P<between>[^\w]+)"
)
_HAN_ONLY = re.compile(f"{_HAN}+")
# The first of the punctuation that stands without spaces.
_WIDE = "\u3000"
# Spaces that no keyboard writes; one that a text lacks can stand between its words.
_MARKS = "\u2005\u2006\u2008"


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    is_word: bool


Cut = Callable[[str], list[str]]
"""Chinese without anything else -> its words."""


def pieces(text: str, cut: Cut | None = None) -> list[Piece]:
    """The words of a text and what stands between them; joined, they are the text.

    Args:
        text: Chinese in it is divided into words, other scripts without spaces into their characters.
        cut: divides Chinese; None: as rjieba does.
    """
    return list(_pieces(text, cut))


def _pieces(text: str, cut: Cut | None) -> Iterator[Piece]:
    for match in _PIECE.finditer(text):
        if match.lastgroup == "han":
            cut = cut or chinese_cutter(())
            yield from (Piece(word, True) for word in cut(match[0]))
        else:
            yield Piece(match[0], match.lastgroup != "between")


def chinese_cutter(words: Iterable[str]) -> Cut:
    """A function that divides Chinese by the dictionary of rjieba.

    Args:
        words: which the dictionary must have, too; words of other scripts are ignored.
    """
    known = tuple(word for word in words if _HAN_ONLY.fullmatch(word))
    return lambda text: _jieba(known).cut(text)


@cache
def _jieba(words: tuple[str, ...]) -> Any:
    # It is an extra, which texts without Chinese do not need. Reading its dictionary takes half a second.
    import rjieba  # pyright: ignore[reportMissingImports]

    jieba = rjieba.Jieba()
    for word in words:
        jieba.add_word(word, None, None)
    return jieba


def is_one_word(text: str) -> bool:
    """Whether a text is a word that `pieces` can find; of Chinese, any text."""
    if _HAN_ONLY.fullmatch(text):
        return True
    found = [match.lastgroup for match in _PIECE.finditer(text)]
    return len(found) == 1 and found[0] != "between"


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
