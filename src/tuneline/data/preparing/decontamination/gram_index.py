"""The index of all grams of held-out texts: on disk, made range by range of hashes by any number of processes."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tuneline.data.preparing import scheduler
from tuneline.data.preparing.scheduler import Run

GRAM = 8
"""Tokens in a gram."""

_BLOCK = 9
"""Of so many bits a number says where in a cache line a flag is."""
_GRAMS_AT_ONCE = 4_000_000
_KINDS = {"filter": "u1", "hashes": "u8", "owners": "", "places": "", "starts": "i8", "telling": ""}
"""File -> type of its numbers; "": u4 where the tokens can be counted so, else i8."""
_OF_A_RANGE = ("filter", "hashes", "owners", "places")
_COPIED_AT_ONCE = 1 << 22


class Grams(NamedTuple):
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

    def arrays(self) -> "Arrays":
        """The index, mapped into memory."""
        return Arrays(*(_mapped(self.folder / name, kind or self.counts) for name, kind in _KINDS.items()))


class Arrays(NamedTuple):
    """The index in memory."""

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


def write_grams(file: Path, tokens: np.ndarray, starts: np.ndarray) -> Batch:
    """The first step of an index: the grams of some held-out texts, kept in a file.

    Args:
        file: to write.
        tokens: token hashes.
        starts: index of each text's first token, and one more.
    """
    found = grams_of(tokens, starts)
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


def outside(held: Arrays, common: np.ndarray) -> np.ndarray:
    """The running count of tokens outside common grams, when more of them are common.

    Args:
        held: the index.
        common: indices of grams, of each hash the first one.

    Returns:
        As `Arrays.telling`.
    """
    if not len(common):
        return held.telling
    count = np.searchsorted(held.hashes, held.hashes[common], "right") - common
    grams = np.repeat(common - (np.cumsum(count) - count), count) + np.arange(count.sum())
    places = held.places[grams].astype(np.int64)
    telling = np.diff(held.telling).astype(np.int8)
    for step in range(GRAM):
        telling[places + step] = 0
    return np.append(0, np.cumsum(telling, dtype=np.int64)).astype(held.telling.dtype)


def _write_range(job: _Range) -> np.ndarray:
    """Write the part of the index that belongs to a range of hashes; the places of common grams, which tell nothing."""
    batch = _in_range(job)
    common = _in_many_texts(batch, job.limit)
    kept = Grams(*(column[~common] for column in batch))
    for name, column in kept._asdict().items():
        column.astype(_KINDS[name] or job.counts, copy=False).tofile(job.file(name))
    # The slice of the filter that belongs to this range.
    flags = np.zeros((1 << job.bits) // job.parts, bool)
    for beginning in (kept.hashes >> np.uint64(64 - job.bits), second_flag(kept.hashes, job.bits)):
        flags[beginning.astype(np.int64) & (len(flags) - 1)] = True
    np.packbits(flags, bitorder="little").tofile(job.file("filter"))
    return batch.places[common]


def second_flag(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Of each hash the place of its second flag in the filter: in the block of its first, so in the same cache line.

    A blocked Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
    """
    rest, within = np.uint64(64 - bits), np.uint64((1 << _BLOCK) - 1)
    return ((hashes >> rest) & ~within) | ((hashes >> (rest - np.uint64(_BLOCK))) & within)


def _in_many_texts(held: Grams, limit: int) -> np.ndarray:
    """Which grams, sorted by hash and then by text, stand in more than `limit` texts."""
    if not len(held.hashes):
        return np.zeros(0, bool)
    is_first = np.append(True, np.diff(held.hashes) != 0)
    is_new_text = is_first | np.append(True, np.diff(held.owners) != 0)
    number = np.cumsum(is_first) - 1
    return np.bincount(number[is_new_text])[number] > limit


def _in_range(job: _Range) -> Grams:
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
    return Grams(hashes, owners.view(np.int64), places.view(np.int64))


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


def hashes_of(tokens: np.ndarray) -> np.ndarray:
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


def grams_of(tokens: np.ndarray, starts: np.ndarray) -> Grams:
    """The grams of some texts; arguments as of `write_grams`."""
    hashes = hashes_of(tokens)
    places = np.arange(len(hashes))
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[: len(hashes)]
    inside = places + GRAM <= starts[owners + 1]
    return Grams(hashes[inside], owners[inside], places[inside])
