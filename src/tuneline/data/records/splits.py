"""Which split a group belongs to: by its hash alone, so that adding data never moves a row out of test."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import xxhash

from tuneline.core.arrays import mix

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
"""In arrays a split is its index here; the higher one wins where a group or a cluster has rows of several."""


def group_of(text: str) -> int:
    """The hash of what a group has in common, below 2**64."""
    return xxhash.xxh3_64_intdigest(text.encode())


def numbers_of(groups: np.ndarray, seed: int) -> np.ndarray:
    """The numbers of groups, in [0, 2**64): the lowest ones are test, the next validation.

    Args:
        groups: uint64, from `group_of`.
        seed: another one gives another split.

    Returns:
        uint64.
    """
    return mix(groups ^ np.uint64(xxhash.xxh3_64_intdigest(str(seed).encode())))


def splits_of(numbers: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """The splits of groups.

    Args:
        numbers: uint64, from `numbers_of`.
        validation: share of the groups.
        test: share of the groups; which groups are test does not depend on `validation`.

    Returns:
        int8, indices of SPLITS.
    """
    shares = numbers / 2.0**64
    return np.where(shares < test, 2, np.where(shares < test + validation, 1, 0)).astype(np.int8)


def split_of(group: str, *, validation: float, test: float, seed: int) -> SplitName:
    """The split of one group; arguments as of `splits_of` and `numbers_of`."""
    numbers = numbers_of(np.array([group_of(group)], np.uint64), seed)
    return SPLITS[splits_of(numbers, validation=validation, test=test)[0]]


def with_every_label(
    splits: np.ndarray,
    groups: np.ndarray,
    numbers: np.ndarray,
    labels: Iterable[np.ndarray],
    shares: Mapping[int, float],
) -> np.ndarray:
    """The splits, in which every label that has enough groups is represented.

    Of the first groups of a label, as many as its share of a split comes to one of, one is in that split: where the
    hash has put none there, that of the lowest number goes there. Which groups come first does not change when rows are
    added behind the others, so that nothing held out moves then. Did a rule look at all groups of a label, the next row
    could take the place of one that is held out.

    Args:
        splits: [rows] indices of SPLITS, by the hash of the groups.
        groups: [rows]
        numbers: [rows] of the groups, from `numbers_of`.
        labels: of each label the rows that have it and are to be split so, rising.
        shares: index of a split -> its share of the groups; the splits are filled in this order.

    Returns:
        int8, [rows]; whole groups have moved, from train only.
    """
    found = splits.astype(np.int8)
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    of_labels = [rows[np.sort(np.unique(groups[rows], return_index=True)[1])] for rows in labels]
    for split, share in shares.items():
        needed = math.ceil(1 / share)
        before = found.copy()
        for heads in of_labels:
            first = heads[:needed]
            in_train = first[before[first] == 0]
            if len(first) < needed or (before[first] == split).any() or np.count_nonzero(before[heads] == 0) < 2:
                continue
            group = groups[in_train[np.argmin(numbers[in_train])]]
            found[order[np.searchsorted(ordered, group) : np.searchsorted(ordered, group, "right")]] = split
    return found


def by_order(values: np.ndarray, groups: np.ndarray, *, validation_from: float, test_from: float) -> np.ndarray:
    """The splits of rows by time, or another order: the newest are test.

    Args:
        values: [rows] from `order_of`.
        groups: [rows] equal for the rows of one group, which go where its newest row goes.
        validation_from: first value of validation.
        test_from: first value of test.

    Returns:
        int8, indices of SPLITS.
    """
    rows = np.where(values >= test_from, 2, np.where(values >= validation_from, 1, 0)).astype(np.int8)
    _, group = np.unique(groups, return_inverse=True)
    newest = np.zeros(group.max(initial=-1) + 1, np.int8)
    np.maximum.at(newest, group, rows)
    return newest[group]


def order_of(value: str) -> tuple[Literal["number", "date"], float] | None:
    """A value by which rows are ordered.

    Args:
        value: a number, or a date (with or without a time) as ISO 8601 writes it; without a zone it is UTC.

    Returns:
        Its kind, and the number or the seconds since 1970; None where it is neither.
    """
    try:
        number = float(value)
    except ValueError:
        try:
            time = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        return "date", (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return ("number", number) if math.isfinite(number) else None
