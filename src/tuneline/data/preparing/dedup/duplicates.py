"""Which rows are the same, or nearly, and which one of them stays: plain functions of arrays."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tuneline.core.arrays import distinct

WHOLLY_COMPARED = 64
"""Rows of one bucket up to which every pair of them is compared."""

_FIRST_OF_CLUSTERS = 16


class Buckets(NamedTuple):
    """Rows that share a band of their sketches, so may be nearly the same."""

    rows: np.ndarray
    """Bucket by bucket, rising within one; each bucket has two or more."""
    starts: np.ndarray
    """Of each bucket, and the number of rows."""


class Near(NamedTuple):
    """What was found by comparing."""

    clusters: np.ndarray
    """[rows] the lowest row of the cluster of each."""
    compared: int
    """Pairs."""
    bounded: int
    """Rows of the largest bucket in which not every pair was compared; 0 where none was so large."""


class Preference(NamedTuple):
    """Which of several rows that are the same stays: the lowest by the first of these, then by the next.

    A held-out row goes before a training row, and all is decided by the rows themselves, so that adding rows can only
    replace a held-out row by a held-out one.
    """

    ranks: np.ndarray
    """[rows] of the split: test, validation, train."""
    numbers: np.ndarray
    """[rows] of the group."""
    ids: np.ndarray
    """[rows]; of equals the first row stays."""

    def of(self, rows: np.ndarray) -> "Preference":
        """That of some rows."""
        return Preference(*(column[rows] for column in self))


def representatives(keys: Sequence[np.ndarray], preference: Preference) -> np.ndarray:
    """For every row, the row that stands for all with its key.

    Args:
        keys: arrays of [rows], all equal where rows are the same.
        preference: which row of them stays.

    Returns:
        [rows] the row that stays, which is itself where it stays.
    """
    stays = np.arange(len(keys[0]))
    rows = _repeated(keys[0])
    order = rows[np.lexsort((*reversed(preference.of(rows)), *(key[rows] for key in keys)))]
    is_first = np.zeros(len(order), bool)
    is_first[:1] = True
    for key in keys:
        ordered = key[order]
        is_first[1:] |= ordered[1:] != ordered[:-1]
    stays[order] = order[np.flatnonzero(is_first)][np.cumsum(is_first) - 1]
    return stays


def _repeated(key: np.ndarray) -> np.ndarray:
    """The rows whose value another row has too, rising: few, so that only they need be put in order."""
    order = np.argsort(key)
    same = np.diff(key[order]) == 0
    return np.sort(order[np.append(same, False) | np.append(False, same)]) if len(key) else order


def buckets(keys: np.ndarray, rows: np.ndarray) -> Buckets:
    """The rows that share a key with another one.

    Args:
        keys: uint32, one band of some rows.
        rows: these rows, rising, below 2**32.

    Returns:
        Buckets in the order of their keys.
    """
    ordered = np.sort((keys.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64))
    same = ordered[1:] >> np.uint64(32) == ordered[:-1] >> np.uint64(32)
    member = np.append(same, False) | np.append(False, same)
    members = ordered[member]
    firsts = np.flatnonzero(np.append(True, np.diff(members >> np.uint64(32)) != 0)) if len(members) else members
    return Buckets((members & np.uint64(0xFFFFFFFF)).astype(np.int64), np.append(firsts, len(members)).astype(np.int64))


def near(rows: int, bands: Iterable[Buckets], alike: Callable[[np.ndarray], np.ndarray]) -> Near:
    """Clusters of rows that are nearly the same, or linked by others that are.

    Within a bucket every pair that is not linked yet is compared; in a bucket of more than 64 rows each row is compared
    with the first of up to 16 clusters.

    Args:
        rows: number of rows.
        bands: buckets of each band.
        alike: pairs, [pairs, 2] -> whether they are nearly the same, [pairs].

    Returns:
        The clusters.
    """
    clusters = np.arange(rows)
    known = np.zeros(0, np.int64)
    bounded = 0
    for one in bands:
        # The first row of each bucket against the others links most of what there is to link. Then what is left.
        for wanted in (_with_first, _between_clusters):
            found, largest = wanted(_unlinked(one, clusters), clusters)
            bounded = max(bounded, largest)
            codes = distinct(found.min(axis=1) * rows + found.max(axis=1))
            codes = codes[~np.isin(codes, known, assume_unique=True)]
            if not len(codes):
                continue
            known = np.sort(np.concatenate([known, codes]), kind="stable")
            pairs = np.stack([codes // rows, codes % rows], axis=1)
            new = pairs[alike(pairs)]
            if len(new):
                clusters = _joined(clusters, new)
    return Near(clusters, len(known), bounded)


def _joined(clusters: np.ndarray, links: np.ndarray) -> np.ndarray:
    """The clusters when more rows are linked. Only what the links touch is looked at: most rows are alone."""
    nodes, places = np.unique(clusters[links], return_inverse=True)
    ends = places.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    _, labels = connected_components(graph.tocsr(), directed=False)
    _, lowest = np.unique(labels, return_index=True)
    becomes = np.arange(len(clusters))
    becomes[nodes] = nodes[lowest[labels]]
    return becomes[clusters]


def _unlinked(one: Buckets, clusters: np.ndarray) -> Buckets:
    """The buckets whose rows are not in one cluster already."""
    if not len(one.rows):
        return one
    of_rows = clusters[one.rows]
    starts, sizes = one.starts[:-1], np.diff(one.starts)
    mixed = np.minimum.reduceat(of_rows, starts) != np.maximum.reduceat(of_rows, starts)
    return Buckets(one.rows[np.repeat(mixed, sizes)], np.append(0, np.cumsum(sizes[mixed])))


def _with_first(one: Buckets, clusters: np.ndarray) -> tuple[np.ndarray, int]:
    sizes = np.diff(one.starts)
    firsts = np.repeat(one.rows[one.starts[:-1]], sizes)
    apart = clusters[firsts] != clusters[one.rows]
    return np.stack([firsts[apart], one.rows[apart]], axis=1), 0


def _between_clusters(one: Buckets, clusters: np.ndarray) -> tuple[np.ndarray, int]:
    found = [np.zeros((0, 2), np.int64)]
    bounded = 0
    for start, stop in zip(one.starts[:-1].tolist(), one.starts[1:].tolist(), strict=True):
        rows = one.rows[start:stop]
        if len(rows) > WHOLLY_COMPARED:
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
