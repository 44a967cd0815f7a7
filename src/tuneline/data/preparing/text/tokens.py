"""Many texts at once as arrays of code points, and their tokens as hashes.

A token is a word, or a single character of a script without spaces. Texts are processed in blocks that fit a
processor's cache.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from tuneline.core.arrays import mix
from tuneline.data.records.scripts import WITHOUT_SPACES

GAP = "\n" * 5
"""Separates texts, and is before the first and after the last. It is as long as the longest gram of characters."""
PAD = "\n" * 8
"""Follows the last gap, so that eight bytes can be read from the beginning of every token."""

_BLOCK_CHARACTERS = 60_000
_BLOCK_TEXTS = 1024
# Each of these characters is a token. Korean has spaces, but joins particles to words.
_HANGUL = (0xAC00, 0xD7A3)
_SINGLE = (*WITHOUT_SPACES, _HANGUL)
# From here on Unicode has neither letters nor digits.
_NO_LETTERS = 0x40000
WORD, CHARACTER = 1, 2
_ASCII_WORDS = bytes(code < 128 and chr(code).isalnum() for code in range(256))

_WORD_BYTES, _LONGEST_WORD = 8, 64
_M64 = np.uint64(0x9E3779B97F4A7C15)
# Its inverse modulo 2**64.
_M64_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_WORD_BYTES + 1)], np.uint64)


class Block(NamedTuple):
    """Some texts, joined."""

    data: bytes
    """The low seven bits of each code point."""
    codes: np.ndarray
    """Code points: uint8 if all are ASCII, else uint32."""
    starts: np.ndarray
    """[texts] index of each text's first code point."""
    lengths: np.ndarray
    """[texts] number of code points."""


class Tokens(NamedTuple):
    """The tokens of some texts."""

    hashes: np.ndarray
    """uint32, [tokens]: equal tokens have equal hashes."""
    starts: np.ndarray
    """[texts + 1] index of each text's first token."""
    codes: np.ndarray
    """[tokens] index of each token's first code point in its own text."""


def blocks(texts: Sequence[str]) -> tuple[np.ndarray | None, list[Sequence[str]]]:
    """Return texts in blocks. ASCII texts have blocks of their own, as they take less time.

    Returns:
        [texts] the position of each text among the texts of all blocks, or None if the order is the same; the blocks.
    """
    ascii_texts = [text for text in texts if text.isascii()]
    if len(ascii_texts) in (0, len(texts)):
        return None, list(_cut(texts))
    is_wide = np.array([not text.isascii() for text in texts])
    order = np.empty(len(texts), np.int64)
    order[np.argsort(is_wide, kind="stable")] = np.arange(len(texts))
    return order, [*_cut(ascii_texts), *_cut([text for text in texts if not text.isascii()])]


def _cut(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for stop, text in enumerate(texts):
        if stop > start and (size + len(text) > _BLOCK_CHARACTERS or stop - start == _BLOCK_TEXTS):
            yield texts[start:stop]
            start, size = stop, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def join(texts: Sequence[str]) -> Block:
    """Return the texts of a block, joined."""
    text = f"{GAP}{GAP.join(texts)}{GAP}{PAD}"
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths + len(GAP)) - lengths
    if text.isascii():
        data = text.encode("ascii")
        return Block(data, np.frombuffer(data, np.uint8), starts, lengths)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Block((codes & np.uint32(0x7F)).astype(np.uint8).tobytes(), codes, starts, lengths)


@cache
def character_classes() -> np.ndarray:
    """Return for each code point WORD, CHARACTER (a token by itself) or 0."""
    table = np.zeros(0x110000, np.uint8)
    table[:_NO_LETTERS] = np.fromiter(map(str.isalnum, map(chr, range(_NO_LETTERS))), np.uint8, _NO_LETTERS)
    for first, last in _SINGLE:
        table[first : last + 1] = CHARACTER
    return table


def tokens_of_block(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes of all tokens, number of tokens of each text, and index of each token's first code point."""
    data, codes, firsts, _ = block
    if codes.dtype == np.uint8:
        is_word = np.frombuffer(data.translate(_ASCII_WORDS), bool)
        # A block begins and ends with newlines, so starts and ends of words alternate.
        edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
    else:
        classes = character_classes()[codes]
        is_word, is_single = classes == WORD, classes == CHARACTER
        before = np.append(False, is_word[:-1])
        after = np.append(is_word[1:], False)
        starts = np.flatnonzero(is_single | (is_word & ~before))
        ends = np.flatnonzero(is_single | (is_word & ~after)) + 1
    lengths = ends - starts
    hashes = _hash_ascii_words(data, starts, np.minimum(lengths, _LONGEST_WORD))
    others = lengths > _LONGEST_WORD
    if codes.dtype != np.uint8:
        beyond_ascii = np.append(0, np.cumsum(codes > 127))
        others |= beyond_ascii[ends] > beyond_ascii[starts]
    if others.any():
        hashes[others] = _hash_tokens(codes, starts[others], ends[others])
    counts = np.diff(np.searchsorted(starts, np.append(firsts, len(codes))))
    return (mix(hashes) >> np.uint64(32)).astype(np.uint32), counts, starts - np.repeat(firsts, counts)


def _hash_ascii_words(data: bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return hashes of ASCII words, computed from eight bytes at once."""
    eight = np.ndarray(len(data) - _WORD_BYTES + 1, "<u8", data, strides=(1,))
    hashes = eight[starts] & _MASKS[np.minimum(lengths, _WORD_BYTES)]
    hashes *= _M64
    done = _WORD_BYTES
    longer = np.flatnonzero(lengths > done)
    while len(longer):
        left = np.minimum(lengths[longer] - done, _WORD_BYTES)
        more = hashes[longer]
        more ^= more >> np.uint64(29)
        more += eight[starts[longer] + done] & _MASKS[left]
        more *= _M64
        hashes[longer] = more
        done += _WORD_BYTES
        longer = longer[lengths[longer] > done]
    return hashes


def _hash_tokens(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return hashes of any tokens: polynomials of their code points, as differences of a running polynomial."""
    up, down = _powers(1 << max(18, (len(codes) + 1).bit_length()))
    running = np.empty(len(codes) + 1, np.uint64)
    running[0] = 0
    terms = codes.astype(np.uint64)
    terms *= up[: len(codes)]
    np.cumsum(terms, out=running[1:])
    return (running[ends] - running[starts]) * down[starts]


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(1, np.uint64)
    up = np.concatenate([one, np.cumprod(np.full(size - 1, _M64), dtype=np.uint64)])
    return up, np.concatenate([one, np.cumprod(np.full(size - 1, _M64_INVERSE), dtype=np.uint64)])
