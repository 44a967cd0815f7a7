"""Which split a group belongs to: by its hash alone, so that adding data never moves a row out of test."""

import math
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import xxhash

from tuneline.data.preparing.tokenizing import mix

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
