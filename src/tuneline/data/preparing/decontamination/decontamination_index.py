"""The decontamination index on disk: all 8-grams of the held-out texts.

Any number of processes build it, each a range of hashes.
"""

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
"""Number of bits of a position within a cache line of 512 bits."""
_GRAMS_AT_ONCE = 4_000_000
_DTYPES = {"filter": "u1", "hashes": "u8", "owners": "", "positions": "", "starts": "i8", "counted": ""}
"""File -> dtype; "": u4 if that can count all tokens, else i8."""
_FILES_OF_A_RANGE = ("filter", "hashes", "owners", "positions")
_COPIED_AT_ONCE = 1 << 22


class Grams(NamedTuple):
    """The grams of some texts."""

    hashes: np.ndarray
    owners: np.ndarray
    """Indices of the texts."""
    positions: np.ndarray
    """Index of each gram's first token among the tokens of all texts."""


@dataclass(frozen=True)
class Batch:
    """A file with the grams of some held-out texts."""

    file: Path
    starts: np.ndarray
    """[texts + 1] index of each text's first token among the tokens of the batch."""
    grams: int
    """Number of grams."""


@dataclass(frozen=True)
class _Range:
    """A range of hashes. One process builds its part of the index."""

    folder: Path
    files: tuple[tuple[Path, int, int], ...]
    """Files of grams, each with the number of texts and tokens in the files before it."""
    part: int
    parts: int
    bits: int
    counts: str
    limit: int
    """Number of texts in which a gram may be and still count."""

    def file(self, name: str) -> Path:
        """Return the path of this range's part of an array."""
        return self.folder / f"{name}.{self.part}"


@dataclass(frozen=True)
class Index:
    """The index of all held-out texts on disk, which many processes share."""

    folder: Path
    bits: int
    """Number of leading bits of a hash that are the position of its first flag in the filter."""
    counts: str
    """Dtype that can count all tokens."""

    def arrays(self) -> "Arrays":
        """Return the index, mapped into memory."""
        return Arrays(*(_mapped(self.folder / name, kind or self.counts) for name, kind in _DTYPES.items()))


class Arrays(NamedTuple):
    """The index in memory."""

    filter: np.ndarray
    """Bloom filter of the hashes, one bit per flag."""
    hashes: np.ndarray
    """Sorted."""
    owners: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    """[texts + 1] index of each text's first token."""
    counted: np.ndarray
    """Running count of the tokens that are not in common grams."""


def write_grams(file: Path, tokens: np.ndarray, starts: np.ndarray) -> Batch:
    """Write the grams of some held-out texts to a file: the first step of an index.

    Args:
        file: is written.
        tokens: token hashes.
        starts: [texts + 1] index of each text's first token.
    """
    found = grams_of(tokens, starts)
    columns = (found.hashes, found.owners.view(np.uint64), found.positions.view(np.uint64))
    np.save(file, np.stack(columns))
    return Batch(file, starts, len(found.hashes))


def build(folder: Path, batches: Sequence[Batch], run: Run = scheduler.here) -> Index:
    """Build the index of the held-out texts. Their tokens must fit into memory, their grams need not.

    Args:
        folder: is written.
        batches: in the order of the texts. Their files are deleted.
        run: maps a function over items.
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
    counted = np.ones(total + 1, np.int8)
    with ExitStack() as stack:
        complete = {name: stack.enter_context((folder / name).open("wb")) for name in _FILES_OF_A_RANGE}
        for part, common in zip(ranges, run(_write_range, ranges), strict=True):
            for step in range(GRAM):
                counted[common + step] = 0
            for name in _FILES_OF_A_RANGE:
                with part.file(name).open("rb") as made:
                    shutil.copyfileobj(made, complete[name], _COPIED_AT_ONCE)
                part.file(name).unlink()
    starts = [
        np.zeros(1, np.int64),
        *(batch.starts[1:] + tokens for batch, tokens in zip(batches, before, strict=False)),
    ]
    np.concatenate(starts).tofile(folder / "starts")
    np.append(0, np.cumsum(counted, dtype=np.int64)).astype(counts).tofile(folder / "counted")
    for batch in batches:
        batch.file.unlink()
    return Index(folder, bits, counts)


def count_outside(held: Arrays, common: np.ndarray) -> np.ndarray:
    """Return `Arrays.counted` without the tokens of further common grams.

    Args:
        held: the index.
        common: indices of grams: of the first gram with each hash.
    """
    if not len(common):
        return held.counted
    count = np.searchsorted(held.hashes, held.hashes[common], "right") - common
    grams = np.repeat(common - (np.cumsum(count) - count), count) + np.arange(count.sum())
    positions = held.positions[grams].astype(np.int64)
    counted = np.diff(held.counted).astype(np.int8)
    for step in range(GRAM):
        counted[positions + step] = 0
    return np.append(0, np.cumsum(counted, dtype=np.int64)).astype(held.counted.dtype)


def _write_range(job: _Range) -> np.ndarray:
    """Write a range's part of the index and return the positions of its common grams, which do not count."""
    batch = _in_range(job)
    common = _in_many_texts(batch, job.limit)
    kept = Grams(*(column[~common] for column in batch))
    for name, column in kept._asdict().items():
        column.astype(_DTYPES[name] or job.counts, copy=False).tofile(job.file(name))
    # This range's slice of the filter.
    flags = np.zeros((1 << job.bits) // job.parts, bool)
    for beginning in (kept.hashes >> np.uint64(64 - job.bits), second_flag(kept.hashes, job.bits)):
        flags[beginning.astype(np.int64) & (len(flags) - 1)] = True
    np.packbits(flags, bitorder="little").tofile(job.file("filter"))
    return batch.positions[common]


def second_flag(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Return the position of each hash's second flag in the filter, in the same cache line as its first flag.

    A blocked Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
    """
    rest, within = np.uint64(64 - bits), np.uint64((1 << _BLOCK) - 1)
    return ((hashes >> rest) & ~within) | ((hashes >> (rest - np.uint64(_BLOCK))) & within)


def _in_many_texts(held: Grams, limit: int) -> np.ndarray:
    """Return which grams are in more than `limit` texts. The grams are sorted by hash, then by text."""
    if not len(held.hashes):
        return np.zeros(0, bool)
    is_first = np.append(True, np.diff(held.hashes) != 0)
    is_new_text = is_first | np.append(True, np.diff(held.owners) != 0)
    number = np.cumsum(is_first) - 1
    return np.bincount(number[is_new_text])[number] > limit


def _in_range(job: _Range) -> Grams:
    """Return the grams of a range from all files, in a stable order by hash."""
    pieces = [np.zeros((3, 0), np.uint64)]
    for file, texts, tokens in job.files:
        array = np.load(file, mmap_mode="r").view(np.ndarray)
        # A shift by 64 bits is undefined.
        own = array[0] >> np.uint64(65 - job.parts.bit_length()) == job.part if job.parts > 1 else slice(None)
        pieces.append(array[:, own] + np.array([[0], [texts], [tokens]], np.uint64))
    batch = np.concatenate(pieces, axis=1)
    order = _stable_order(batch[0])
    hashes, owners, positions = (column.take(order) for column in batch)
    return Grams(hashes, owners.view(np.int64), positions.view(np.int64))


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Return a stable argsort, several times as fast: the positions are in the low bits while the keys are sorted."""
    low = np.uint64((1 << len(keys).bit_length()) - 1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).view(np.int64)
    ordered = keys[order]
    wrong = np.flatnonzero(ordered[1:] < ordered[:-1])
    if len(wrong):
        # Keys that differ only in the low bits.
        group = np.append(0, np.cumsum((ordered[1:] & ~low) != (ordered[:-1] & ~low)))
        mended = np.flatnonzero(np.isin(group, group[wrong]))
        again = order[mended]
        order[mended] = again[np.lexsort((again, ordered[mended], group[mended]))]
    return order


def _mapped(path: Path, kind: str) -> np.ndarray:
    # An empty file cannot be mapped. A slice of np.memmap is slower than a slice of a plain array.
    return np.memmap(path, kind, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, kind)


def hashes_of(tokens: np.ndarray) -> np.ndarray:
    """Return a hash for the gram at every token except the last seven, even where it crosses into the next text."""
    if len(tokens) < GRAM:
        return np.zeros(0, np.uint64)
    hashes = tokens.astype(np.uint64)
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    # Hashes of two, then four, then eight tokens.
    for step, multiplier in ((1, 0xBF58476D1CE4E5B9), (2, 0x94D049BB133111EB), (4, 0xD6E8FEB86659FD93)):
        later = hashes[step:]
        hashes = hashes[:-step] * np.uint64(multiplier)
        hashes += later
    return hashes


def grams_of(tokens: np.ndarray, starts: np.ndarray) -> Grams:
    """Return the grams of some texts; for the arguments see `write_grams`."""
    hashes = hashes_of(tokens)
    positions = np.arange(len(hashes))
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[: len(hashes)]
    inside = positions + GRAM <= starts[owners + 1]
    return Grams(hashes[inside], owners[inside], positions[inside])
