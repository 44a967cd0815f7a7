"""Which of several equal rows stays."""

from tuneline.data.duplicates import representatives


def test_the_first_of_equals_stays_and_a_held_out_one_before_all() -> None:
    assert representatives(["a", "b", "a", "a"], [0, 0, 0, 0]) == [0, 1, 0, 0]
    assert representatives(["a", "b", "a", "a"], [0, 0, 1, 2]) == [3, 1, 3, 3]
    assert representatives([], []) == []
