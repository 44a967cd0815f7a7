"""The split of a group does not depend on other rows."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from preparing import split_of

from tuneline.data.preparing.splits import by_hash, with_every_label


def test_splits_by_hash_are_the_same_on_every_machine() -> None:
    splits = [split_of(f"module{n}", validation=0.1, test=0.2, seed=0) for n in range(7, 12)]
    assert splits == ["train", "test", "train", "validation", "train"]


def test_splits_have_their_shares_of_groups() -> None:
    counts = Counter(split_of(str(n), validation=0.05, test=0.1, seed=1) for n in range(20_000))
    assert abs(counts["test"] - 2000) < 130
    assert abs(counts["validation"] - 1000) < 100


@given(st.text(), st.floats(0.01, 0.49), st.floats(0.01, 0.49))
def test_the_share_of_validation_moves_no_group_out_of_test(group: str, one: float, other: float) -> None:
    splits = {split_of(group, validation=share, test=0.1, seed=0) for share in (one, other)}
    assert len({split == "test" for split in splits}) == 1


def divided(labels: list[str], numbers: list[float], groups: list[int] | None = None) -> list[int]:
    """The splits of rows, test 0.1 and validation 0.2, when every label is to be represented."""
    rows = np.array(labels)
    own = np.array(groups if groups is not None else range(len(labels)), np.uint64)
    drawn = (np.array(numbers) * 2.0**64).astype(np.uint64)
    drawn_splits = by_hash(drawn, validation=0.2, test=0.1)
    of_labels = [np.flatnonzero(rows == label) for label in sorted(set(labels))]
    return with_every_label(drawn_splits, own, drawn, of_labels, {2: 0.1, 1: 0.2}).tolist()


def test_a_label_with_enough_groups_is_in_every_split() -> None:
    # Ten groups, of which the hash holds out none: the lowest number is tested, the next of the first five validates.
    numbers = [0.9, 0.5, 0.6, 0.7, 0.8, 0.55, 0.35, 0.95, 0.85, 0.75]
    assert divided(["a"] * 10, numbers) == [0, 1, 0, 0, 0, 0, 2, 0, 0, 0]
    # Of nine groups a tenth is less than one, and of four a fifth.
    assert divided(["a"] * 9, numbers[:9]) == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0][:9]
    assert divided(["a"] * 4, numbers[:4]) == [0, 0, 0, 0]
    # Where the hash has put one there, nothing moves.
    assert divided(["a"] * 10, [0.05, 0.2, *numbers[2:]]) == [2, 1, *[0] * 8]


def test_a_complete_group_moves_with_its_label() -> None:
    numbers = [0.5, 0.5, *[0.6 + n / 50 for n in range(9)]]
    splits = divided(["a", "b", *["a"] * 9], numbers, [0, 0, *range(1, 10)])
    assert splits[:2] == [2, 2]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.999)), min_size=1, max_size=60), st.integers(1, 60))
def test_appended_rows_move_no_held_out_row(rows: list[tuple[str, float]], first: int) -> None:
    labels, numbers = [row[0] for row in rows], [row[1] for row in rows]
    before, after = divided(labels[:first], numbers[:first]), divided(labels, numbers)
    assert all(old in (0, new) for old, new in zip(before, after, strict=False))
