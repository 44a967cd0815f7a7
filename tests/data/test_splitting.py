"""The split of a group is its own, whatever else is in the data."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.preparing.splitting import split_of


def test_splits_are_those_of_every_machine_and_version() -> None:
    splits = [split_of(f"module{n}", validation=0.1, test=0.2, seed=0) for n in range(7, 12)]
    assert splits == ["train", "test", "train", "validation", "train"]


def test_shares() -> None:
    counts = Counter(split_of(str(n), validation=0.05, test=0.1, seed=1) for n in range(20_000))
    assert abs(counts["test"] - 2000) < 130
    assert abs(counts["validation"] - 1000) < 100


@given(st.text(), st.floats(0.01, 0.49), st.floats(0.01, 0.49))
def test_the_share_of_validation_moves_no_group_out_of_test(group: str, one: float, other: float) -> None:
    splits = {split_of(group, validation=share, test=0.1, seed=0) for share in (one, other)}
    assert len({split == "test" for split in splits}) == 1
