"""Many texts at once as code points; their character grams, sketches of these, and their tokens.

All work is done on whole arrays, in blocks that fit a processor's cache.
"""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from tuneline.data.preparing.text import text_blocks, text_tokens

BANDS = 32
"""Numbers by which near duplicates meet: texts that share one are compared."""

_ROWS = 8
_BINS = 128
_LONG, _SHORT = 5, 3
_EMPTY = np.uint32(0xFFFFFFFF)
_M32 = np.uint32(0x9E3779B1)


class Sketched(NamedTuple):
    """What texts are compared by."""

    tokens: text_tokens.Tokens
    bands: np.ndarray
    """uint32, [BANDS, texts]: similar texts share a number of a band."""


def sketch(texts: Sequence[str], *, near: bool = True) -> Sketched:
    """Tokens and sketches of texts.

    Of two texts with a Jaccard similarity of 0.8 and more, over 99 % share at least one band.

    Args:
        texts: normalised, not empty.
        near: whether sketches are made; without, there are no bands: [0, texts].
    """
    order, blocks = text_blocks.blocks(texts)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sketches = [np.zeros((BANDS if near else 0, 0), np.uint32)]
    for block in blocks:
        joined = text_blocks.join(block)
        found.append(text_tokens.tokens_of(joined))
        sketches.append(_bands(joined) if near else np.zeros((0, len(block)), np.uint32))
    nothing = np.zeros(0, np.int64)
    hashes, counts, codes = (
        np.concatenate([nothing.astype(kind), *parts])
        for kind, parts in zip(("u4", "i8", "i8"), zip(*found, strict=True) if found else [()] * 3, strict=True)
    )
    starts = np.append(0, np.cumsum(counts))
    bands = np.concatenate(sketches, axis=1)
    if order is not None:
        # Runs of texts that are together in both orders move together.
        runs = np.append(np.flatnonzero(np.diff(order, prepend=-2) != 1), len(order))
        pieces = [
            slice(starts[order[first]], starts[order[last - 1] + 1])
            for first, last in itertools.pairwise(runs.tolist())
        ]
        hashes, codes = (np.concatenate([column[piece] for piece in pieces]) for column in (hashes, codes))
        starts, bands = np.append(0, np.cumsum(counts[order])), bands[:, order]
    return Sketched(text_tokens.Tokens(hashes, starts, codes), bands)


def bands(texts: Sequence[str]) -> np.ndarray:
    """The sketches of texts, as `sketch` makes them."""
    return sketch(texts).bands


def tokens(texts: Sequence[str]) -> text_tokens.Tokens:
    """The tokens of normalised texts, in order."""
    return sketch(texts, near=False).tokens


def gram_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """The character grams of each text: three characters where the first is of a script without blanks, else five.

    Args:
        texts: normalised; one shorter than a gram is its own gram.

    Returns:
        For each text its different grams, as sorted uint64.
    """
    sets: list[np.ndarray] = []
    order, blocks = text_blocks.blocks(texts)
    for block in blocks:
        joined = text_blocks.join(block)
        hashes, outside = _grams(joined, np.uint64(0xD6E8FEB86659FD93), np.uint64)
        inside = np.ones(len(hashes), bool)
        inside[outside] = False
        for start, length in zip(joined.starts.tolist(), joined.lengths.tolist(), strict=True):
            own = slice(start, start + length)
            # np.unique would sort no faster, and does more.
            ordered = np.sort(hashes[own][inside[own]])
            sets.append(ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered)
    return sets if order is None else [sets[place] for place in order.tolist()]


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard similarity of two sets of grams; of two empty ones 1."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    both = np.sort(np.concatenate([one, other]))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def _grams(joined: text_blocks.Texts, multiplier: np.unsignedinteger, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """A hash for the gram at every code point, and the places at which there is none: it would leave its text."""
    data, codes, starts, lengths = joined
    count = len(codes) - len(text_blocks.PAD)
    # Four characters at once, as one number, wherever it begins; and the fifth.
    hashes = np.ndarray(count, "<u4", data, strides=(1,)).astype(kind)
    hashes *= multiplier
    fifth = np.frombuffer(data, np.uint8, count, _LONG - 1).astype(kind)
    fifth *= kind(0x85EBCA6B)
    hashes += fifth
    # A text shorter than a gram still has one; a text without any character has none.
    ends = (starts + lengths)[:, None]
    outside = ends + np.arange(1 - _LONG, len(text_blocks.GAP))
    within = (outside == starts[:, None]) & (outside < ends)
    if codes.dtype != np.uint8:
        # What ASCII lacks is added, so that a gram's hash is the same whatever stands around it.
        high = (codes >> np.uint32(7)).astype(kind)
        rest = high[:count].copy()
        for step in range(1, _LONG):
            rest *= multiplier
            rest += high[step : count + step]
        rest *= multiplier
        hashes += rest
        unspaced = text_blocks.kinds()[codes[:count]] == text_blocks.CHARACTER
        short = codes[:count].astype(kind)
        for step in range(1, _SHORT):
            short *= multiplier
            short += codes[step : count + step]
        np.copyto(hashes, short, where=unspaced)
        # The last two characters but for a long gram may still begin a short one.
        within |= unspaced[outside] & (outside >= starts[:, None]) & (outside <= ends - _SHORT)
    return hashes, outside[~within]


def _bands(joined: text_blocks.Texts) -> np.ndarray:
    """Densified one-permutation MinHash: the smallest hash in each of 128 bins, eight of them a band."""
    texts = len(joined.lengths)
    hashes, outside = _grams(joined, _M32, np.uint32)
    shifted = hashes >> np.uint32(15)
    hashes ^= shifted
    hashes *= np.uint32(0xC2B2AE35)
    np.right_shift(hashes, np.uint32(13), out=shifted)
    hashes ^= shifted
    # What is no gram is larger than any hash, so it is the smallest nowhere.
    hashes[outside] = _EMPTY
    # Bin after bin of each text. In 32 bits, as far as they go, because memory is what takes time.
    hashes = hashes[len(text_blocks.GAP) :]
    kind = np.uint32 if texts * _BINS < 2**32 else np.int64
    places = np.repeat(np.arange(0, texts * _BINS, _BINS, dtype=kind), joined.lengths + len(text_blocks.GAP))
    places += np.right_shift(hashes, np.uint32(25), out=shifted[len(text_blocks.GAP) :])
    table = np.full(texts * _BINS, _EMPTY, np.uint32)
    np.minimum.at(table, places.astype(np.intp), hashes)
    _fill(table)
    table = table.reshape(texts, _BINS).T
    found = np.zeros((BANDS, texts), np.uint32)
    for rows in _rows_of_bands():
        found *= _M32
        found ^= found >> np.uint32(15)
        found += table[rows]
    found ^= found >> np.uint32(16)
    found *= np.uint32(0x85EBCA6B)
    found ^= found >> np.uint32(13)
    return found


@cache
def _rows_of_bands() -> np.ndarray:
    """[rows, bands] bins: each is in two bands, and no two of them are together in both."""
    row, column = np.divmod(np.arange(_BINS), _BINS // _ROWS)
    slanted = np.argsort(row * (_BINS // _ROWS) + (column - row) % (_BINS // _ROWS))
    return np.concatenate([order.reshape(_ROWS, -1) for order in (np.arange(_BINS), slanted)], axis=1)


@cache
def _fillers() -> list[np.ndarray]:
    """For each bin, the bin that fills it where it is empty: by chance first, then the nearest before it."""
    drawn = np.random.default_rng(1)
    nearest = [np.roll(np.arange(_BINS), 2**step) for step in range(_BINS.bit_length() - 1)]
    return [drawn.permutation(_BINS) for _ in range(4)] + nearest


def _fill(table: np.ndarray) -> None:
    """Give the empty bins of each text the hash of another; a text without any gram keeps them empty."""
    empty = np.flatnonzero(table == _EMPTY)
    for order in _fillers():
        if not len(empty):
            return
        found = table[(empty & -_BINS) + order[empty & (_BINS - 1)]]
        table[empty] = found
        empty = empty[found == _EMPTY]
