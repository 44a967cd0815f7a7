"""The tokens of texts as hashes: words, and characters of scripts without blanks."""

from functools import cache
from typing import NamedTuple

import numpy as np

from tuneline.core.arrays import mix
from tuneline.data.preparing.text import text_blocks

_WORD_BYTES, _LONGEST_WORD = 8, 64
_M64 = np.uint64(0x9E3779B97F4A7C15)
# Its inverse modulo 2**64.
_M64_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_WORD_BYTES + 1)], np.uint64)
_ASCII_WORDS = bytes(code < 128 and chr(code).isalnum() for code in range(256))


class Tokens(NamedTuple):
    """Words, and characters of scripts without blanks, of many texts."""

    hashes: np.ndarray
    """uint32; equal for equal tokens."""
    starts: np.ndarray
    """Of each text, its first token; one more than there are texts."""
    codes: np.ndarray
    """Where each token begins among the code points of its own text."""


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(1, np.uint64)
    up = np.concatenate([one, np.cumprod(np.full(size - 1, _M64), dtype=np.uint64)])
    return up, np.concatenate([one, np.cumprod(np.full(size - 1, _M64_INVERSE), dtype=np.uint64)])


def tokens_of(joined: text_blocks.Texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one block: hash of each token, tokens of each text, and each token's place in its text."""
    data, codes, firsts, _ = joined
    if codes.dtype == np.uint8:
        word = np.frombuffer(data.translate(_ASCII_WORDS), bool)
        # All begins and ends with newlines, so there are as many ends as beginnings.
        edges = np.flatnonzero(word[1:] != word[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
    else:
        kinds = text_blocks.kinds()[codes]
        word, alone = kinds == text_blocks.WORD, kinds == text_blocks.CHARACTER
        before = np.append(False, word[:-1])
        after = np.append(word[1:], False)
        starts = np.flatnonzero(alone | (word & ~before))
        ends = np.flatnonzero(alone | (word & ~after)) + 1
    lengths = ends - starts
    hashes = _of_words(data, starts, np.minimum(lengths, _LONGEST_WORD))
    others = lengths > _LONGEST_WORD
    if codes.dtype != np.uint8:
        beyond = np.append(0, np.cumsum(codes > 127))
        others |= beyond[ends] > beyond[starts]
    if others.any():
        hashes[others] = _of_codes(codes, starts[others], ends[others])
    counts = np.diff(np.searchsorted(starts, np.append(firsts, len(codes))))
    return (mix(hashes) >> np.uint64(32)).astype(np.uint32), counts, starts - np.repeat(firsts, counts)


def _of_words(data: bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Hashes of ASCII words, eight bytes at once."""
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


def _of_codes(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Hashes of any tokens: polynomials of their code points, cut out of the one that runs through all texts."""
    up, down = _powers(1 << max(18, (len(codes) + 1).bit_length()))
    running = np.empty(len(codes) + 1, np.uint64)
    running[0] = 0
    terms = codes.astype(np.uint64)
    terms *= up[: len(codes)]
    np.cumsum(terms, out=running[1:])
    return (running[ends] - running[starts]) * down[starts]
