"""How much of a held-out row a training row gives away, by the 8-grams of tokens that they share.

A gram that stands in many held-out rows, such as the wording of a prompt's template, gives nothing away: neither it nor
its tokens count.
"""

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tuneline.data.preparing import gramindex, grams

_PAIRS_AT_ONCE = 4_000_000
_TOKENS_AT_ONCE = 1 << 15


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
    with tempfile.TemporaryDirectory() as folder:
        held, learnt = grams.tokens(held_out), grams.tokens(rows)
        batch = gramindex.write_grams(Path(folder) / "grams.npy", held.hashes, held.starts)
        index = gramindex.build(Path(folder), [batch])
        return check(index.arrays(), index.bits, learnt.hashes, learnt.starts)


def check(
    held: gramindex.Arrays, bits: int, tokens: np.ndarray, starts: np.ndarray, wanted: np.ndarray | None = None
) -> Overlap:
    """For each row, the held-out row of which it covers the largest share.

    Args:
        held: the index.
        bits: of the index.
        tokens: token hashes of the rows.
        starts: index of each row's first token, and one more.
        wanted: whether a row is looked at; None: all are.

    Returns:
        Shares and indices, in the order of the rows.
    """
    rows = len(starts) - 1
    found = Overlap(np.zeros(rows), np.full(rows, -1, dtype=np.int64))
    if not len(held.hashes) or len(tokens) < gramindex.GRAM:
        return found
    places, hashes = _that_may_be_held(held.filter, bits, tokens)
    row_of_hit = np.searchsorted(starts, places, "right") - 1
    inside = places + gramindex.GRAM <= starts[row_of_hit + 1]
    if wanted is not None:
        inside &= wanted[row_of_hit]
    hashes, row_of_hit = hashes[inside], row_of_hit[inside]
    first = _first_of(held.hashes, hashes)
    hit = held.hashes[np.minimum(first, len(held.hashes) - 1)] == hashes
    first, row_of_hit = first[hit], row_of_hit[hit]
    count = np.searchsorted(held.hashes, hashes[hit], "right") - first
    if not len(count):
        return found
    # Memory is bounded by taking the pairs of a hit and a place in a held-out row in portions of whole rows.
    last_of_row = np.flatnonzero(np.append(np.diff(row_of_hit) != 0, True))
    portion = np.cumsum(count)[last_of_row] // _PAIRS_AT_ONCE
    cuts = [0, *(last_of_row[np.flatnonzero(np.diff(portion))] + 1).tolist(), len(count)]
    for start, stop in itertools.pairwise(cuts):
        n = count[start:stop]
        pairs = np.repeat(first[start:stop] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        owners, places = (column[pairs].astype(np.int64) for column in (held.owners, held.places))
        _cover(found, np.repeat(row_of_hit[start:stop], n), owners, places, held)
    return found


def _first_of(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """As a search for the first place of each, which takes a fraction of the time where one is next to the other."""
    order = np.argsort(wanted)
    first = np.empty(len(wanted), np.int64)
    first[order] = np.searchsorted(ordered, wanted[order])
    return first


def _that_may_be_held(held: np.ndarray, bits: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a gram begins that the filter does not deny, and its hash; in pieces that fit a processor's cache."""
    places, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for start in range(0, len(tokens) - gramindex.GRAM + 1, _TOKENS_AT_ONCE):
        piece = gramindex.hashes_of(tokens[start : start + _TOKENS_AT_ONCE + gramindex.GRAM - 1])
        beginning = piece >> np.uint64(64 - bits)
        bit = beginning.astype(np.uint8) & np.uint8(7)
        beginning >>= np.uint64(3)
        hits = np.flatnonzero((held.take(beginning.view(np.int64)) >> bit) & np.uint8(1))
        second = gramindex.second_flag(piece[hits], bits)
        byte = held.take((second >> np.uint64(3)).view(np.int64))
        hits = hits[((byte >> (second.astype(np.uint8) & np.uint8(7))) & np.uint8(1)).view(bool)]
        places.append(hits + start)
        hashes.append(piece[hits])
    return np.concatenate(places), np.concatenate(hashes)


def _cover(found: Overlap, rows: np.ndarray, held: np.ndarray, places: np.ndarray, index: gramindex.Arrays) -> None:
    """Fill in the largest share of each row, from pairs of a row and a gram's place in a held-out row."""
    telling, starts = index.telling, index.starts
    order = np.lexsort((places, held, rows))
    rows, held, places = rows[order], held[order], places[order]
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, less those that the next one covers as well.
    length = np.full(len(rows), gramindex.GRAM)
    length[:-1][same_pair] = np.minimum(np.diff(places)[same_pair], gramindex.GRAM)
    first = np.flatnonzero(np.append(True, ~same_pair))
    covered = np.add.reduceat((telling[places + length] - telling[places]).astype(np.int64), first)
    row, held = rows[first], held[first]
    share = covered / np.maximum(telling[starts[held + 1]] - telling[starts[held]], 1)
    best = np.lexsort((held, -share, row))
    best = best[np.flatnonzero(np.append(True, np.diff(row[best]) != 0))]
    found.share[row[best]] = share[best]
    found.held_out[row[best]] = held[best]
