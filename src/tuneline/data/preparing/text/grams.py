"""The character grams of texts, sketches of these grams (MinHash), and the Jaccard similarity of two texts.

A gram has three characters if its first character is of a script without spaces, else five.
"""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from tuneline.core.arrays import distinct
from tuneline.data.preparing.text import tokens
from tuneline.data.preparing.text.tokens import Block, Tokens

BANDS = 32
"""Bands of a sketch. Texts that share a band are candidates for near duplicates."""

_ROWS = 8
_BINS = 128
_LONG, _SHORT = 5, 3
_EMPTY = np.uint32(0xFFFFFFFF)
_M32 = np.uint32(0x9E3779B1)


class Sketched(NamedTuple):
    """The tokens and sketches of texts."""

    tokens: Tokens
    bands: np.ndarray
    """uint32, [BANDS, texts], or [0, texts] without sketches."""


def sketch(texts: Sequence[str], *, near: bool = True) -> Sketched:
    """Return tokens and sketches of texts.

    Over 99 % of the pairs of texts with a Jaccard similarity of at least 0.8 share a band.

    Args:
        texts: normalised, not empty.
        near: whether sketches are made.
    """
    order, blocks = tokens.blocks(texts)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sketches = [np.zeros((BANDS if near else 0, 0), np.uint32)]
    for block in blocks:
        joined = tokens.join(block)
        found.append(tokens.tokens_of_block(joined))
        sketches.append(_bands(joined) if near else np.zeros((0, len(block)), np.uint32))
    nothing = np.zeros(0, np.int64)
    hashes, counts, codes = (
        np.concatenate([nothing.astype(kind), *parts])
        for kind, parts in zip(("u4", "i8", "i8"), zip(*found, strict=True) if found else [()] * 3, strict=True)
    )
    starts = np.append(0, np.cumsum(counts))
    bands = np.concatenate(sketches, axis=1)
    if order is not None:
        # Texts that are consecutive in both orders move together.
        runs = np.append(np.flatnonzero(np.diff(order, prepend=-2) != 1), len(order))
        pieces = [
            slice(starts[order[first]], starts[order[last - 1] + 1])
            for first, last in itertools.pairwise(runs.tolist())
        ]
        hashes, codes = (np.concatenate([column[piece] for piece in pieces]) for column in (hashes, codes))
        starts, bands = np.append(0, np.cumsum(counts[order])), bands[:, order]
    return Sketched(Tokens(hashes, starts, codes), bands)


def gram_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """Return the hashes of the different grams of each text, as sorted uint64.

    Args:
        texts: normalised. A text that is shorter than a gram is a gram itself.
    """
    sets: list[np.ndarray] = []
    order, blocks = tokens.blocks(texts)
    for block in blocks:
        joined = tokens.join(block)
        hashes, outside = _grams(joined, np.uint64(0xD6E8FEB86659FD93), np.uint64)
        inside = np.ones(len(hashes), bool)
        inside[outside] = False
        for start, length in zip(joined.starts.tolist(), joined.lengths.tolist(), strict=True):
            own = slice(start, start + length)
            sets.append(distinct(hashes[own][inside[own]]))
    return sets if order is None else [sets[place] for place in order.tolist()]


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Return the Jaccard similarity of two sets of grams. Two empty sets have similarity 1."""
    if not len(left) or not len(right):
        return float(len(left) == len(right))
    both = np.sort(np.concatenate([left, right]))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def _grams(joined: Block, multiplier: np.unsignedinteger, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash for the gram at every code point, and the positions where a gram would leave its text."""
    data, codes, starts, lengths = joined
    count = len(codes) - len(tokens.PAD)
    # Four characters as one number, and the fifth.
    hashes = np.ndarray(count, "<u4", data, strides=(1,)).astype(kind)
    hashes *= multiplier
    fifth = np.frombuffer(data, np.uint8, count, _LONG - 1).astype(kind)
    fifth *= kind(0x85EBCA6B)
    hashes += fifth
    # A text shorter than a gram has one gram, but an empty text has none.
    ends = (starts + lengths)[:, None]
    outside = ends + np.arange(1 - _LONG, len(tokens.GAP))
    within = (outside == starts[:, None]) & (outside < ends)
    if codes.dtype != np.uint8:
        # The higher bits are added, so that the hash of an ASCII gram is the same in a block of ASCII texts.
        high = (codes >> np.uint32(7)).astype(kind)
        rest = high[:count].copy()
        for step in range(1, _LONG):
            rest *= multiplier
            rest += high[step : count + step]
        rest *= multiplier
        hashes += rest
        unspaced = tokens.character_classes()[codes[:count]] == tokens.CHARACTER
        short = codes[:count].astype(kind)
        for step in range(1, _SHORT):
            short *= multiplier
            short += codes[step : count + step]
        np.copyto(hashes, short, where=unspaced)
        # A short gram may begin where a long gram would leave the text.
        within |= unspaced[outside] & (outside >= starts[:, None]) & (outside <= ends - _SHORT)
    return hashes, outside[~within]


def _bands(joined: Block) -> np.ndarray:
    """Return bands by densified one-permutation MinHash: the smallest hash of each of 128 bins, eight bins per band."""
    texts = len(joined.lengths)
    hashes, outside = _grams(joined, _M32, np.uint32)
    shifted = hashes >> np.uint32(15)
    hashes ^= shifted
    hashes *= np.uint32(0xC2B2AE35)
    np.right_shift(hashes, np.uint32(13), out=shifted)
    hashes ^= shifted
    # Positions without a gram get the largest value, which is never the smallest of a bin.
    hashes[outside] = _EMPTY
    # Index of the bin of each gram: 32 bits if they suffice, because access to memory takes most of the time.
    hashes = hashes[len(tokens.GAP) :]
    kind = np.uint32 if texts * _BINS < 2**32 else np.int64
    places = np.repeat(np.arange(0, texts * _BINS, _BINS, dtype=kind), joined.lengths + len(tokens.GAP))
    places += np.right_shift(hashes, np.uint32(25), out=shifted[len(tokens.GAP) :])
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
    """Return bins, [rows, bands]: each bin is in two bands, and no two bins are together in both."""
    row, column = np.divmod(np.arange(_BINS), _BINS // _ROWS)
    slanted = np.argsort(row * (_BINS // _ROWS) + (column - row) % (_BINS // _ROWS))
    return np.concatenate([order.reshape(_ROWS, -1) for order in (np.arange(_BINS), slanted)], axis=1)


@cache
def _fillers() -> list[np.ndarray]:
    """Return for each bin the bin whose hash it takes if it is empty: random bins first, then the nearest before it."""
    drawn = np.random.default_rng(1)
    nearest = [np.roll(np.arange(_BINS), 2**step) for step in range(_BINS.bit_length() - 1)]
    return [drawn.permutation(_BINS) for _ in range(4)] + nearest


def _fill(table: np.ndarray) -> None:
    """Fill the empty bins of each text with the hash of another bin. A text without grams keeps empty bins."""
    empty = np.flatnonzero(table == _EMPTY)
    for order in _fillers():
        if not len(empty):
            return
        found = table[(empty & -_BINS) + order[empty & (_BINS - 1)]]
        table[empty] = found
        empty = empty[found == _EMPTY]
