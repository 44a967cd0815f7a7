"""A small sketch of a set of groups of test rows, which tells how many different groups several sets have together.

It holds the smallest hashes of the set. Up to `KEPT` groups it is exact; above, the count is estimated from the largest
hash that is kept, with a standard error of 1.6 % (Beyer et al. 2007, "On synopses for distinct-value estimation under
multiset operations", SIGMOD). The hashes say nothing about the text of a row to a reader who does not have the row.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

KEPT = 4096
_LARGEST = 2.0**64


def sketch(groups: Iterable[str]) -> np.ndarray:
    """The sketch of some groups, which may repeat: ascending uint64."""
    hashes = [hashlib.sha256(group.encode()).digest()[:8] for group in set(groups)]
    return np.sort(np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64))[:KEPT]


def union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sketch of the groups that are in one of two sets."""
    return np.union1d(one, other)[:KEPT]


def count(sketched: np.ndarray) -> int:
    """How many different groups a sketch stands for."""
    if len(sketched) < KEPT:
        return len(sketched)
    return round((KEPT - 1) * _LARGEST / float(sketched[-1]))


def as_bytes(sketched: np.ndarray) -> bytes:
    """The sketch for a file."""
    return sketched.astype("<u8").tobytes()


def from_bytes(content: bytes) -> np.ndarray:
    """What `as_bytes` returned.

    Raises:
        ValueError: no sketch has these bytes.
    """
    found = np.frombuffer(content, "<u8").astype(np.uint64)
    if len(found) > KEPT or (np.diff(found.astype(object)) <= 0).any():
        raise ValueError("is not a sketch of groups")
    return found
