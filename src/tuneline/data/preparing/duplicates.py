"""Drops duplicates and near duplicates within a set.

Rows are duplicates if their keys are equal. Near duplicates are found in two steps: rows that share a band of their
sketches are candidates, and the Jaccard similarity of their character grams decides.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tuneline.core.arrays import distinct
from tuneline.data.preparing.prepared_set import PreparedSet
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Store, values_of
from tuneline.data.preparing.text import cleaning, grams
from tuneline.data.preparing.text.row_keys import equal_keys, plain_texts

ALL_PAIRS_UP_TO = 64
"""In a bucket of up to this many rows every pair is compared."""

_FIRST_OF_CLUSTERS = 16
_PAIRS = 4000
_CHARACTERS = 16_000_000
_SAME_QUESTION = 0.5
_LARGEST = 10


class Preference(NamedTuple):
    """Decides which of several equal rows stays: the row with the lowest rank, then the lowest number, then id.

    Held-out rows rank before training rows, and the values depend on the row alone. So rows that are added can replace
    a held-out row only by a held-out row.
    """

    ranks: np.ndarray
    """[rows] of the split: test, validation, train."""
    numbers: np.ndarray
    """[rows] of the group, from `splits.split_numbers`."""
    ids: np.ndarray
    """[rows] Of rows with equal ids the first stays."""

    def take(self, rows: np.ndarray) -> "Preference":
        """Return the preference of some rows."""
        return Preference(*(column[rows] for column in self))


class Buckets(NamedTuple):
    """Rows that share a band of their sketches: candidates for near duplicates."""

    rows: np.ndarray
    """Rows, bucket by bucket, in ascending order within a bucket. A bucket has two or more rows."""
    starts: np.ndarray
    """[buckets + 1] index of each bucket's first row."""


class Clusters(NamedTuple):
    """Clusters of near duplicates."""

    of_rows: np.ndarray
    """[rows] the lowest row of each row's cluster."""
    compared: int
    """Number of pairs that were compared."""
    bounded: int
    """Rows of the largest bucket in which not every pair was compared; 0 if no bucket was so large."""


@dataclass(frozen=True)
class BandJob:
    """A band of the sketches of a set."""

    store: Store
    number: int
    rows: Path
    """Indices of the rows that are compared, in ascending order."""


@dataclass(frozen=True)
class PairsJob:
    """Pairs of rows that are compared."""

    store: Store
    pairs: np.ndarray
    """[pairs, 2] indices in the set."""
    threshold: float
    """Jaccard similarity."""


def drop_duplicates(prepared: PreparedSet, threshold: float | None, folder: Path, run: Run) -> None:
    """Drop all rows of a set but one of each cluster of duplicates and near duplicates.

    Args:
        prepared: the set, already split.
        threshold: Jaccard similarity of near duplicates; None drops only exact duplicates.
        folder: is made, for files that other processes read.
        run: maps a function over items.
    """
    rows, kept = prepared.rows, prepared.kept
    preference = Preference(2 - prepared.decisions["split"], prepared.split_numbers, rows["key_high"])
    stands_for = np.arange(len(rows))
    stands_for[kept] = kept[representatives(equal_keys(rows[kept]), preference.take(kept))]
    repeated = kept[stands_for[kept] != kept]
    prepared.drop(repeated, "duplicate")
    if threshold is not None:
        folder.mkdir()
        clusters = _near_duplicates(prepared, threshold, folder, run)
        unique = prepared.kept
        chosen = unique[representatives([clusters.of_rows[unique]], preference.take(unique))]
        prepared.drop(unique[chosen != unique], "near-duplicate")
        stands_for[unique] = chosen
        stands_for[repeated] = stands_for[stands_for[repeated]]
        prepared.near = {
            "threshold": threshold,
            "pairs_compared": clusters.compared,
            "largest_bucket_bounded": clusters.bounded,
        }
    dropped = np.flatnonzero(stands_for != np.arange(len(rows)))
    prepared.decisions["other"][dropped] = stands_for[dropped]
    heads, sizes = np.unique(stands_for[dropped], return_counts=True)
    largest = np.lexsort((heads, -sizes))[:_LARGEST]
    prepared.clusters = [
        {"kept": prepared.store.source(head, int(rows["line"][head])), "dropped": size}
        for head, size in zip(heads[largest].tolist(), sizes[largest].tolist(), strict=True)
    ]


def representatives(keys: Sequence[np.ndarray], preference: Preference) -> np.ndarray:
    """Return for each row the row that stays of all rows with its key.

    Args:
        keys: arrays of [rows]. Rows are the same if all their values are equal.
        preference: decides which row stays.

    Returns:
        [rows] the row that stays: the row itself, or another one.
    """
    stays = np.arange(len(keys[0]))
    rows = _repeated(keys[0])
    order = rows[np.lexsort((*reversed(preference.take(rows)), *(key[rows] for key in keys)))]
    is_first = np.zeros(len(order), bool)
    is_first[:1] = True
    for key in keys:
        ordered = key[order]
        is_first[1:] |= ordered[1:] != ordered[:-1]
    stays[order] = order[np.flatnonzero(is_first)][np.cumsum(is_first) - 1]
    return stays


def _repeated(key: np.ndarray) -> np.ndarray:
    """Return the rows whose value another row has, too. They are few, so only they need be sorted."""
    order = np.argsort(key)
    same = np.diff(key[order]) == 0
    return np.sort(order[np.append(same, False) | np.append(False, same)]) if len(key) else order


def _near_duplicates(prepared: PreparedSet, threshold: float, folder: Path, run: Run) -> Clusters:
    """Return the near duplicates among the kept rows of a set; a dropped row is a cluster by itself."""
    store, answers, characters = prepared.store, prepared.rows["answer"], prepared.rows["characters"]
    np.save(folder / "compared.npy", prepared.kept)
    bands = run(read_buckets, [BandJob(store, band, folder / "compared.npy") for band in range(grams.BANDS)])

    def compare(pairs: np.ndarray) -> np.ndarray:
        wanted = np.ones(len(pairs), bool)
        if store.form.labelled:
            wanted = answers[pairs[:, 0]] == answers[pairs[:, 1]]
        jobs = (PairsJob(store, chunk, threshold) for chunk in bounded_chunks(pairs[wanted], characters))
        wanted[wanted] = np.concatenate([np.zeros(0, bool), *run(compare_pairs, jobs)])
        return wanted

    return cluster_rows(store.rows, bands, compare)


def read_buckets(job: BandJob) -> Buckets:
    """Return the rows that share a number in a band."""
    rows = np.load(job.rows)
    keys = np.concatenate([part.array("bands")[job.number] for part in job.store.parts])
    return buckets(keys[rows], rows)


def buckets(keys: np.ndarray, rows: np.ndarray) -> Buckets:
    """Return the rows that share a key with another row, in the order of the keys.

    Args:
        keys: uint32, a band of some rows.
        rows: these rows, in ascending order, below 2**32.
    """
    ordered = np.sort((keys.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64))
    same = ordered[1:] >> np.uint64(32) == ordered[:-1] >> np.uint64(32)
    member = np.append(same, False) | np.append(False, same)
    members = ordered[member]
    firsts = np.flatnonzero(np.append(True, np.diff(members >> np.uint64(32)) != 0)) if len(members) else members
    return Buckets((members & np.uint64(0xFFFFFFFF)).astype(np.int64), np.append(firsts, len(members)).astype(np.int64))


def cluster_rows(rows: int, bands: Iterable[Buckets], compare: Callable[[np.ndarray], np.ndarray]) -> Clusters:
    """Return the clusters of rows that are near duplicates, directly or through other rows.

    Within a bucket every pair that is not yet in one cluster is compared. In a bucket of more than 64 rows each row is
    compared with the first rows of up to 16 clusters.

    Args:
        rows: number of rows.
        bands: the buckets of each band.
        compare: pairs, [pairs, 2] -> whether they are near duplicates, [pairs].
    """
    clusters = np.arange(rows)
    known = np.zeros(0, np.int64)
    bounded = 0
    for band in bands:
        # The first row of each bucket with the others links most of what can be linked. Then the remaining pairs.
        for candidates in (_pairs_with_first, _pairs_between_clusters):
            found, largest = candidates(_unlinked(band, clusters), clusters)
            bounded = max(bounded, largest)
            codes = distinct(found.min(axis=1) * rows + found.max(axis=1))
            codes = codes[~np.isin(codes, known, assume_unique=True)]
            if not len(codes):
                continue
            known = np.sort(np.concatenate([known, codes]), kind="stable")
            pairs = np.stack([codes // rows, codes % rows], axis=1)
            links = pairs[compare(pairs)]
            if len(links):
                clusters = _join(clusters, links)
    return Clusters(clusters, len(known), bounded)


def _join(clusters: np.ndarray, links: np.ndarray) -> np.ndarray:
    """Return the clusters with further links. Only linked clusters enter the graph, as most rows are alone."""
    nodes, places = np.unique(clusters[links], return_inverse=True)
    ends = places.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    _, components = connected_components(graph.tocsr(), directed=False)
    _, lowest = np.unique(components, return_index=True)
    becomes = np.arange(len(clusters))
    becomes[nodes] = nodes[lowest[components]]
    return becomes[clusters]


def _unlinked(band: Buckets, clusters: np.ndarray) -> Buckets:
    """Return the buckets whose rows are in several clusters."""
    if not len(band.rows):
        return band
    of_rows = clusters[band.rows]
    starts, sizes = band.starts[:-1], np.diff(band.starts)
    mixed = np.minimum.reduceat(of_rows, starts) != np.maximum.reduceat(of_rows, starts)
    return Buckets(band.rows[np.repeat(mixed, sizes)], np.append(0, np.cumsum(sizes[mixed])))


def _pairs_with_first(band: Buckets, clusters: np.ndarray) -> tuple[np.ndarray, int]:
    sizes = np.diff(band.starts)
    firsts = np.repeat(band.rows[band.starts[:-1]], sizes)
    apart = clusters[firsts] != clusters[band.rows]
    return np.stack([firsts[apart], band.rows[apart]], axis=1), 0


def _pairs_between_clusters(band: Buckets, clusters: np.ndarray) -> tuple[np.ndarray, int]:
    found = [np.zeros((0, 2), np.int64)]
    bounded = 0
    for start, stop in zip(band.starts[:-1].tolist(), band.starts[1:].tolist(), strict=True):
        rows = band.rows[start:stop]
        if len(rows) > ALL_PAIRS_UP_TO:
            bounded = max(bounded, len(rows))
            _, firsts = np.unique(clusters[rows], return_index=True)
            firsts = np.sort(firsts)[:_FIRST_OF_CLUSTERS]
            left, right = np.repeat(rows[firsts], len(rows)), np.tile(rows, len(firsts))
        else:
            i, j = np.triu_indices(len(rows), 1)
            left, right = rows[i], rows[j]
        apart = clusters[left] != clusters[right]
        found.append(np.stack([left[apart], right[apart]], axis=1))
    return np.concatenate(found), bounded


def bounded_chunks(pairs: np.ndarray, characters: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs in chunks whose rows take a bounded amount of memory.

    Args:
        pairs: [pairs, 2] indices of rows.
        characters: [rows]
    """
    if not len(pairs):
        return
    sizes = np.cumsum(characters[pairs].sum(axis=1, dtype=np.int64))
    number = np.maximum(sizes // _CHARACTERS, np.arange(len(pairs)) // _PAIRS)
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(pairs)]
    for start, stop in itertools.pairwise(cuts):
        yield pairs[start:stop]


def compare_pairs(job: PairsJob) -> np.ndarray:
    """Return whether the rows of each pair are near duplicates."""
    rows, places = np.unique(job.pairs, return_inverse=True)
    texts: list[tuple[str, ...]] = []
    for part in job.store.parts:
        first, last = np.searchsorted(rows, (part.start, part.stop))
        if last > first:
            values = values_of(part.batch(), rows[first:last] - part.start)
            texts += [plain_texts(job.store.form, row) for row in values]
    return compare_texts(texts, places.reshape(-1, 2), job.threshold)


def compare_texts(texts: Sequence[tuple[str, ...]], pairs: np.ndarray, threshold: float) -> np.ndarray:
    """Return whether the rows of each pair are near duplicates.

    Args:
        texts: of each row, from `plain_texts`.
        pairs: [pairs, 2] indices of rows.
        threshold: Jaccard similarity of near duplicates.

    Returns:
        bool, [pairs].
    """
    sets = grams.gram_sets([" ".join(map(cleaning.key, text)) for text in texts])
    return np.array(
        [
            grams.jaccard(sets[left], sets[right]) >= threshold and _same_fields(texts[left], texts[right], threshold)
            for left, right in pairs.tolist()
        ],
        bool,
    )


def _same_fields(left: Sequence[str], right: Sequence[str], threshold: float) -> bool:
    """Return whether each answer is similar by itself, and the question, too, if the rows share a long context."""
    if len(left) == 1:
        return True
    answers = zip(left[1:], right[1:], strict=True)
    return all(_similarity(a, b) >= threshold for a, b in answers) and _same_question(left[0], right[0])


def _same_question(left: str, right: str) -> bool:
    """Return whether two prompts ask the same, without the lines that both have.

    Two prompts that share less than half of their lines count as the same: they may be one text, wrapped in two ways.
    """
    left_lines, right_lines = (Counter(filter(None, map(cleaning.key, text.split("\n")))) for text in (left, right))
    left_rest, right_rest = (
        " ".join((a - b).elements()) for a, b in ((left_lines, right_lines), (right_lines, left_lines))
    )
    shared = sum(map(len, (left_lines & right_lines).elements()))
    if not left_rest or not right_rest or shared < max(len(left_rest), len(right_rest)):
        return True
    return _similarity(left_rest, right_rest) >= _SAME_QUESTION


def _similarity(left: str, right: str) -> float:
    return grams.jaccard(*grams.gram_sets([cleaning.key(left), cleaning.key(right)]))
