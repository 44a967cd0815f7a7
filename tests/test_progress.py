"""Progress is told by the clock, and never as a speed of nothing."""

import io
import re
import time

import pytest

from tuneline.progress import Progress, duration, progress_line, rate


@pytest.mark.parametrize(
    ("count", "seconds", "text"),
    [
        (191, 1, "191 rows/s"),
        (11_183, 1, "11,200 rows/s"),
        (3, 2, "1.5 rows/s"),
        (2, 60, "2 rows/min"),
        (1, 90, "40 rows/h"),
        (1, 7200, "0.5 rows/h"),
        (1, 0, "1,000,000,000 rows/s"),
    ],
)
def test_a_speed_is_given_in_the_unit_of_time_in_which_it_is_not_zero(count: float, seconds: float, text: str) -> None:
    assert rate(count, seconds, "rows") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (48.2, "48 s"), (59.9, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_long_times_are_given_in_hours(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"done": 0, "total": 200, "seconds": 31}, "answers: 0 of 200 rows, 31 s so far"),
        ({"done": 50, "total": 200, "seconds": 100}, "answers: 50 of 200 rows, 30 rows/min, 5 min 0 s left"),
        (
            {"done": 50, "total": 200, "seconds": 130, "waited": 30},
            "answers: 50 of 200 rows, 30 rows/min, 4 min 30 s left",
        ),
        (
            {"done": 50, "total": 60, "seconds": 200, "waited": 100},
            "answers: 50 of 60 rows, 30 rows/min, nothing new for 1 min 40 s",
        ),
        (
            {"done": 150, "total": 200, "seconds": 50, "start": 100},
            "answers: 150 of 200 rows, 1 rows/s, 50 s left",
        ),
        (
            {"done": 3, "total": 9, "seconds": 3, "note": "loss 2.100"},
            "answers: 3 of 9 rows, loss 2.100, 1 rows/s, 6.0 s left",
        ),
        (
            {"done": 200, "total": 200, "seconds": 100.1, "waited": 0.1},
            "answers: 200 of 200 rows, 2 rows/s, 1 min 40 s so far",
        ),
        (
            {"done": 201, "total": 200, "seconds": 50.1, "waited": 0.1},
            "answers: 201 of 200 rows, 4.0 rows/s, 50 s so far",
        ),
        ({"done": 1, "total": None, "seconds": 10}, "answers: 1 row, 6 rows/min"),
        ({"done": 12_000, "total": None, "seconds": 10}, "answers: 12,000 rows, 1,200 rows/s"),
        (
            {"done": 200, "total": 200, "seconds": 100, "is_last": True},
            "answers: 200 of 200 rows, 2 rows/s, in 1 min 40 s",
        ),
    ],
)
def test_a_line_says_what_is_done_how_fast_and_how_long_it_takes(values: dict, text: str) -> None:
    assert progress_line("answers", "rows", **values) == text


def test_lines_come_while_one_batch_runs() -> None:
    said = io.StringIO()
    with Progress("answers", first=0.02, every=0.1, to=said) as progress:
        time.sleep(0.3)
        progress.update(8, 8)
    lines = said.getvalue().splitlines()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"answers: 0 rows, \d\.\d s so far", text) for text in lines[:-1])
    assert re.fullmatch(r"answers: 8 of 8 rows, [\d.]+ rows/s, in \d\.\d s", lines[-1])


def test_many_quick_batches_are_few_lines() -> None:
    said = io.StringIO()
    with Progress("answers", first=0.0, every=60.0, to=said) as progress:
        for done in range(1000):
            progress.update(done, 1000)
        progress.update(1000, 1000)
    first, last = said.getvalue().splitlines()
    assert first.startswith("answers: 0 ")
    assert last.startswith("answers: 1,000 of 1,000 rows")


def test_short_work_has_a_progress_line_only_with_always() -> None:
    for always, lines in ((False, 0), (True, 1)):
        said = io.StringIO()
        with Progress("answers", always=always, to=said) as progress:
            progress.update(8, 8)
        assert len(said.getvalue().splitlines()) == lines


def test_work_that_fails_has_no_last_progress_line() -> None:
    said = io.StringIO()
    with pytest.raises(ValueError, match="wrong"), Progress("answers", always=True, to=said):
        raise ValueError("wrong")
    assert said.getvalue() == ""
