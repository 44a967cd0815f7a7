"""How much of a held-out row a training row gives away, by the 8-grams of tokens that they share.

A gram that stands in many held-out rows, such as the wording of a prompt's template, gives nothing away: neither it nor
its tokens count.
"""

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
    """For each row, the held-out row of which it gives away most."""

    share: np.ndarray
    """Share of that held-out row's tokens that stand in shared grams; 0 where none does."""
    held_out: np.ndarray
    """Index of that held-out row; -1 where none."""


class _Grams(NamedTuple):
    """All grams of some texts, in the order of the texts."""

    hashes: np.ndarray
    owners: np.ndarray
    """Index of the text."""
    places: np.ndarray
    """Index of the gram's first token among the tokens of all texts."""
    starts: np.ndarray
    """Of each text: index of its first token; one more than there are texts."""


def overlap(rows: Sequence[str], held_out: Sequence[str]) -> Overlap:
    """For each row, the held-out row of which it covers the largest share.

    Args:
        rows: normalised texts.
        held_out: normalised texts; one of fewer than 8 tokens has no gram and is never covered.

    Returns:
        Shares and indices, in the order of the rows.
    """
    found = Overlap(np.zeros(len(rows)), np.full(len(rows), -1, dtype=np.int64))
    hashes, owners, places, starts = _grams([*held_out, *rows])
    split = np.searchsorted(owners, len(held_out))
    order = np.argsort(hashes[:split], kind="stable")
    held = _Grams(hashes[order], owners[order], places[order], starts[: len(held_out) + 1])
    held, telling = _without_common(held, max(2, min(10, len(held_out) // 4), len(held_out) // 100))
    first = np.searchsorted(held.hashes, hashes[split:], "left")
    count = np.searchsorted(held.hashes, hashes[split:], "right") - first
    hit = count > 0
    first, count, row_of_hit = first[hit], count[hit], owners[split:][hit] - len(held_out)
    if not len(count):
        return found
    # Memory is bounded by taking the pairs of a hit and a place in a held-out row in portions of whole rows.
    last_of_row = np.flatnonzero(np.append(np.diff(row_of_hit) != 0, True))
    portion = np.cumsum(count)[last_of_row] // _PAIRS_AT_ONCE
    cuts = [0, *(last_of_row[np.flatnonzero(np.diff(portion))] + 1).tolist(), len(count)]
    for start, stop in itertools.pairwise(cuts):
        n = count[start:stop]
        pairs = np.repeat(first[start:stop] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        _cover(
            found, np.repeat(row_of_hit[start:stop], n), held.owners[pairs], held.places[pairs], held.starts, telling
        )
    return found


def _without_common(held: _Grams, limit: int) -> tuple[_Grams, np.ndarray]:
    """The grams that stand in at most `limit` texts, and the running count of tokens outside all others."""
    is_first = np.append(True, np.diff(held.hashes) != 0) if len(held.hashes) else np.zeros(0, dtype=bool)
    is_new_text = is_first | np.append(True, np.diff(held.owners) != 0)[: len(is_first)]
    number = np.cumsum(is_first) - 1
    texts_with = np.bincount(number[is_new_text], minlength=1) if len(number) else np.zeros(1, dtype=np.int64)
    is_common = texts_with[number] > limit
    telling = np.ones(held.starts[-1] + 1, dtype=np.int64)
    for step in range(GRAM):
        telling[held.places[is_common] + step] = 0
    running = np.concatenate([[0], np.cumsum(telling)])
    rare = ~is_common
    return held._replace(hashes=held.hashes[rare], owners=held.owners[rare], places=held.places[rare]), running


def _cover(
    found: Overlap, rows: np.ndarray, held: np.ndarray, places: np.ndarray, starts: np.ndarray, telling: np.ndarray
) -> None:
    """Fill in the largest share of each row, from pairs of a row and a gram's place in a held-out row."""
    order = np.lexsort((places, held, rows))
    rows, held, places = rows[order], held[order], places[order]
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, less those that the next one covers as well.
    length = np.full(len(rows), GRAM)
    length[:-1][same_pair] = np.minimum(np.diff(places)[same_pair], GRAM)
    first = np.flatnonzero(np.append(True, ~same_pair))
    covered = np.add.reduceat(telling[places + length] - telling[places], first)
    row, held = rows[first], held[first]
    share = covered / np.maximum(telling[starts[held + 1]] - telling[starts[held]], 1)
    best = np.lexsort((held, -share, row))
    best = best[np.flatnonzero(np.append(True, np.diff(row[best]) != 0))]
    found.share[row[best]] = share[best]
    found.held_out[row[best]] = held[best]


def _grams(texts: Sequence[str]) -> _Grams:
    tokens: list[str] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    for index, text in enumerate(texts):
        found = _TOKEN.findall(text)
        tokens += found
        lengths[index] = len(found)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # Numbers in the order of first occurrence, then spread over 64 bits (splitmix64).
    numbers = pa.array(tokens, pa.string()).dictionary_encode().indices.to_numpy().astype(np.uint64)
    numbers = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    whole = max(len(tokens) - GRAM + 1, 0)
    hashes = np.zeros(whole, dtype=np.uint64)
    for step in range(GRAM):
        hashes = hashes * np.uint64(0x100000001B3) + numbers[step : step + whole]
    places = np.arange(whole)
    owners = np.repeat(np.arange(len(texts)), lengths)[:whole]
    inside = places + GRAM <= starts[owners + 1]
    return _Grams(hashes[inside], owners[inside], places[inside], starts)
