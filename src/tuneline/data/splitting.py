"""Which split a group belongs to: by its hash alone, so that adding data never moves a row out of test."""

import hashlib
from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def split_of(group: str, *, validation: float, test: float, seed: int) -> SplitName:
    """The split of a group.

    Args:
        group: what the rows have in common.
        validation: share of the groups.
        test: share of the groups; which groups are test does not depend on `validation`.
        seed: another one gives another split.

    Returns:
        The name of the split.
    """
    number = int.from_bytes(hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()) / 2**64
    if number < test:
        return "test"
    return "validation" if number < test + validation else "train"
