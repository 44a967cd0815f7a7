"""How much of a held-out row a training row gives away, by the 8-grams of tokens that they share.

A gram that stands in many held-out rows, such as the wording of a prompt's template, gives nothing away: neither it nor
its tokens count.
"""

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tuneline.data.preparing import grams, scheduler
from tuneline.data.preparing.scheduler import Run

GRAM = 8
"""Tokens in a gram."""

_BLOCK = 9
"""Of so many bits a number says where in a cache line a flag is."""
_PAIRS_AT_ONCE = 4_000_000
_GRAMS_AT_ONCE = 4_000_000
_TOKENS_AT_ONCE = 1 << 15
_KINDS = {"filter": "u1", "hashes": "u8", "owners": "", "places": "", "starts": "i8", "telling": ""}
"""File -> type of its numbers; "": u4 where the tokens can be counted so, else i8."""


_OF_A_RANGE = ("filter", "hashes", "owners", "places")
_COPIED_AT_ONCE = 1 << 22


class Overlap(NamedTuple):
    """For each row, the held-out row of which it gives away most."""

    share: np.ndarray
    """Share of that held-out row's tokens that stand in shared grams; 0 where none does."""
    held_out: np.ndarray
    """Index of that held-out row; -1 where none."""


class _Grams(NamedTuple):
    """All grams of some texts."""

    hashes: np.ndarray
    owners: np.ndarray
    """Index of the text."""
    places: np.ndarray
    """Index of the gram's first token among the tokens of all texts."""


@dataclass(frozen=True)
class Batch:
    """The grams of some held-out texts in a file."""

    file: Path
    starts: np.ndarray
    """Index of each text's first token among theirs, and one more."""
    grams: int


@dataclass(frozen=True)
class _Range:
    """A range of hashes, of which one process makes the part of the index."""

    folder: Path
    files: tuple[tuple[Path, int, int], ...]
    """Of grams, each with how many texts and tokens stand before its own."""
    part: int
    parts: int
    bits: int
    counts: str
    limit: int
    """Texts in which a gram may stand."""

    def file(self, name: str) -> Path:
        """Where its part of one of the arrays is written."""
        return self.folder / f"{name}.{self.part}"


@dataclass(frozen=True)
class Index:
    """The grams of all held-out texts, on disk, so that many processes share them."""

    folder: Path
    bits: int
    """Leading bits of a hash that say where in the filter its first flag is."""
    counts: str
    """Type of numbers of tokens."""

    def arrays(self) -> "_Arrays":
        """The index, mapped into memory."""
        return _Arrays(*(_mapped(self.folder / name, kind or self.counts) for name, kind in _KINDS.items()))


class _Arrays(NamedTuple):
    filter: np.ndarray
    """A bit for each beginning of a hash."""
    hashes: np.ndarray
    """Sorted."""
    owners: np.ndarray
    places: np.ndarray
    starts: np.ndarray
    """Of each text: index of its first token; one more than there are texts."""
    telling: np.ndarray
    """Running count of the tokens outside common grams."""


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
        index = build(Path(folder), [write_grams(Path(folder) / "grams.npy", held.hashes, held.starts)])
        return check(index.arrays(), index.bits, learnt.hashes, learnt.starts)


def write_grams(file: Path, tokens: np.ndarray, starts: np.ndarray) -> Batch:
    """The first step of an index: the grams of some held-out texts, kept in a file.

    Args:
        file: to write.
        tokens: token hashes.
        starts: index of each text's first token, and one more.
    """
    found = _grams(tokens, starts)
    columns = (found.hashes, found.owners.view(np.uint64), found.places.view(np.uint64))
    np.save(file, np.stack(columns))
    return Batch(file, starts, len(found.hashes))


def build(folder: Path, batches: Sequence[Batch], run: Run = scheduler.here) -> Index:
    """Make the index of the held-out texts; memory is bounded by their tokens, not by their grams.

    Args:
        folder: to write to.
        batches: in the order of the texts; their files are deleted.
        run: runs a function over items.

    Returns:
        The index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = np.cumsum([0, *(len(batch.starts) - 1 for batch in batches)])
    before = np.cumsum([0, *(int(batch.starts[-1]) for batch in batches)])
    total, count = int(before[-1]), sum(batch.grams for batch in batches)
    bits = max(16, (count * 16).bit_length())
    counts = "u4" if total < 2**32 else "i8"
    parts = 1 << (count // _GRAMS_AT_ONCE).bit_length()
    limit = max(2, min(10, texts[-1] // 4), texts[-1] // 100)
    files = tuple(
        (batch.file, int(owner), int(place))
        for batch, owner, place in zip(batches, texts[:-1], before[:-1], strict=True)
    )
    ranges = [_Range(folder, files, part, parts, bits, counts, int(limit)) for part in range(parts)]
    telling = np.ones(total + 1, np.int8)
    with ExitStack() as stack:
        whole = {name: stack.enter_context((folder / name).open("wb")) for name in _OF_A_RANGE}
        for one, common in zip(ranges, run(_write_range, ranges), strict=True):
            for step in range(GRAM):
                telling[common + step] = 0
            for name in _OF_A_RANGE:
                with one.file(name).open("rb") as made:
                    shutil.copyfileobj(made, whole[name], _COPIED_AT_ONCE)
                one.file(name).unlink()
    starts = [
        np.zeros(1, np.int64),
        *(batch.starts[1:] + tokens for batch, tokens in zip(batches, before, strict=False)),
    ]
    np.concatenate(starts).tofile(folder / "starts")
    np.append(0, np.cumsum(telling, dtype=np.int64)).astype(counts).tofile(folder / "telling")
    for batch in batches:
        batch.file.unlink()
    return Index(folder, bits, counts)


def _write_range(job: _Range) -> np.ndarray:
    """Write the part of the index that belongs to a range of hashes; the places of common grams, which tell nothing."""
    batch = _in_range(job)
    common = _in_many_texts(batch, job.limit)
    kept = _Grams(*(column[~common] for column in batch))
    for name, column in kept._asdict().items():
        column.astype(_KINDS[name] or job.counts, copy=False).tofile(job.file(name))
    # The slice of the filter that belongs to this range.
    flags = np.zeros((1 << job.bits) // job.parts, bool)
    for beginning in (kept.hashes >> np.uint64(64 - job.bits), _second(kept.hashes, job.bits)):
        flags[beginning.astype(np.int64) & (len(flags) - 1)] = True
    np.packbits(flags, bitorder="little").tofile(job.file("filter"))
    return batch.places[common]


def check(
    held: _Arrays, bits: int, tokens: np.ndarray, starts: np.ndarray, wanted: np.ndarray | None = None
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
    if not len(held.hashes) or len(tokens) < GRAM:
        return found
    places, hashes = _that_may_be_held(held.filter, bits, tokens)
    row_of_hit = np.searchsorted(starts, places, "right") - 1
    inside = places + GRAM <= starts[row_of_hit + 1]
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
    for start in range(0, len(tokens) - GRAM + 1, _TOKENS_AT_ONCE):
        piece = _hashes(tokens[start : start + _TOKENS_AT_ONCE + GRAM - 1])
        beginning = piece >> np.uint64(64 - bits)
        bit = beginning.astype(np.uint8) & np.uint8(7)
        beginning >>= np.uint64(3)
        hits = np.flatnonzero((held.take(beginning.view(np.int64)) >> bit) & np.uint8(1))
        second = _second(piece[hits], bits)
        byte = held.take((second >> np.uint64(3)).view(np.int64))
        hits = hits[((byte >> (second.astype(np.uint8) & np.uint8(7))) & np.uint8(1)).view(bool)]
        places.append(hits + start)
        hashes.append(piece[hits])
    return np.concatenate(places), np.concatenate(hashes)


def _second(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Of each hash the place of its second flag in the filter: in the block of its first, so in the same cache line.

    A blocked Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
    """
    rest, within = np.uint64(64 - bits), np.uint64((1 << _BLOCK) - 1)
    return ((hashes >> rest) & ~within) | ((hashes >> (rest - np.uint64(_BLOCK))) & within)


def _in_many_texts(held: _Grams, limit: int) -> np.ndarray:
    """Which grams, sorted by hash and then by text, stand in more than `limit` texts."""
    if not len(held.hashes):
        return np.zeros(0, bool)
    is_first = np.append(True, np.diff(held.hashes) != 0)
    is_new_text = is_first | np.append(True, np.diff(held.owners) != 0)
    number = np.cumsum(is_first) - 1
    return np.bincount(number[is_new_text])[number] > limit


def _in_range(job: _Range) -> _Grams:
    """The grams of all files in a range of hashes, sorted by hash and, of equals, as they come."""
    pieces = [np.zeros((3, 0), np.uint64)]
    for file, texts, tokens in job.files:
        array = np.load(file, mmap_mode="r").view(np.ndarray)
        # A shift by all bits is no shift.
        own = array[0] >> np.uint64(65 - job.parts.bit_length()) == job.part if job.parts > 1 else slice(None)
        pieces.append(array[:, own] + np.array([[0], [texts], [tokens]], np.uint64))
    batch = np.concatenate(pieces, axis=1)
    order = _stable_order(batch[0])
    hashes, owners, places = (column.take(order) for column in batch)
    return _Grams(hashes, owners.view(np.int64), places.view(np.int64))


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """As a stable argsort, several times as fast: places stand in the low bits of the keys while these are sorted."""
    low = np.uint64((1 << len(keys).bit_length()) - 1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).view(np.int64)
    ordered = keys[order]
    wrong = np.flatnonzero(ordered[1:] < ordered[:-1])
    if len(wrong):
        # Of keys that differ in the low bits alone.
        group = np.append(0, np.cumsum((ordered[1:] & ~low) != (ordered[:-1] & ~low)))
        mended = np.flatnonzero(np.isin(group, group[wrong]))
        again = order[mended]
        order[mended] = again[np.lexsort((again, ordered[mended], group[mended]))]
    return order


def _mapped(path: Path, kind: str) -> np.ndarray:
    # An empty file cannot be mapped. A plain array, because NumPy takes longer over every slice of its own kind of map.
    return np.memmap(path, kind, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, kind)


def _cover(found: Overlap, rows: np.ndarray, held: np.ndarray, places: np.ndarray, index: _Arrays) -> None:
    """Fill in the largest share of each row, from pairs of a row and a gram's place in a held-out row."""
    telling, starts = index.telling, index.starts
    order = np.lexsort((places, held, rows))
    rows, held, places = rows[order], held[order], places[order]
    same_pair = (np.diff(rows) == 0) & (np.diff(held) == 0)
    # A gram covers its 8 tokens, less those that the next one covers as well.
    length = np.full(len(rows), GRAM)
    length[:-1][same_pair] = np.minimum(np.diff(places)[same_pair], GRAM)
    first = np.flatnonzero(np.append(True, ~same_pair))
    covered = np.add.reduceat((telling[places + length] - telling[places]).astype(np.int64), first)
    row, held = rows[first], held[first]
    share = covered / np.maximum(telling[starts[held + 1]] - telling[starts[held]], 1)
    best = np.lexsort((held, -share, row))
    best = best[np.flatnonzero(np.append(True, np.diff(row[best]) != 0))]
    found.share[row[best]] = share[best]
    found.held_out[row[best]] = held[best]


def _hashes(tokens: np.ndarray) -> np.ndarray:
    """A hash for the gram at every token but the last seven, whatever text it ends in."""
    if len(tokens) < GRAM:
        return np.zeros(0, np.uint64)
    hashes = tokens.astype(np.uint64)
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    # Of two, of four, of eight.
    for step, multiplier in ((1, 0xBF58476D1CE4E5B9), (2, 0x94D049BB133111EB), (4, 0xD6E8FEB86659FD93)):
        later = hashes[step:]
        hashes = hashes[:-step] * np.uint64(multiplier)
        hashes += later
    return hashes


def _grams(tokens: np.ndarray, starts: np.ndarray) -> _Grams:
    hashes = _hashes(tokens)
    places = np.arange(len(hashes))
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[: len(hashes)]
    inside = places + GRAM <= starts[owners + 1]
    return _Grams(hashes[inside], owners[inside], places[inside])
