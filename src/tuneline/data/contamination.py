"""How much of a held-out row a training row gives away, by the 8-grams of tokens that they share."""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

GRAM = 8
"""Tokens in a gram."""

# Scripts without blanks between words: every character is a token.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3\U00020000-\U0003ffff"
_TOKEN = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_PAIRS_AT_ONCE = 4_000_000


class Overlap(NamedTuple):
    """The held-out row of which a row gives away most."""

    share: np.ndarray
    """Row -> share of that held-out row's tokens that stand in shared grams; 0 where none does."""
    held_out: np.ndarray
    """Row -> index of the held-out row; -1 where none."""


def overlap(rows: Sequence[str], held_out: Sequence[str]) -> Overlap:
    """For each row, the held-out row of which it covers the largest share.

    Args:
        rows: normalised texts.
        held_out: normalised texts; one of fewer than 8 tokens has no gram and is never covered.

    Returns:
        Shares and indices, in the order of the rows.
    """
    share = np.zeros(len(rows))
    which = np.full(len(rows), -1, dtype=np.int64)
    grams, owners, positions, lengths = _grams([*held_out, *rows])
    is_held_out = owners < len(held_out)
    h_grams, h_owners, h_positions = grams[is_held_out], owners[is_held_out], positions[is_held_out]
    order = np.argsort(h_grams, kind="stable")
    h_grams, h_owners, h_positions = h_grams[order], h_owners[order], h_positions[order]
    r_grams, r_owners = grams[~is_held_out], owners[~is_held_out] - len(held_out)
    first = np.searchsorted(h_grams, r_grams, "left")
    count = np.searchsorted(h_grams, r_grams, "right") - first
    hit = count > 0
    first, count, r_owners = first[hit], count[hit], r_owners[hit]
    if not len(count):
        return Overlap(share, which)
    # Grams that half the corpus shares give very many pairs: taken in portions of whole rows.
    ends = np.cumsum(count)
    last_of_row = np.flatnonzero(np.append(np.diff(r_owners) != 0, True))
    portion = ends[last_of_row] // _PAIRS_AT_ONCE
    cuts = [0, *(last_of_row[np.flatnonzero(np.diff(portion))] + 1).tolist(), len(count)]
    for start, stop in itertools.pairwise(cuts):
        n = count[start:stop]
        if not len(n):
            continue
        index = np.repeat(first[start:stop] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        _cover(np.repeat(r_owners[start:stop], n), h_owners[index], h_positions[index], lengths, share, which)
    return Overlap(share, which)


def _cover(
    rows: np.ndarray, held: np.ndarray, positions: np.ndarray, lengths: np.ndarray, share: np.ndarray, which: np.ndarray
) -> None:
    """Fill in the largest share of each row, from pairs of a row and a place in a held-out row."""
    order = np.lexsort((positions, held, rows))
    rows, held, positions = rows[order], held[order], positions[order]
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, less those that the next one covers as well.
    covered = np.full(len(rows), GRAM)
    covered[:-1][same_pair] = np.minimum(np.diff(positions)[same_pair], GRAM)
    starts = np.flatnonzero(np.append(True, ~same_pair))
    pair_row, pair_held = rows[starts], held[starts]
    pair_share = np.add.reduceat(covered, starts) / lengths[pair_held]
    best = np.lexsort((pair_held, -pair_share, pair_row))
    best = best[np.flatnonzero(np.append(True, np.diff(pair_row[best]) != 0))]
    share[pair_row[best]] = pair_share[best]
    which[pair_row[best]] = pair_held[best]


def _grams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hash, text and position of every gram, and the number of tokens of every text."""
    tokens: list[str] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    for index, text in enumerate(texts):
        found = _TOKEN.findall(text)
        tokens += found
        lengths[index] = len(found)
    # Numbers in the order of first occurrence, then spread over 64 bits (splitmix64).
    numbers = pa.array(tokens, pa.string()).dictionary_encode().indices.to_numpy().astype(np.uint64)
    numbers = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    owners = np.repeat(np.arange(len(texts)), lengths)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(tokens)) - starts[owners]
    whole = positions <= lengths[owners] - GRAM
    grams = np.zeros(len(tokens), dtype=np.uint64)
    if len(tokens) >= GRAM:
        for step in range(GRAM):
            grams[: len(tokens) - GRAM + 1] *= np.uint64(0x100000001B3)
            grams[: len(tokens) - GRAM + 1] += numbers[step : len(tokens) - GRAM + 1 + step]
    return grams[whole], owners[whole], positions[whole], lengths
