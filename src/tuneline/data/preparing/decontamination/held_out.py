"""Training rows of all sets that give away a held-out row of any of them are taken out."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tuneline.core.arrays import distinct
from tuneline.data.preparing.decontamination import coverage, gram_index
from tuneline.data.preparing.prepared_set import Prepared
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Catalogue, mapped

REPORTED = 0.3
"""Share of a held-out row from which a training row that holds it is counted."""

_SEVERAL_FIELDS = ("prompt-completion", "messages", "preference")
_PORTIONS = 32_000_000


@dataclass(frozen=True)
class Search:
    """Some portions of a set, in which the grams of held-out texts are searched."""

    catalogue: Catalogue
    portions: range
    learnt: Path
    """Whether a row of the set is a training row."""
    index: gram_index.Index
    file: Path
    """For what is found."""


@dataclass(frozen=True)
class Check:
    """What was found in some portions of a set, to be measured."""

    found: Path
    index: gram_index.Index
    common: Path
    """The grams that training rows have in common."""
    telling: Path
    """Running count of the held-out tokens that count."""
    max_overlap: float


class Overlaps(NamedTuple):
    """What training rows of a set give away of held-out texts."""

    rows: np.ndarray
    shares: np.ndarray
    texts: np.ndarray
    """Of each row, the text of which it gives away most."""
    spared: int
    """Rows that give too much away only if wording counts that many training rows have."""
    pieces: coverage.Pieces


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
    fields = [2 if one.catalogue.form.record_type in _SEVERAL_FIELDS else 1 for one in sets]
    set_of = np.concatenate([np.full(len(rows) * n, i) for i, (rows, n) in enumerate(zip(held, fields, strict=True))])
    row_of = np.concatenate([np.repeat(rows, n) for rows, n in zip(held, fields, strict=True)])
    index = gram_index.build(work / "held-out", list(run(_grams, _jobs(sets, held, fields, work))), run)
    wholes, firsts = _wholes(sets, held, fields)
    learning = [one for number, one in enumerate(sets) if number != frozen]
    overlaps, telling = _overlaps(learning, index, max_overlap, work, run)
    kept = 0
    for one, found in zip(learning, overlaps, strict=True):
        learnt = one.of("train")
        over = found.shares > max_overlap
        kept += int(((found.shares > REPORTED) & ~over).sum())
        rows, text, shares = found.rows[over], found.texts[over], found.shares[over]
        _drop(one, rows, "overlap", set_of[text], row_of[text], shares)
        if len(wholes):
            place = np.minimum(np.searchsorted(wholes, one.rows["whole"][learnt]), len(wholes) - 1)
            same = wholes[place] == one.rows["whole"][learnt]
            text = firsts[place[same]]
            _drop(one, learnt[same], "held-out", set_of[text], row_of[text], np.ones(len(text)))
    spread = _drop_spread(learning, overlaps, index, telling, max_overlap, set_of, row_of)
    return {
        "max_overlap": max_overlap,
        f"kept_above_{REPORTED}": kept,
        "kept_as_boilerplate": sum(found.spared for found in overlaps),
        "held_out_texts": len(row_of),
        "held_out_texts_in_pieces": spread,
    }


def _drop_spread(
    learning: Sequence[Prepared], overlaps: Sequence[Overlaps], index: gram_index.Index, telling: np.ndarray,
    max_overlap: float, set_of: np.ndarray, row_of: np.ndarray,
) -> int:  # fmt: skip
    """Drop the rows that hold pieces of a held-out text which together give it away.

    Returns:
        How many such texts there are.
    """
    numbers = np.concatenate([np.full(len(found.pieces.rows), i) for i, found in enumerate(overlaps)])
    pieces = coverage.Pieces(*map(np.concatenate, zip(*(found.pieces for found in overlaps), strict=True)))
    stays = np.zeros(len(numbers), bool)
    for number, one in enumerate(learning):
        own = numbers == number
        stays[own] = one.decisions["reason"][pieces.rows[own]] == 0
    pieces = coverage.Pieces(*(column[stays] for column in pieces))
    numbers = numbers[stays]
    shares = coverage.together(index.arrays(), telling, pieces)
    given = shares[pieces.held_out] > max(max_overlap, coverage.SPREAD)
    for number, one in enumerate(learning):
        own = given & (numbers == number)
        # A row with pieces of several texts names the one that is given away most.
        order = np.lexsort((pieces.held_out[own], -shares[pieces.held_out[own]], pieces.rows[own]))
        rows, texts = pieces.rows[own][order], pieces.held_out[own][order]
        first = np.append(True, np.diff(rows) != 0)[: len(rows)]
        rows, texts = rows[first], texts[first]
        _drop(one, rows, "spread", set_of[texts], row_of[texts], shares[texts])
    return len(distinct(pieces.held_out[given]))


def drop_given_away(
    one: Prepared, text: Prepared, number: int, max_overlap: float, work: Path, run: Run
) -> dict[str, Any]:
    """Take out of the held-out rows of a set what a frozen text gives away, by the same measures as the other way.

    Wording that the set's own training rows have in common gives nothing away, as when these were looked at: the text
    holds what was left of them, in which the wording may be rarer.

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
    fields = [2 if one.catalogue.form.record_type in _SEVERAL_FIELDS else 1]
    learnt = text.of("train")
    dropped = 0
    for turn in itertools.count():
        held = [one.of("validation", "test")]
        if not len(held[0]):
            break
        row_of = np.repeat(held[0], fields[0])
        folder = work / f"turn-{turn}"
        folder.mkdir()
        index = gram_index.build(folder / "held-out", list(run(_grams, _jobs([one], held, fields, folder))), run)
        ((rows, shares, texts, _, pieces),), telling = _overlaps([text], index, max_overlap, folder, run, beside=one)
        over = shares > max_overlap
        rows, shares, given = rows[over], shares[over], row_of[texts[over]]
        parts = coverage.together(index.arrays(), telling, pieces)
        spread = parts[pieces.held_out] > max(max_overlap, coverage.SPREAD)
        rows, shares = np.append(pieces.rows[spread], rows), np.append(parts[pieces.held_out[spread]], shares)
        given = np.append(row_of[pieces.held_out[spread]], given)
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


def _overlaps(
    learning: Sequence[Prepared],
    index: gram_index.Index,
    max_overlap: float,
    work: Path,
    run: Run,
    *,
    beside: Prepared | None = None,
) -> tuple[list[Overlaps], np.ndarray]:
    """What the training rows of some sets give away of the held-out texts of an index.

    Args:
        learning: the sets.
        index: of the held-out texts.
        max_overlap: share of a held-out row that a training row may hold.
        work: folder for what other processes must see.
        run: runs a function over items.
        beside: a set whose training rows only say which wording is common.

    Returns:
        Of each set; and the running count of the held-out tokens that count.
    """
    arrays = index.arrays()
    of_sets = [_searched(one, f"{number}", index, work, run) for number, one in enumerate(learning)]
    common = _common(learning, of_sets, arrays)
    if beside is not None:
        files = _searched(beside, "beside", index, work, run)
        common = np.union1d(common, _common([beside], [files], arrays))
        for file in files:
            file.unlink()
    telling = gram_index.outside(arrays, common)
    np.save(work / "common.npy", common)
    np.save(work / "telling.npy", telling)
    found: list[Overlaps] = []
    for one, files in zip(learning, of_sets, strict=True):
        jobs = [Check(file, index, work / "common.npy", work / "telling.npy", max_overlap) for file in files]
        measured = list(run(check, jobs))
        for file in files:
            file.unlink()
        pieces = [_NO_OVERLAPS, *measured]
        rows, shares, texts = (np.concatenate(column) for column in zip(*(one[:3] for one in pieces), strict=True))
        together = coverage.Pieces(*map(np.concatenate, zip(*(one.pieces for one in pieces), strict=True)))
        found.append(Overlaps(rows, shares, texts, sum(one.spared for one in measured), together))
    return found, telling


def _searched(one: Prepared, name: str, index: gram_index.Index, work: Path, run: Run) -> list[Path]:
    """The files that `search` makes of the training rows of a set."""
    mask = np.zeros(len(one.rows), bool)
    mask[one.of("train")] = True
    np.save(work / f"learnt-{name}.npy", mask)
    jobs = [
        Search(one.catalogue, portions, work / f"learnt-{name}.npy", index, work / f"found-{name}-{group}.npy")
        for group, portions in enumerate(one.catalogue.groups(_PORTIONS))
    ]
    return list(run(search, jobs))


def _common(sets: Sequence[Prepared], of_sets: Sequence[Sequence[Path]], arrays: gram_index.Arrays) -> np.ndarray:
    """The grams that the training rows of some sets have in common, from what was found in them."""
    in_rows = np.zeros(len(arrays.hashes), np.uint32)
    for file in itertools.chain.from_iterable(of_sets):
        in_rows += coverage.rows_of(arrays, coverage.Shared(*mapped(file)))
    return coverage.boilerplate(in_rows, sum(len(one.of("train")) for one in sets))


_NONE = np.zeros(0, np.int64)
_NO_OVERLAPS = Overlaps(_NONE, np.zeros(0), _NONE, 0, coverage.Pieces(_NONE, _NONE, _NONE))


def search(job: Search) -> Path:
    """Find the grams of held-out texts in the training rows of some portions.

    Returns:
        A file of int64, [2, pairs]: rows of the set, and grams.
    """
    arrays = job.index.arrays()
    learnt = mapped(job.learnt)
    found = [np.zeros((2, 0), np.int64)]
    for portion in job.portions:
        for part in job.catalogue.of_portion(portion):
            wanted = learnt[part.start : part.stop]
            starts = np.append(0, np.cumsum(part.array("rows")["tokens"].astype(np.int64)))
            rows, grams = coverage.search(arrays, job.index.bits, part.array("tokens"), starts, wanted)
            found.append(np.stack([rows + part.start, grams]))
    np.save(job.file, np.concatenate(found, axis=1))
    return job.file


def check(job: Check) -> Overlaps:
    """Measure what was found: the rows that give away more than is told, and the pieces of held-out texts in rows."""
    arrays = job.index.arrays()
    shared, common = coverage.Shared(*mapped(job.found)), mapped(job.common)
    if not len(shared.rows):
        return _NO_OVERLAPS
    # Only the rows between the first and the last one that shares anything.
    first, last = int(shared.rows[0]), int(shared.rows[-1])
    shared = coverage.Shared(shared.rows - first, shared.grams)
    (share, text), pieces = coverage.cover(
        arrays, mapped(job.telling), coverage.without(shared, common), last + 1 - first
    )
    spared = 0
    if len(common):
        (with_common, _), _ = coverage.cover(arrays, arrays.telling, shared, last + 1 - first)
        spared = int(((with_common > job.max_overlap) & (share <= job.max_overlap)).sum())
    over = np.flatnonzero(share > min(REPORTED, job.max_overlap))
    return Overlaps(over + first, share[over], text[over], spared, pieces._replace(rows=pieces.rows + first))


def _jobs(sets: Sequence[Prepared], held: Sequence[np.ndarray], fields: Sequence[int], work: Path) -> Iterator[HeldOut]:
    for number, (one, rows, count) in enumerate(zip(sets, held, fields, strict=True)):
        if not len(rows):
            continue
        np.save(work / f"held-{number}.npy", rows)
        for group, portions in enumerate(one.catalogue.groups(_PORTIONS)):
            file = work / f"grams-{number}-{group:06d}.npy"
            yield HeldOut(one.catalogue, portions, work / f"held-{number}.npy", count, file)


def _grams(job: HeldOut) -> gram_index.Batch:
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
    return gram_index.write_grams(job.file, np.concatenate(pieces), starts)


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
