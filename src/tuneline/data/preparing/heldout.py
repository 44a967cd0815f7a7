"""Training rows of all sets that give away a held-out row of any of them are taken out."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuneline.data.preparing import contamination, gramindex
from tuneline.data.preparing.catalogue import Catalogue, mapped
from tuneline.data.preparing.prepared import Prepared
from tuneline.data.preparing.scheduler import Run

REPORTED = 0.3
"""Share of a held-out row from which a training row that holds it is counted."""

_SEVERAL_FIELDS = ("prompt-completion", "messages", "preference")
_PORTIONS = 32_000_000


@dataclass(frozen=True)
class Check:
    """Some portions of a set."""

    catalogue: Catalogue
    portions: range
    learnt: Path
    """Whether a row of the set is a training row."""
    index: gramindex.Index
    above: float
    """Share from which an overlap is told."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of some portions of a set."""

    catalogue: Catalogue
    portions: range
    held_out: Path
    """Which rows of the set are, rising."""
    fields: int
    """1, or 2 where the answer counts by itself."""
    file: Path
    """For their grams."""


def drop_overlapping(
    sets: Sequence[Prepared], max_overlap: float, work: Path, run: Run, *, frozen: int | None = None
) -> dict[str, Any]:
    """Take out of training what gives away a held-out row of any set.

    Args:
        sets: the sets.
        max_overlap: share of a held-out row that a training row may hold.
        work: folder for what other processes must see.
        run: runs a function over items.
        frozen: the set that loses nothing, because `drop_given_away` has dropped what it gives away.

    Returns:
        The account.
    """
    held = [one.of("validation", "test") for one in sets]
    # The answer counts by itself: a text may hold it without its question.
    fields = [2 if one.catalogue.record_type in _SEVERAL_FIELDS else 1 for one in sets]
    set_of = np.concatenate([np.full(len(rows) * n, i) for i, (rows, n) in enumerate(zip(held, fields, strict=True))])
    row_of = np.concatenate([np.repeat(rows, n) for rows, n in zip(held, fields, strict=True)])
    index = gramindex.build(work / "held-out", list(run(_grams, _jobs(sets, held, fields, work))), run)
    wholes, firsts = _wholes(sets, held, fields)
    kept = 0
    for number, one in enumerate(sets):
        if number == frozen:
            continue
        learnt = one.of("train")
        rows, shares, texts = _checked(one, index, min(REPORTED, max_overlap), work / f"learnt-{number}.npy", run)
        over = shares > max_overlap
        kept += int(((shares > REPORTED) & ~over).sum())
        _drop(one, rows[over], "overlap", set_of[texts[over]], row_of[texts[over]], shares[over])
        if len(wholes):
            place = np.minimum(np.searchsorted(wholes, one.rows["whole"][learnt]), len(wholes) - 1)
            same = wholes[place] == one.rows["whole"][learnt]
            text = firsts[place[same]]
            _drop(one, learnt[same], "held-out", set_of[text], row_of[text], np.ones(len(text)))
    return {"max_overlap": max_overlap, f"kept_above_{REPORTED}": kept, "held_out_texts": len(row_of)}


def drop_given_away(
    one: Prepared, text: Prepared, number: int, max_overlap: float, work: Path, run: Run
) -> dict[str, Any]:
    """Take out of the held-out rows of a set what a frozen text gives away, by the same measures as the other way.

    Args:
        one: the set whose validation and test rows are looked at.
        text: the frozen text, of which the training rows are learnt.
        number: its place among the sets, by which the reason names it.
        max_overlap: share of a held-out row that a training row may hold.
        work: an empty folder for what other processes must see.
        run: runs a function over items.

    Returns:
        The account: how many held-out rows were dropped.
    """
    fields = [2 if one.catalogue.record_type in _SEVERAL_FIELDS else 1]
    learnt = text.of("train")
    dropped = 0
    for turn in itertools.count():
        held = [one.of("validation", "test")]
        if not len(held[0]):
            break
        row_of = np.repeat(held[0], fields[0])
        folder = work / f"turn-{turn}"
        folder.mkdir()
        index = gramindex.build(folder / "held-out", list(run(_grams, _jobs([one], held, fields, folder))), run)
        rows, shares, texts = _checked(text, index, max_overlap, folder / "learnt.npy", run)
        over = shares > max_overlap
        rows, shares, given = rows[over], shares[over], row_of[texts[over]]
        wholes, firsts = _wholes([one], held, fields)
        if len(wholes):
            place = np.minimum(np.searchsorted(wholes, text.rows["whole"][learnt]), len(wholes) - 1)
            same = wholes[place] == text.rows["whole"][learnt]
            rows, shares = np.append(rows, learnt[same]), np.append(shares, np.ones(int(same.sum())))
            given = np.append(given, row_of[firsts[place[same]]])
        if not len(given):
            break
        # A row of the text names one of the held-out rows that it gives away; without that one it may name another.
        _drop(one, given, "pretraining", np.full(len(rows), number), rows, shares)
        dropped += len(np.unique(given))
    return {"given_away_by_frozen_pretraining": dropped}


def _checked(
    one: Prepared, index: gramindex.Index, above: float, learnt: Path, run: Run
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The training rows of a set that hold more than a share of a held-out text: their index, the share, the text."""
    mask = np.zeros(len(one.rows), bool)
    mask[one.of("train")] = True
    np.save(learnt, mask)
    jobs = [Check(one.catalogue, portions, learnt, index, above) for portions in one.catalogue.groups(_PORTIONS)]
    found = list(run(check, jobs))
    if not found:
        return _NOTHING
    rows, shares, texts = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, shares, texts


_NOTHING = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))


def check(job: Check) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The training rows of some portions that hold much of a held-out text: their index, the share, and the text."""
    arrays = job.index.arrays()
    learnt = mapped(job.learnt)
    found: list[tuple[np.ndarray, ...]] = [_NOTHING]
    for portion in job.portions:
        for part in job.catalogue.of_portion(portion):
            wanted = learnt[part.start : part.stop]
            counts = part.array("rows")["tokens"].astype(np.int64)
            starts = np.append(0, np.cumsum(counts))
            share, text = contamination.check(arrays, job.index.bits, part.array("tokens"), starts, wanted)
            over = np.flatnonzero(share > job.above)
            found.append((over + part.start, share[over], text[over]))
    rows, shares, texts = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, shares, texts


def _jobs(sets: Sequence[Prepared], held: Sequence[np.ndarray], fields: Sequence[int], work: Path) -> Iterator[HeldOut]:
    for number, (one, rows, count) in enumerate(zip(sets, held, fields, strict=True)):
        if not len(rows):
            continue
        np.save(work / f"held-{number}.npy", rows)
        for group, portions in enumerate(one.catalogue.groups(_PORTIONS)):
            file = work / f"grams-{number}-{group:06d}.npy"
            yield HeldOut(one.catalogue, portions, work / f"held-{number}.npy", count, file)


def _grams(job: HeldOut) -> gramindex.Batch:
    """The grams of the held-out rows of some portions, and of their answers where there are several fields."""
    rows = mapped(job.held_out)
    pieces, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for portion in job.portions:
        for part in job.catalogue.of_portion(portion):
            first, last = np.searchsorted(rows, (part.start, part.stop))
            own = rows[first:last] - part.start
            numbers, tokens = part.array("rows"), part.array("tokens")
            counts = numbers["tokens"].astype(np.int64)
            ends = np.cumsum(counts)[own]
            answers = numbers["answer_tokens"][own].astype(np.int64)
            length = np.stack([counts[own], answers], axis=1)[:, : job.fields].reshape(-1)
            begins = np.repeat(ends, job.fields) - length
            pieces.append(tokens[np.repeat(begins - (np.cumsum(length) - length), length) + np.arange(length.sum())])
            lengths.append(length)
    starts = np.append(0, np.cumsum(np.concatenate(lengths)))
    return gramindex.write_grams(job.file, np.concatenate(pieces), starts)


def _wholes(
    sets: Sequence[Prepared], held: Sequence[np.ndarray], fields: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The different held-out texts, sorted, and of each the first index."""
    hashes = [
        np.stack([one.rows["whole"][rows], one.rows["answer"][rows]], axis=1)[:, :n].reshape(-1)
        for one, rows, n in zip(sets, held, fields, strict=True)
    ]
    return np.unique(np.concatenate(hashes), return_index=True)


def _drop(
    one: Prepared, rows: np.ndarray, reason: str, sets: np.ndarray, others: np.ndarray, shares: np.ndarray
) -> None:
    one.drop(rows, reason)
    one.decisions["set"][rows] = sets
    one.decisions["other"][rows] = others
    one.decisions["share"][rows] = shares
