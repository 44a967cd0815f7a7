"""Many texts at once as code points; their character grams, sketches of these, and their tokens.

All work is done on whole arrays, in blocks that fit a processor's cache.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

BANDS = 32
"""Numbers by which near duplicates meet: texts that share one are compared."""

_ROWS = 8
_BINS = 128
_BLOCK_CHARACTERS = 60_000
_BLOCK_TEXTS = 1024
_LONG, _SHORT = 5, 3
_GAP = "\n" * _LONG
# Behind the last text, so that eight bytes can be read from wherever a token begins.
_PAD = "\n" * 8
_EMPTY = np.uint32(0xFFFFFFFF)
_WORD_BYTES, _LONGEST_WORD = 8, 64

# Scripts without blanks between words: every character is a token, and three of them are a gram.
_UNSPACED = (
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# From here on Unicode has neither letters nor digits.
_NO_LETTERS = 0x40000
_WORD, _CHARACTER = 1, 2

_M32 = np.uint32(0x9E3779B1)
_M64 = np.uint64(0x9E3779B97F4A7C15)
# Its inverse modulo 2**64.
_M64_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_WORD_BYTES + 1)], np.uint64)


class Texts(NamedTuple):
    """Texts one after another."""

    data: bytes
    """The low seven bits of each code point; before, between and behind the texts five newlines, then eight more."""
    codes: np.ndarray
    """Code points. uint8 where all are ASCII, else uint32."""
    starts: np.ndarray
    lengths: np.ndarray


class Tokens(NamedTuple):
    """Words, and characters of scripts without blanks, of many texts."""

    hashes: np.ndarray
    """uint32; equal for equal tokens."""
    starts: np.ndarray
    """Of each text, its first token; one more than there are texts."""
    codes: np.ndarray
    """Where each token begins among the code points of its own text."""


class Sketched(NamedTuple):
    """What texts are compared by."""

    tokens: Tokens
    bands: np.ndarray
    """uint32, [BANDS, texts]: similar texts share a number of a band."""


def sketch(texts: Sequence[str], *, near: bool = True) -> Sketched:
    """Tokens and sketches of texts.

    Of two texts with a Jaccard similarity of 0.8 and more, over 99 % share at least one band.

    Args:
        texts: normalised, not empty.
        near: whether sketches are made; without, there are no bands: [0, texts].
    """
    order, blocks = _blocks(texts)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sketches = [np.zeros((BANDS if near else 0, 0), np.uint32)]
    for block in blocks:
        joined = _join(block)
        found.append(_tokens(joined))
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
    return Sketched(Tokens(hashes, starts, codes), bands)


def bands(texts: Sequence[str]) -> np.ndarray:
    """The sketches of texts, as `sketch` makes them."""
    return sketch(texts).bands


def tokens(texts: Sequence[str]) -> Tokens:
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
    order, blocks = _blocks(texts)
    for block in blocks:
        joined = _join(block)
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


def mix(hashes: np.ndarray) -> np.ndarray:
    """Spread numbers over 64 bits, in place (splitmix64)."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _blocks(texts: Sequence[str]) -> tuple[np.ndarray | None, list[Sequence[str]]]:
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


def _join(texts: Sequence[str]) -> Texts:
    text = f"{_GAP}{_GAP.join(texts)}{_GAP}{_PAD}"
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths + len(_GAP)) - lengths
    if text.isascii():
        data = text.encode("ascii")
        return Texts(data, np.frombuffer(data, np.uint8), starts, lengths)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Texts((codes & np.uint32(0x7F)).astype(np.uint8).tobytes(), codes, starts, lengths)


@cache
def _kinds() -> np.ndarray:
    """Code point -> 0, a word's character, or a token by itself."""
    table = np.zeros(0x110000, np.uint8)
    table[:_NO_LETTERS] = np.fromiter(map(str.isalnum, map(chr, range(_NO_LETTERS))), np.uint8, _NO_LETTERS)
    for first, last in _UNSPACED:
        table[first : last + 1] = _CHARACTER
    return table


_ASCII_WORDS = bytes(code < 128 and chr(code).isalnum() for code in range(256))


def _grams(joined: Texts, multiplier: np.unsignedinteger, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """A hash for the gram at every code point, and the places at which there is none: it would leave its text."""
    data, codes, starts, lengths = joined
    count = len(codes) - len(_PAD)
    # Four characters at once, as one number, wherever it begins; and the fifth.
    hashes = np.ndarray(count, "<u4", data, strides=(1,)).astype(kind)
    hashes *= multiplier
    fifth = np.frombuffer(data, np.uint8, count, _LONG - 1).astype(kind)
    fifth *= kind(0x85EBCA6B)
    hashes += fifth
    # A text shorter than a gram still has one; a text without any character has none.
    ends = (starts + lengths)[:, None]
    outside = ends + np.arange(1 - _LONG, len(_GAP))
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
        unspaced = _kinds()[codes[:count]] == _CHARACTER
        short = codes[:count].astype(kind)
        for step in range(1, _SHORT):
            short *= multiplier
            short += codes[step : count + step]
        np.copyto(hashes, short, where=unspaced)
        # The last two characters but for a long gram may still begin a short one.
        within |= unspaced[outside] & (outside >= starts[:, None]) & (outside <= ends - _SHORT)
    return hashes, outside[~within]


def _bands(joined: Texts) -> np.ndarray:
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
    hashes = hashes[len(_GAP) :]
    kind = np.uint32 if texts * _BINS < 2**32 else np.int64
    places = np.repeat(np.arange(0, texts * _BINS, _BINS, dtype=kind), joined.lengths + len(_GAP))
    places += np.right_shift(hashes, np.uint32(25), out=shifted[len(_GAP) :])
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


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(1, np.uint64)
    up = np.concatenate([one, np.cumprod(np.full(size - 1, _M64), dtype=np.uint64)])
    return up, np.concatenate([one, np.cumprod(np.full(size - 1, _M64_INVERSE), dtype=np.uint64)])


def _tokens(joined: Texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one block: hash of each token, tokens of each text, and each token's place in its text."""
    data, codes, firsts, _ = joined
    if codes.dtype == np.uint8:
        word = np.frombuffer(data.translate(_ASCII_WORDS), bool)
        # All begins and ends with newlines, so there are as many ends as beginnings.
        edges = np.flatnonzero(word[1:] != word[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
    else:
        kinds = _kinds()[codes]
        word, alone = kinds == _WORD, kinds == _CHARACTER
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
