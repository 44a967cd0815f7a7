"""How much of a held-out row training rows give away, by the 8-grams of tokens that they share.

Wording that stands in many rows, such as a prompt's template, a disclaimer or a greeting, gives nothing away: a gram
that stands in many held-out rows, or in many training rows, does not count, and neither do its tokens. What is left of
a held-out row must be a gram's worth, or no row gives it away.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tuneline.core import files
from tuneline.data.preparing.decontamination import gram_index
from tuneline.data.preparing.text import grams

MOST_ROWS = 10
"""Training rows in which a gram may stand and still count; fewer where there are few rows."""

PIECE, PIECE_TOKENS = 0.2, 10
"""Share of a held-out row, and tokens, from which what a training row holds of it is a piece."""

SPREAD = 0.75
"""Share of a held-out row from which the pieces of several training rows give it away together."""

_LEAST_ROWS = 4
_PAIRS_AT_ONCE = 4_000_000
_TOKENS_AT_ONCE = 1 << 15


class Shared(NamedTuple):
    """Which grams of held-out rows stand in which rows: each pair once, by row."""

    rows: np.ndarray
    """Indices."""
    grams: np.ndarray
    """Of each, the index of the first one of its hash."""


class Pieces(NamedTuple):
    """What rows hold of held-out rows: each place of a gram in a held-out row that stands in a row as well."""

    rows: np.ndarray
    held_out: np.ndarray
    places: np.ndarray
    """Index of the gram's first token among the tokens of all held-out rows."""


class Overlap(NamedTuple):
    """For each row, the held-out row of which it gives away most."""

    share: np.ndarray
    """Share of that held-out row's tokens that stand in shared grams; 0 where none does."""
    held_out: np.ndarray
    """Index of that held-out row; -1 where none."""


def overlap(rows: Sequence[str], held_out: Sequence[str]) -> Overlap:
    """For each row, the held-out row of which it covers the largest share.

    Args:
        rows: normalised texts.
        held_out: normalised texts; one of fewer than 8 tokens has no gram and is never covered.

    Returns:
        Shares and indices, in the order of the rows.
    """
    return compared(rows, held_out)[0]


def compared(rows: Sequence[str], held_out: Sequence[str]) -> tuple[Overlap, np.ndarray]:
    """What each row gives away, and what rows give away together.

    Args:
        rows: normalised texts.
        held_out: normalised texts.

    Returns:
        As `overlap`; and for each held-out row the share of it that stands in pieces of any rows.
    """
    with files.temporary_folder() as folder:
        held, learnt = grams.tokens(held_out), grams.tokens(rows)
        batch = gram_index.write_grams(folder / "grams.npy", held.hashes, held.starts)
        index = gram_index.build(folder, [batch])
        arrays = index.arrays()
        shared = search(arrays, index.bits, learnt.hashes, learnt.starts)
        common = boilerplate(rows_of(arrays, shared), len(rows))
        rest = gram_index.outside(arrays, common)
        found, pieces = cover(arrays, rest, without(shared, common), len(rows))
        return found, together(arrays, rest, pieces)


def search(
    held: gram_index.Arrays, bits: int, tokens: np.ndarray, starts: np.ndarray, wanted: np.ndarray | None = None
) -> Shared:
    """The grams of held-out rows that stand in some rows.

    Args:
        held: the index.
        bits: of the index.
        tokens: token hashes of the rows.
        starts: index of each row's first token, and one more.
        wanted: whether a row is looked at; None: all are.
    """
    if not len(held.hashes) or len(tokens) < gram_index.GRAM:
        return Shared(np.zeros(0, np.int64), np.zeros(0, np.int64))
    places, hashes = _that_may_be_held(held.filter, bits, tokens)
    rows = np.searchsorted(starts, places, "right") - 1
    inside = places + gram_index.GRAM <= starts[rows + 1]
    if wanted is not None:
        inside &= wanted[rows]
    hashes, rows = hashes[inside], rows[inside]
    first = _first_of(held.hashes, hashes)
    hit = held.hashes[np.minimum(first, len(held.hashes) - 1)] == hashes
    first, rows = first[hit], rows[hit]
    order = np.lexsort((first, rows))
    first, rows = first[order], rows[order]
    is_new = np.append(True, (np.diff(rows) != 0) | (np.diff(first) != 0))[: len(rows)]
    return Shared(rows[is_new], first[is_new])


def rows_of(held: gram_index.Arrays, shared: Shared) -> np.ndarray:
    """In how many rows each gram stands; uint32, by the index of the first one of its hash."""
    return np.bincount(shared.grams, minlength=len(held.hashes)).astype(np.uint32)


def boilerplate(rows: np.ndarray, learnt: int) -> np.ndarray:
    """The grams that stand in so many training rows that they give nothing away.

    Args:
        rows: from `rows_of`, added up over all training rows.
        learnt: how many training rows there are.

    Returns:
        Their indices, rising.
    """
    return np.flatnonzero(rows > max(_LEAST_ROWS, min(MOST_ROWS, learnt // 20)))


def without(shared: Shared, common: np.ndarray) -> Shared:
    """Without the grams that are common; these indices rise."""
    if not len(common) or not len(shared.grams):
        return shared
    place = np.minimum(np.searchsorted(common, shared.grams), len(common) - 1)
    left = common[place] != shared.grams
    return Shared(shared.rows[left], shared.grams[left])


def cover(held: gram_index.Arrays, telling: np.ndarray, shared: Shared, rows: int) -> tuple[Overlap, Pieces]:
    """What each row gives away.

    Args:
        held: the index.
        telling: running count of the held-out rows' tokens that count.
        shared: which grams stand in which rows.
        rows: how many rows there are.

    Returns:
        Of each row the held-out row of which it covers the largest share; and all pieces that rows hold.
    """
    found = Overlap(np.zeros(rows), np.full(rows, -1, dtype=np.int64))
    pieces = [Pieces(*[np.zeros(0, np.int64)] * 3)]
    for part, owners, places in _pairs(held, shared):
        order = np.lexsort((places, owners, part))
        part, owners, places = part[order], owners[order], places[order]
        first, covered = _covered(telling, part, owners, places)
        row, owner = part[first], owners[first]
        share = _shares(held, telling, owner, covered)
        best = np.lexsort((owner, -share, row))
        best = best[np.flatnonzero(np.append(True, np.diff(row[best]) != 0))]
        best = best[share[best] > 0]
        found.share[row[best]] = share[best]
        found.held_out[row[best]] = owner[best]
        is_piece = np.repeat((share >= PIECE) & (covered >= PIECE_TOKENS), np.diff(np.append(first, len(part))))
        pieces.append(Pieces(part[is_piece], owners[is_piece], places[is_piece]))
    return found, Pieces(*map(np.concatenate, zip(*pieces, strict=True)))


def together(held: gram_index.Arrays, telling: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Of each held-out row, the share that some pieces hold together."""
    shares = np.zeros(len(held.starts) - 1)
    if len(pieces.places):
        order = np.lexsort((pieces.places, pieces.held_out))
        owners, places = pieces.held_out[order], pieces.places[order]
        first, covered = _covered(telling, owners, owners, places)
        shares[owners[first]] = _shares(held, telling, owners[first], covered)
    return shares


def _pairs(held: gram_index.Arrays, shared: Shared) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, held-out rows, and places of the grams that both have; in portions of whole rows, so memory is bounded."""
    rows, first = shared
    if not len(rows):
        return
    count = np.searchsorted(held.hashes, held.hashes[first], "right") - first
    last_of_row = np.flatnonzero(np.append(np.diff(rows) != 0, True))
    portion = np.cumsum(count)[last_of_row] // _PAIRS_AT_ONCE
    cuts = [0, *(last_of_row[np.flatnonzero(np.diff(portion))] + 1).tolist(), len(count)]
    for start, stop in itertools.pairwise(cuts):
        n = count[start:stop]
        pairs = np.repeat(first[start:stop] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        owners, places = (column[pairs].astype(np.int64) for column in (held.owners, held.places))
        yield np.repeat(rows[start:stop], n), owners, places


def _covered(
    telling: np.ndarray, rows: np.ndarray, held: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each run of the same row and held-out row: its beginning, and the tokens that its grams cover.

    The grams come by row, then by held-out row, then by place.
    """
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, less those that the next one covers as well.
    length = np.full(len(rows), gram_index.GRAM)
    length[:-1][same_pair] = np.minimum(np.diff(places)[same_pair], gram_index.GRAM)
    first = np.flatnonzero(np.append(True, ~same_pair))
    return first, np.add.reduceat((telling[places + length] - telling[places]).astype(np.int64), first)


def _shares(held: gram_index.Arrays, telling: np.ndarray, owners: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Shares of held-out rows; of those of which less than a gram's worth is telling, nothing is given away."""
    whole = (telling[held.starts[owners + 1]] - telling[held.starts[owners]]).astype(np.int64)
    return np.where(whole >= gram_index.GRAM, covered / np.maximum(whole, 1), 0.0)


def _first_of(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """As a search for the first place of each, which takes a fraction of the time where one is next to the other."""
    order = np.argsort(wanted)
    first = np.empty(len(wanted), np.int64)
    first[order] = np.searchsorted(ordered, wanted[order])
    return first


def _that_may_be_held(held: np.ndarray, bits: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a gram begins that the filter does not deny, and its hash; in pieces that fit a processor's cache."""
    places, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for start in range(0, len(tokens) - gram_index.GRAM + 1, _TOKENS_AT_ONCE):
        piece = gram_index.hashes_of(tokens[start : start + _TOKENS_AT_ONCE + gram_index.GRAM - 1])
        beginning = piece >> np.uint64(64 - bits)
        bit = beginning.astype(np.uint8) & np.uint8(7)
        beginning >>= np.uint64(3)
        hits = np.flatnonzero((held.take(beginning.view(np.int64)) >> bit) & np.uint8(1))
        second = gram_index.second_flag(piece[hits], bits)
        byte = held.take((second >> np.uint64(3)).view(np.int64))
        hits = hits[((byte >> (second.astype(np.uint8) & np.uint8(7))) & np.uint8(1)).view(bool)]
        places.append(hits + start)
        hashes.append(piece[hits])
    return np.concatenate(places), np.concatenate(hashes)
