"""The names of the splits."""

from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
"""In arrays a split is its index here. Where a group has rows of several splits, the highest index decides."""
