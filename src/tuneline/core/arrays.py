"""Functions of NumPy arrays by sorting: `np.unique` and `np.isin` of NumPy 2.3 use a hash table, 50 times slower."""

import numpy as np


def distinct(values: np.ndarray) -> np.ndarray:
    """Each value once, in ascending order."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of `values`, whether `others` has it; bool, of the length of `values`."""
    if not len(others):
        return np.zeros(len(values), bool)
    ordered = np.sort(others)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def mix(hashes: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 hashes in place (splitmix64), and return them."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes
