import pytest

from tuneline.gate import group_sketch


def groups(start: int, stop: int) -> list[str]:
    return [f"group {number}" for number in range(start, stop)]


def test_few_groups_are_counted_exactly_whatever_their_order_and_repetition() -> None:
    one, other = group_sketch.sketch(groups(0, 700)), group_sketch.sketch(groups(500, 1000)[::-1] * 2)
    assert (group_sketch.count(one), group_sketch.count(other)) == (700, 500)
    assert group_sketch.count(group_sketch.union(one, other)) == 1000
    assert group_sketch.count(group_sketch.sketch([])) == 0


def test_many_groups_are_counted_to_a_few_percent() -> None:
    one, other = group_sketch.sketch(groups(0, 60_000)), group_sketch.sketch(groups(40_000, 100_000))
    assert len(one) == group_sketch.KEPT
    assert group_sketch.count(one) == pytest.approx(60_000, rel=0.05)
    both = group_sketch.union(one, other)
    assert group_sketch.count(both) == pytest.approx(100_000, rel=0.05)
    assert both.tolist() == group_sketch.sketch(groups(0, 100_000)).tolist()


def test_a_sketch_is_stored_and_a_damaged_one_is_refused() -> None:
    one = group_sketch.sketch(groups(0, 50))
    assert group_sketch.from_bytes(group_sketch.as_bytes(one)).tolist() == one.tolist()
    for content in (b"123", group_sketch.as_bytes(one[::-1]), group_sketch.as_bytes(one) * 2, b"\0" * 8 * 5000):
        with pytest.raises(ValueError, match=r".+"):
            group_sketch.from_bytes(content)
