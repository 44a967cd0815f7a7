"""Spans that answers share with training rows, and what it costs to find them."""

import random
import sys
from types import FrameType
from typing import Any

import pytest

from tuneline.evaluation.probes import copied_text
from tuneline.evaluation.probes.shared_spans import SharedSpans


def longest_end(sequence: str, end: int, others: list[str]) -> int:
    """By trying: the length of the longest span that ends before `end` and occurs."""
    return max(length for length in range(end + 1) if any(sequence[end - length : end] in other for other in others))


def test_the_longest_shared_end_of_every_place_is_found() -> None:
    chosen = random.Random(0)
    for trial in range(150):
        letters = "ab" if trial % 2 else "abcd"
        made = ["".join(chosen.choices(letters, k=chosen.randrange(14))) for _ in range(7)]
        mine, others = made[:3], made[3:]
        spans = SharedSpans(mine)
        for number, other in enumerate(others):
            spans.read(other, number)
        for sequence, ends in zip(mine, spans.ends(), strict=True):
            for end, one in enumerate(ends, 1):
                assert one.length == longest_end(sequence, end, others)
                assert not one.length or sequence[end - one.length : end] in others[one.origin]


@pytest.mark.parametrize("period", [1, 3, 9])
def test_the_steps_grow_with_the_units_where_a_text_repeats_itself(period: int) -> None:
    """Each n-gram of such an answer occurs at all places of such a row."""
    few, many = (lines_run(size, period) for size in (200, 800))
    assert many < 4.5 * few


def lines_run(size: int, period: int) -> int:
    """The lines of this project's code that a search runs, for answers and rows of `size` units."""
    text, count = " ".join(f"word{place % period}" for place in range(size)), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "tuneline" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        [first, _] = copied_text.find_copies([text] * 2, [("a:1", text)] * 2)
    finally:
        sys.settrace(before)
    assert (first.longest, first.source, int(first.copied.sum())) == (size, "a:1", size)
    return count
