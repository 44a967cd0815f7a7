"""Many texts at once as code points; their character grams, sketches of these, and their tokens.

All work is done on whole arrays, in blocks that fit a processor's cache.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

BANDS = 32
"""Numbers by which near duplicates meet: texts that share one are compared."""

_ROWS = 8
_BINS = BANDS * _ROWS
_BLOCK_CHARACTERS = 200_000
_BLOCK_TEXTS = 2048
_LONG, _SHORT = 5, 3
_GAP = "\n" * _LONG
_EMPTY = np.uint32(0xFFFFFFFF)

# Scripts without blanks between words: every character is a token, and three of them are a gram.
_UNSPACED = (
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_WORD, _CHARACTER = 1, 2

_M32 = np.uint32(0x9E3779B1)
_M64 = np.uint64(0x9E3779B97F4A7C15)
# Its inverse modulo 2**64.
_M64_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


class Texts(NamedTuple):
    """Texts one after another."""

    codes: np.ndarray
    """Code points; between texts, and after the last, five newlines. uint8 where all are ASCII, else uint32."""
    starts: np.ndarray
    lengths: np.ndarray


class Tokens(NamedTuple):
    """Words, and characters of scripts without blanks, of many texts."""

    hashes: np.ndarray
    """uint64; equal for equal tokens."""
    starts: np.ndarray
    """Of each text, its first token; one more than there are texts."""
    codes: np.ndarray
    """Where each token begins among the code points of its own text."""


def bands(texts: Sequence[str]) -> np.ndarray:
    """Sketch texts by their character grams, so that similar texts share a number.

    Of two texts with a Jaccard similarity of 0.8 and more, over 99 % share at least one band.

    Args:
        texts: normalised, not empty.

    Returns:
        uint32, [BANDS, texts].
    """
    found = [_bands(_join(block)) for block in _blocks(texts)]
    return np.concatenate(found, axis=1) if found else np.zeros((BANDS, 0), np.uint32)


def gram_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """The character grams of each text: three characters where the first is of a script without blanks, else five.

    Args:
        texts: normalised; one shorter than a gram is its own gram.

    Returns:
        For each text its different grams, as sorted uint64.
    """
    sets: list[np.ndarray] = []
    for block in _blocks(texts):
        joined = _join(block)
        hashes, inside = _grams(joined, np.uint64(0xD6E8FEB86659FD93), np.uint64)
        for start, length in zip(joined.starts.tolist(), joined.lengths.tolist(), strict=True):
            own = slice(start, start + length)
            # np.unique would sort no faster, and does more.
            ordered = np.sort(hashes[own][inside[own]])
            sets.append(ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered)
    return sets


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard similarity of two sets of grams; of two empty ones 1."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    both = np.sort(np.concatenate([one, other]))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def tokens(texts: Sequence[str]) -> Tokens:
    """The tokens of normalised texts.

    Args:
        texts: of any number.

    Returns:
        Their tokens, in order.
    """
    found = [_tokens(_join(block)) for block in _blocks(texts)]
    counts = np.concatenate([count for _, count, _ in found]) if found else np.zeros(0, np.int64)
    return Tokens(
        np.concatenate([hashes for hashes, _, _ in found]) if found else np.zeros(0, np.uint64),
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([codes for _, _, codes in found]) if found else np.zeros(0, np.int64),
    )


def mix(hashes: np.ndarray) -> np.ndarray:
    """Spread numbers over 64 bits, in place (splitmix64)."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for stop, text in enumerate(texts):
        if stop > start and (size + len(text) > _BLOCK_CHARACTERS or stop - start == _BLOCK_TEXTS):
            yield texts[start:stop]
            start, size = stop, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def _join(texts: Sequence[str]) -> Texts:
    text = _GAP.join(texts) + _GAP
    if text.isascii():
        codes = np.frombuffer(text.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return Texts(codes, np.cumsum(lengths + len(_GAP)) - lengths - len(_GAP), lengths)


@cache
def _kinds() -> np.ndarray:
    """Code point -> 0, a word's character, or a token by itself."""
    table = np.fromiter(map(str.isalnum, map(chr, range(0x110000))), np.uint8, 0x110000)
    for first, last in _UNSPACED:
        table[first : last + 1] = _CHARACTER
    return table


@cache
def _ascii_kinds() -> np.ndarray:
    return np.fromiter(map(str.isalnum, map(chr, range(256))), np.uint8, 256)


def _grams(joined: Texts, multiplier: np.unsignedinteger, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """A hash for the gram at every code point, and whether that gram is one: within its text."""
    codes, starts, lengths = joined
    count = len(codes) - _LONG + 1
    ends = starts + lengths
    bounds = np.zeros(count + 1, np.int8)
    # A text shorter than a gram still has one; a text without any character has none.
    bounds[starts] += 1
    bounds[np.where(lengths, np.maximum(ends - _LONG + 1, starts + 1), starts)] -= 1
    np.cumsum(bounds[:count], out=bounds[:count])
    inside = bounds[:count].view(bool)
    low = codes if codes.dtype == np.uint8 else (codes & np.uint32(0x7F)).astype(np.uint8)
    # Four characters at once, as one number, wherever it begins; and the fifth.
    hashes = np.ndarray(count, "<u4", low.tobytes(), strides=(1,)).astype(kind)
    hashes *= multiplier
    fifth = low[_LONG - 1 :].astype(kind)
    fifth *= kind(0x85EBCA6B)
    hashes += fifth
    if codes.dtype == np.uint8:
        return hashes, inside
    # What ASCII lacks is added, so that a gram's hash is the same whatever stands around it.
    high = (codes >> np.uint32(7)).astype(kind)
    rest = high[:count].copy()
    for step in range(1, _LONG):
        rest *= multiplier
        rest += high[step : count + step]
    rest *= multiplier
    hashes += rest
    unspaced = _kinds()[codes] == _CHARACTER
    short = codes[:count].astype(kind)
    for step in range(1, _SHORT):
        short *= multiplier
        short += codes[step : count + step]
    np.copyto(hashes, short, where=unspaced[:count])
    # The last two characters but for a long gram may still begin a short one.
    for back in range(_SHORT, _LONG):
        place = ends - back
        place = place[lengths >= back]
        inside[place[unspaced[place]]] = True
    return hashes, inside


def _bands(joined: Texts) -> np.ndarray:
    """Densified one-permutation MinHash: the smallest hash in each of 256 bins, eight of them a band."""
    texts = len(joined.lengths)
    hashes, inside = _grams(joined, _M32, np.uint32)
    hashes ^= hashes >> np.uint32(15)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    # What is no gram is larger than any hash, so it is the smallest nowhere.
    outside = inside.astype(np.uint32)
    outside -= np.uint32(1)
    hashes |= outside
    places = np.repeat(np.arange(texts), joined.lengths + len(_GAP))[: len(hashes)]
    places += (hashes >> np.uint32(24)).astype(np.int64) * texts
    table = np.full((_BINS, texts), _EMPTY, np.uint32)
    np.minimum.at(table.reshape(-1), places, hashes)
    _fill(table)
    found = np.zeros((BANDS, texts), np.uint32)
    for rows in table.reshape(_ROWS, BANDS, texts):
        found *= _M32
        found ^= found >> np.uint32(15)
        found += rows
    found ^= found >> np.uint32(16)
    found *= np.uint32(0x85EBCA6B)
    found ^= found >> np.uint32(13)
    return found


@cache
def _fillers() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each bin, the bin that fills it where it is empty: by chance first, then the nearest before it."""
    drawn = np.random.default_rng(1)
    return [drawn.permutation(_BINS) for _ in range(4)], [np.roll(np.arange(_BINS), 2**step) for step in range(8)]


def _fill(table: np.ndarray) -> None:
    by_chance, nearest = _fillers()
    _fill_from(table, by_chance)
    left = np.flatnonzero(table.max(axis=0) == _EMPTY)
    if len(left):
        rest = table[:, left]
        _fill_from(rest, nearest)
        table[:, left] = rest


def _fill_from(table: np.ndarray, orders: Sequence[np.ndarray]) -> None:
    for order in orders:
        known = table != _EMPTY
        if known.all():
            return
        # An empty bin is all ones, so `and` with the filler fills it, and `and` with ones keeps the others.
        keep = known.astype(np.uint32)
        np.negative(keep, out=keep)
        keep |= table[order]
        table &= keep


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(1, np.uint64)
    up = np.concatenate([one, np.cumprod(np.full(size - 1, _M64), dtype=np.uint64)])
    return up, np.concatenate([one, np.cumprod(np.full(size - 1, _M64_INVERSE), dtype=np.uint64)])


def _tokens(joined: Texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one block: hash of each token, tokens of each text, and each token's place in its text."""
    codes = joined.codes
    if codes.dtype == np.uint8:
        word = _ascii_kinds()[codes].view(bool)
        # A text ends in newlines, so there are as many ends as beginnings.
        edges = np.flatnonzero(np.diff(word, prepend=False))
        starts, ends = edges[::2], edges[1::2]
    else:
        kinds = _kinds()[codes]
        word, alone = kinds == _WORD, kinds == _CHARACTER
        before = np.append(False, word[:-1])
        after = np.append(word[1:], False)
        starts = np.flatnonzero(alone | (word & ~before))
        ends = np.flatnonzero(alone | (word & ~after)) + 1
    # A token's hash is a polynomial of its code points, cut out of the one that runs through all texts.
    size = 1 << max(18, (len(codes) + 1).bit_length())
    up, down = _powers(size)
    running = np.empty(len(codes) + 1, np.uint64)
    running[0] = 0
    terms = codes.astype(np.uint64)
    terms *= up[: len(codes)]
    np.cumsum(terms, out=running[1:])
    hashes = (running[ends] - running[starts]) * down[starts]
    firsts = np.searchsorted(starts, np.append(joined.starts, len(codes)))
    counts = np.diff(firsts)
    return mix(hashes), counts, starts - np.repeat(joined.starts, counts)
