"""Many texts at once as code points, in blocks that fit a processor's cache."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from tuneline.data.records.scripts import WITHOUT_SPACES

_BLOCK_CHARACTERS = 60_000
_BLOCK_TEXTS = 1024
GAP = "\n" * 5
"""Before, between and behind texts: as long as the longest gram."""
# Behind the last text, so that eight bytes can be read from wherever a token begins.
PAD = "\n" * 8

# Each character of these is a token, and three of them are a gram. Korean has spaces, but joins particles to words.
_HANGUL = (0xAC00, 0xD7A3)
_CHARACTERS = (*WITHOUT_SPACES, _HANGUL)
# From here on Unicode has neither letters nor digits.
_NO_LETTERS = 0x40000
WORD, CHARACTER = 1, 2


class Texts(NamedTuple):
    """Texts one after another."""

    data: bytes
    """The low seven bits of each code point; before, between and behind the texts five newlines, then eight more."""
    codes: np.ndarray
    """Code points. uint8 where all are ASCII, else uint32."""
    starts: np.ndarray
    lengths: np.ndarray


@cache
def kinds() -> np.ndarray:
    """Code point -> 0, a word's character, or a token by itself."""
    table = np.zeros(0x110000, np.uint8)
    table[:_NO_LETTERS] = np.fromiter(map(str.isalnum, map(chr, range(_NO_LETTERS))), np.uint8, _NO_LETTERS)
    for first, last in _CHARACTERS:
        table[first : last + 1] = CHARACTER
    return table


def blocks(texts: Sequence[str]) -> tuple[np.ndarray | None, list[Sequence[str]]]:
    """Texts in blocks; those beyond ASCII in blocks of their own, as they take longer.

    Returns:
        Of each text, its place among the texts of all blocks; None where it is the same. And the blocks.
    """
    plain = [text for text in texts if text.isascii()]
    if len(plain) in (0, len(texts)):
        return None, list(_cut(texts))
    wide = np.array([not text.isascii() for text in texts])
    order = np.empty(len(texts), np.int64)
    order[np.argsort(wide, kind="stable")] = np.arange(len(texts))
    return order, [*_cut(plain), *_cut([text for text in texts if not text.isascii()])]


def _cut(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for stop, text in enumerate(texts):
        if stop > start and (size + len(text) > _BLOCK_CHARACTERS or stop - start == _BLOCK_TEXTS):
            yield texts[start:stop]
            start, size = stop, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def join(texts: Sequence[str]) -> Texts:
    """The texts of one block, one after another."""
    text = f"{GAP}{GAP.join(texts)}{GAP}{PAD}"
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths + len(GAP)) - lengths
    if text.isascii():
        data = text.encode("ascii")
        return Texts(data, np.frombuffer(data, np.uint8), starts, lengths)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Texts((codes & np.uint32(0x7F)).astype(np.uint8).tobytes(), codes, starts, lengths)
