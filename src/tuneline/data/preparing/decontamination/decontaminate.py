"""Drops training rows that leak held-out rows, and held-out rows that a frozen pretraining text leaks.

A training row leaks a held-out row if it is the same text, or contains too much of it, alone or with other rows.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tuneline.core.arrays import distinct
from tuneline.data.preparing.decontamination import coverage, decontamination_index
from tuneline.data.preparing.decontamination.decontamination_index import Arrays, Batch, Index
from tuneline.data.preparing.prepared_set import PreparedSet
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Store, mapped

REPORTED = 0.3
"""Share of a held-out row above which the kept training rows that contain it are counted."""

_SEVERAL_FIELDS = ("prompt-completion", "messages", "preference")
_PORTIONS = 32_000_000
"""Bytes of a job."""
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class HeldOut:
    """The held-out texts of some sets. A row of several fields has two texts: itself, and its last field."""

    index: Index
    set_of: np.ndarray
    """[texts] number of the set."""
    row_of: np.ndarray
    """[texts] row in the set."""
    hashes: np.ndarray
    """The different hashes of the texts, sorted."""
    first_of_hash: np.ndarray
    """[hashes] the first text with each hash."""

    def same_texts(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of some rows, given by the hashes of their texts, are a held-out text; and these texts."""
        if not len(self.hashes):
            return np.zeros(len(hashes), bool), _NONE
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        same = self.hashes[place] == hashes
        return same, self.first_of_hash[place[same]]


@dataclass(frozen=True)
class HeldOutJob:
    """The held-out rows of some portions of a set, whose grams are written to a file."""

    store: Store
    portions: range
    held_out: Path
    """Indices of the held-out rows of the set, in ascending order."""
    fields: int
    """1, or 2 if the last field is a text by itself, too."""
    file: Path


@dataclass(frozen=True)
class SearchJob:
    """Some portions of a set, in whose training rows the grams of held-out texts are searched."""

    store: Store
    portions: range
    training: Path
    """[rows of the set] whether a row is a training row."""
    index: Index
    file: Path
    """Is written: int64, [2, pairs], rows of the set and grams."""


@dataclass(frozen=True)
class MeasureJob:
    """The shared grams of some portions of a set, which are measured."""

    found: Path
    """The file of a SearchJob."""
    index: Index
    common: Path
    """Grams that are common in training rows."""
    counted: Path
    """Running count of the held-out tokens that count."""
    max_overlap: float


class Leaks(NamedTuple):
    """What the training rows of a set leak."""

    rows: np.ndarray
    """Training rows that leak more than a threshold."""
    shares: np.ndarray
    """[rows] largest share of a held-out text that each of them contains."""
    texts: np.ndarray
    """[rows] that held-out text."""
    spared: int
    """Number of rows that would leak too much if common wording counted."""
    pieces: coverage.Pieces


def drop_leaking_rows(
    sets: Sequence[PreparedSet], max_overlap: float, work: Path, run: Run, *, frozen: int | None = None
) -> dict[str, Any]:
    """Drop the training rows that leak a held-out row of any set.

    Args:
        sets: the sets.
        max_overlap: share of a held-out row that a training row may contain.
        work: folder for files that other processes read.
        run: maps a function over items.
        frozen: number of the set that loses no row, because `drop_leaked_rows` has dropped what it leaks.

    Returns:
        The counts for the report.
    """
    held_out = _held_out(sets, work, run)
    learning = [prepared for number, prepared in enumerate(sets) if number != frozen]
    leaks, counted = _leaks(learning, held_out.index, max_overlap, work, run)
    kept = 0
    for prepared, found in zip(learning, leaks, strict=True):
        training = prepared.kept_in("train")
        over = found.shares > max_overlap
        kept += int(((found.shares > REPORTED) & ~over).sum())
        _drop(prepared, found.rows[over], "overlap", held_out, found.texts[over], found.shares[over])
        same, texts = held_out.same_texts(prepared.rows["whole"][training])
        _drop(prepared, training[same], "held-out", held_out, texts, np.ones(len(texts)))
    spread = _drop_spread(learning, leaks, held_out, counted, max_overlap)
    return {
        "max_overlap": max_overlap,
        f"kept_above_{REPORTED}": kept,
        "kept_as_boilerplate": sum(found.spared for found in leaks),
        "held_out_texts": len(held_out.row_of),
        "held_out_texts_in_pieces": spread,
    }


def drop_leaked_rows(
    prepared: PreparedSet, text: PreparedSet, number: int, max_overlap: float, work: Path, run: Run
) -> dict[str, Any]:
    """Drop the held-out rows of a set that a frozen pretraining text leaks.

    Wording that is common in the set's own training rows leaks nothing, as when the frozen text was written: the text
    contains only some of these rows, so the wording may be rarer in it.

    Args:
        prepared: the set whose validation and test rows may be dropped.
        text: the frozen text. Its training rows are learned.
        number: number of the text among the sets.
        max_overlap: share of a held-out row that a training row may contain.
        work: an empty folder for files that other processes read.
        run: maps a function over items.

    Returns:
        The counts for the report.
    """
    training = text.kept_in("train")
    dropped = 0
    for turn in itertools.count():
        if not len(prepared.kept_in("validation", "test")):
            break
        folder = work / f"turn-{turn}"
        folder.mkdir()
        held_out = _held_out([prepared], folder, run)
        ((rows, shares, texts, _, pieces),), counted = _leaks(
            [text], held_out.index, max_overlap, folder, run, common_in=prepared
        )
        over = shares > max_overlap
        joint = coverage.joint_shares(held_out.index.arrays(), counted, pieces)
        spread = joint[pieces.held_out] > max(max_overlap, coverage.SPREAD)
        same, same_texts = held_out.same_texts(text.rows["whole"][training])
        rows = np.concatenate([pieces.rows[spread], rows[over], training[same]])
        shares = np.concatenate([joint[pieces.held_out[spread]], shares[over], np.ones(len(same_texts))])
        leaked = held_out.row_of[np.concatenate([pieces.held_out[spread], texts[over], same_texts])]
        if not len(leaked):
            break
        # A row of the text names one of the rows that it leaks. Without that row it may name another one: look again.
        prepared.drop(leaked, "pretraining", set=np.full(len(rows), number), other=rows, share=shares)
        dropped += len(np.unique(leaked))
    return {"given_away_by_frozen_pretraining": dropped}


def _held_out(sets: Sequence[PreparedSet], work: Path, run: Run) -> HeldOut:
    """Return the held-out texts of some sets, with an index of their grams."""
    held = [prepared.kept_in("validation", "test") for prepared in sets]
    # The last field is a text by itself: another row may contain the answer without the question.
    fields = [2 if prepared.store.form.record_type in _SEVERAL_FIELDS else 1 for prepared in sets]
    index = decontamination_index.build(work / "held-out", list(run(write_grams, _jobs(sets, held, fields, work))), run)
    set_of = np.concatenate([np.full(len(rows) * n, i) for i, (rows, n) in enumerate(zip(held, fields, strict=True))])
    row_of = np.concatenate([np.repeat(rows, n) for rows, n in zip(held, fields, strict=True)])
    hashes = [
        np.stack([prepared.rows["whole"][rows], prepared.rows["answer"][rows]], axis=1)[:, :n].reshape(-1)
        for prepared, rows, n in zip(sets, held, fields, strict=True)
    ]
    return HeldOut(index, set_of, row_of, *np.unique(np.concatenate(hashes), return_index=True))


def _jobs(
    sets: Sequence[PreparedSet], held: Sequence[np.ndarray], fields: Sequence[int], work: Path
) -> Iterator[HeldOutJob]:
    for number, (prepared, rows, count) in enumerate(zip(sets, held, fields, strict=True)):
        if not len(rows):
            continue
        np.save(work / f"held-{number}.npy", rows)
        for group, portions in enumerate(prepared.store.groups(_PORTIONS)):
            file = work / f"grams-{number}-{group:06d}.npy"
            yield HeldOutJob(prepared.store, portions, work / f"held-{number}.npy", count, file)


def write_grams(job: HeldOutJob) -> Batch:
    """Write the grams of the held-out rows of some portions, and of their last fields."""
    rows = mapped(job.held_out)
    pieces, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for portion in job.portions:
        for part in job.store.of_portion(portion):
            first, last = np.searchsorted(rows, (part.start, part.stop))
            own = rows[first:last] - part.start
            keys, tokens = part.array("rows"), part.array("tokens")
            counts = keys["tokens"].astype(np.int64)
            ends = np.cumsum(counts)[own]
            answers = keys["answer_tokens"][own].astype(np.int64)
            length = np.stack([counts[own], answers], axis=1)[:, : job.fields].reshape(-1)
            begins = np.repeat(ends, job.fields) - length
            pieces.append(tokens[np.repeat(begins - (np.cumsum(length) - length), length) + np.arange(length.sum())])
            lengths.append(length)
    starts = np.append(0, np.cumsum(np.concatenate(lengths)))
    return decontamination_index.write_grams(job.file, np.concatenate(pieces), starts)


def _leaks(
    learning: Sequence[PreparedSet],
    index: Index,
    max_overlap: float,
    work: Path,
    run: Run,
    *,
    common_in: PreparedSet | None = None,
) -> tuple[list[Leaks], np.ndarray]:
    """Return what the training rows of each set leak, and the running count of the held-out tokens that count.

    Args:
        learning: the sets.
        index: of the held-out texts.
        max_overlap: share of a held-out row that a training row may contain.
        work: folder for files that other processes read.
        run: maps a function over items.
        common_in: a further set whose training rows only decide which wording is common.
    """
    arrays = index.arrays()
    files_of_sets = [_search(prepared, f"{number}", index, work, run) for number, prepared in enumerate(learning)]
    # The rows of a set that is data.raw and data.pretraining count once as rows that share a wording.
    paths = [prepared.store.path for prepared in learning]
    once = [paths.index(path) for path in dict.fromkeys(paths)]
    common = _common_grams([learning[place] for place in once], [files_of_sets[place] for place in once], arrays)
    if common_in is not None:
        files = _search(common_in, "common", index, work, run)
        common = np.union1d(common, _common_grams([common_in], [files], arrays))
        for file in files:
            file.unlink()
    counted = decontamination_index.count_outside(arrays, common)
    np.save(work / "common.npy", common)
    np.save(work / "counted.npy", counted)
    leaks: list[Leaks] = []
    for files in files_of_sets:
        jobs = [MeasureJob(file, index, work / "common.npy", work / "counted.npy", max_overlap) for file in files]
        parts = [_NO_LEAKS, *run(measure, jobs)]
        for file in files:
            file.unlink()
        rows, shares, texts = (np.concatenate(column) for column in zip(*(part[:3] for part in parts), strict=True))
        pieces = coverage.Pieces(*map(np.concatenate, zip(*(part.pieces for part in parts), strict=True)))
        leaks.append(Leaks(rows, shares, texts, sum(part.spared for part in parts), pieces))
    return leaks, counted


def _search(prepared: PreparedSet, name: str, index: Index, work: Path, run: Run) -> list[Path]:
    """Search the training rows of a set; return the files with the shared grams."""
    training = np.zeros(len(prepared.rows), bool)
    training[prepared.kept_in("train")] = True
    np.save(work / f"training-{name}.npy", training)
    jobs = [
        SearchJob(prepared.store, portions, work / f"training-{name}.npy", index, work / f"found-{name}-{group}.npy")
        for group, portions in enumerate(prepared.store.groups(_PORTIONS))
    ]
    return list(run(search, jobs))


def search(job: SearchJob) -> Path:
    """Search the training rows of some portions for grams of held-out texts; return the file with the shared grams."""
    arrays = job.index.arrays()
    training = mapped(job.training)
    found = [np.zeros((2, 0), np.int64)]
    for portion in job.portions:
        for part in job.store.of_portion(portion):
            wanted = training[part.start : part.stop]
            starts = np.append(0, np.cumsum(part.array("rows")["tokens"].astype(np.int64)))
            rows, grams = coverage.find_shared(arrays, job.index.bits, part.array("tokens"), starts, wanted)
            found.append(np.stack([rows + part.start, grams]))
    np.save(job.file, np.concatenate(found, axis=1))
    return job.file


def _common_grams(sets: Sequence[PreparedSet], files_of_sets: Sequence[Sequence[Path]], arrays: Arrays) -> np.ndarray:
    """Return the grams that are common in the training rows of some sets."""
    in_rows = np.zeros(len(arrays.hashes), np.uint32)
    for file in itertools.chain.from_iterable(files_of_sets):
        in_rows += coverage.rows_per_gram(arrays, coverage.SharedGrams(*mapped(file)))
    return coverage.common_grams(in_rows, sum(len(prepared.kept_in("train")) for prepared in sets))


_NO_LEAKS = Leaks(_NONE, np.zeros(0), _NONE, 0, coverage.Pieces(_NONE, _NONE, _NONE))


def measure(job: MeasureJob) -> Leaks:
    """Return what the training rows of some portions leak. Small shares, which are not reported, are left out."""
    arrays = job.index.arrays()
    shared, common = coverage.SharedGrams(*mapped(job.found)), mapped(job.common)
    if not len(shared.rows):
        return _NO_LEAKS
    # Count rows from the first row that shares a gram to the last.
    first, last = int(shared.rows[0]), int(shared.rows[-1])
    shared = coverage.SharedGrams(shared.rows - first, shared.grams)
    count = last + 1 - first
    without_common = coverage.without_common(shared, common)
    (share, text), pieces = coverage.measure(arrays, mapped(job.counted), without_common, count)
    spared = 0
    if len(common):
        (with_common, _), _ = coverage.measure(arrays, arrays.counted, shared, count)
        spared = int(((with_common > job.max_overlap) & (share <= job.max_overlap)).sum())
    over = np.flatnonzero(share > min(REPORTED, job.max_overlap))
    return Leaks(over + first, share[over], text[over], spared, pieces._replace(rows=pieces.rows + first))


def _drop_spread(
    learning: Sequence[PreparedSet], leaks: Sequence[Leaks], held_out: HeldOut, counted: np.ndarray, max_overlap: float
) -> int:
    """Drop the rows whose pieces of a held-out text leak it together; return the number of such texts."""
    numbers = np.concatenate([np.full(len(found.pieces.rows), i) for i, found in enumerate(leaks)])
    pieces = coverage.Pieces(*map(np.concatenate, zip(*(found.pieces for found in leaks), strict=True)))
    kept = np.zeros(len(numbers), bool)
    for number, prepared in enumerate(learning):
        own = numbers == number
        kept[own] = prepared.decisions["reason"][pieces.rows[own]] == 0
    pieces = coverage.Pieces(*(column[kept] for column in pieces))
    numbers = numbers[kept]
    shares = coverage.joint_shares(held_out.index.arrays(), counted, pieces)
    leaked = shares[pieces.held_out] > max(max_overlap, coverage.SPREAD)
    for number, prepared in enumerate(learning):
        own = leaked & (numbers == number)
        # A row with pieces of several texts names the text with the largest share.
        order = np.lexsort((pieces.held_out[own], -shares[pieces.held_out[own]], pieces.rows[own]))
        rows, texts = pieces.rows[own][order], pieces.held_out[own][order]
        first = np.append(True, np.diff(rows) != 0)[: len(rows)]
        rows, texts = rows[first], texts[first]
        _drop(prepared, rows, "spread", held_out, texts, shares[texts])
    return len(distinct(pieces.held_out[leaked]))


def _drop(
    prepared: PreparedSet, rows: np.ndarray, reason: str, held_out: HeldOut, texts: np.ndarray, shares: np.ndarray
) -> None:
    prepared.drop(rows, reason, set=held_out.set_of[texts], other=held_out.row_of[texts], share=shares)
