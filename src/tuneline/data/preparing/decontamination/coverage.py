"""Measures how much of a held-out row training rows leak: the share of its tokens that are in shared 8-grams.

Frequent wording, such as the template of a prompt, a disclaimer or a greeting, leaks nothing: a gram that is in many
held-out rows or in many training rows does not count, and neither do its tokens. A held-out row with fewer than 8
tokens left cannot be leaked.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tuneline.data.preparing.decontamination import decontamination_index
from tuneline.data.preparing.decontamination.decontamination_index import GRAM, Arrays

MOST_ROWS = 10
"""A gram counts in up to this many training rows; in fewer if the set is small."""

PIECE, PIECE_TOKENS = 0.2, 10
"""Least share of a held-out row, and least number of tokens, of a piece that a training row holds."""

SPREAD = 0.75
"""Share of a held-out row that the pieces in several training rows must exceed together to leak it."""

_LEAST_ROWS = 4
_PAIRS_AT_ONCE = 4_000_000
_TOKENS_AT_ONCE = 1 << 15


class SharedGrams(NamedTuple):
    """The grams of held-out rows that are in training rows: each pair once, sorted by row."""

    rows: np.ndarray
    """[pairs] indices of training rows."""
    grams: np.ndarray
    """[pairs] indices of grams: of the first gram with the same hash."""


class Pieces(NamedTuple):
    """The pieces of held-out rows in training rows: an entry for each position of a shared gram."""

    rows: np.ndarray
    """Indices of training rows."""
    held_out: np.ndarray
    """Indices of held-out rows."""
    positions: np.ndarray
    """Index of the gram's first token among the tokens of all held-out rows."""


class Overlap(NamedTuple):
    """For each training row, the held-out row of which it leaks the largest share."""

    share: np.ndarray
    """Share of that held-out row's tokens that are in shared grams, or 0."""
    held_out: np.ndarray
    """Index of that held-out row, or -1."""


def find_shared(
    held: Arrays, bits: int, tokens: np.ndarray, starts: np.ndarray, wanted: np.ndarray | None = None
) -> SharedGrams:
    """Return the grams of held-out rows that are in some training rows.

    Args:
        held: the index.
        bits: of the index.
        tokens: token hashes of the rows.
        starts: [rows + 1] index of each row's first token.
        wanted: [rows] whether a row is searched; None searches all rows.
    """
    if not len(held.hashes) or len(tokens) < GRAM:
        return SharedGrams(np.zeros(0, np.int64), np.zeros(0, np.int64))
    positions, hashes = _pass_filter(held.filter, bits, tokens)
    rows = np.searchsorted(starts, positions, "right") - 1
    inside = positions + GRAM <= starts[rows + 1]
    if wanted is not None:
        inside &= wanted[rows]
    hashes, rows = hashes[inside], rows[inside]
    first = _first_of(held.hashes, hashes)
    hit = held.hashes[np.minimum(first, len(held.hashes) - 1)] == hashes
    first, rows = first[hit], rows[hit]
    order = np.lexsort((first, rows))
    first, rows = first[order], rows[order]
    is_new = np.append(True, (np.diff(rows) != 0) | (np.diff(first) != 0))[: len(rows)]
    return SharedGrams(rows[is_new], first[is_new])


def rows_per_gram(held: Arrays, shared: SharedGrams) -> np.ndarray:
    """Return the number of rows that contain each gram: uint32, by the index of the first gram with the same hash."""
    return np.bincount(shared.grams, minlength=len(held.hashes)).astype(np.uint32)


def common_grams(rows: np.ndarray, training_rows: int) -> np.ndarray:
    """Return the indices of the grams that are in too many training rows to leak anything, in ascending order.

    Args:
        rows: from `rows_per_gram`, added up over all training rows.
        training_rows: number of training rows.
    """
    return np.flatnonzero(rows > max(_LEAST_ROWS, min(MOST_ROWS, training_rows // 20)))


def without_common(shared: SharedGrams, common: np.ndarray) -> SharedGrams:
    """Return the shared grams without the common grams, whose indices are in ascending order."""
    if not len(common) or not len(shared.grams):
        return shared
    place = np.minimum(np.searchsorted(common, shared.grams), len(common) - 1)
    left = common[place] != shared.grams
    return SharedGrams(shared.rows[left], shared.grams[left])


def measure(held: Arrays, counted: np.ndarray, shared: SharedGrams, rows: int) -> tuple[Overlap, Pieces]:
    """Return how much each training row leaks, and all pieces of held-out rows in training rows.

    Args:
        held: the index.
        counted: running count of the held-out rows' tokens that count.
        shared: grams of held-out rows in training rows.
        rows: number of training rows.
    """
    found = Overlap(np.zeros(rows), np.full(rows, -1, dtype=np.int64))
    pieces = [Pieces(*[np.zeros(0, np.int64)] * 3)]
    for part, owners, positions in _pairs(held, shared):
        order = np.lexsort((positions, owners, part))
        part, owners, positions = part[order], owners[order], positions[order]
        first, covered = _covered(counted, part, owners, positions)
        row, owner = part[first], owners[first]
        share = _shares(held, counted, owner, covered)
        best = np.lexsort((owner, -share, row))
        best = best[np.flatnonzero(np.append(True, np.diff(row[best]) != 0))]
        best = best[share[best] > 0]
        found.share[row[best]] = share[best]
        found.held_out[row[best]] = owner[best]
        is_piece = np.repeat((share >= PIECE) & (covered >= PIECE_TOKENS), np.diff(np.append(first, len(part))))
        pieces.append(Pieces(part[is_piece], owners[is_piece], positions[is_piece]))
    return found, Pieces(*map(np.concatenate, zip(*pieces, strict=True)))


def joint_shares(held: Arrays, counted: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Return for each held-out row the share that some pieces cover together."""
    shares = np.zeros(len(held.starts) - 1)
    if len(pieces.positions):
        order = np.lexsort((pieces.positions, pieces.held_out))
        owners, positions = pieces.held_out[order], pieces.positions[order]
        first, covered = _covered(counted, owners, owners, positions)
        shares[owners[first]] = _shares(held, counted, owners[first], covered)
    return shares


def _pairs(held: Arrays, shared: SharedGrams) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield training rows, held-out rows and positions of their shared grams, in portions of bounded size."""
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
        owners, positions = (column[pairs].astype(np.int64) for column in (held.owners, held.positions))
        yield np.repeat(rows[start:stop], n), owners, positions


def _covered(
    counted: np.ndarray, rows: np.ndarray, held: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair of row and held-out row its first entry, and the number of tokens that its grams cover.

    The entries are sorted by row, held-out row and position.
    """
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, without those that the next gram covers, too.
    length = np.full(len(rows), GRAM)
    length[:-1][same_pair] = np.minimum(np.diff(positions)[same_pair], GRAM)
    first = np.flatnonzero(np.append(True, ~same_pair))
    return first, np.add.reduceat((counted[positions + length] - counted[positions]).astype(np.int64), first)


def _shares(held: Arrays, counted: np.ndarray, owners: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Return the covered shares of held-out rows; 0 for rows of which fewer than 8 tokens count."""
    whole = (counted[held.starts[owners + 1]] - counted[held.starts[owners]]).astype(np.int64)
    return np.where(whole >= GRAM, covered / np.maximum(whole, 1), 0.0)


def _first_of(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the first position of each value, as np.searchsorted does; sorting first is several times faster."""
    order = np.argsort(wanted)
    first = np.empty(len(wanted), np.int64)
    first[order] = np.searchsorted(ordered, wanted[order])
    return first


def _pass_filter(held: np.ndarray, bits: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and hashes of the grams that pass the Bloom filter, in blocks that fit a processor's cache."""
    positions, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for start in range(0, len(tokens) - GRAM + 1, _TOKENS_AT_ONCE):
        piece = decontamination_index.hashes_of(tokens[start : start + _TOKENS_AT_ONCE + GRAM - 1])
        beginning = piece >> np.uint64(64 - bits)
        bit = beginning.astype(np.uint8) & np.uint8(7)
        beginning >>= np.uint64(3)
        hits = np.flatnonzero((held.take(beginning.view(np.int64)) >> bit) & np.uint8(1))
        second = decontamination_index.second_flag(piece[hits], bits)
        byte = held.take((second >> np.uint64(3)).view(np.int64))
        hits = hits[((byte >> (second.astype(np.uint8) & np.uint8(7))) & np.uint8(1)).view(bool)]
        positions.append(hits + start)
        hashes.append(piece[hits])
    return np.concatenate(positions), np.concatenate(hashes)
