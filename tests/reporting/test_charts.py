from dataclasses import replace
from pathlib import Path

import pytest

from tuneline.errors import UnreadableFileError
from tuneline.reporting import charts, comparison_section, curves
from tuneline.reporting.charts import Difference


def difference(low: float, value: float, high: float, margin: float | None = None) -> Difference:
    return Difference("chrf", "base", value, low, high, margin)


def test_zero_is_at_the_same_place_in_every_strip() -> None:
    drawn = charts.strips([difference(0.01, 0.02, 0.04), difference(-5.0, 5.0, 10.0), difference(-0.2, -0.1, 0.1)])
    assert {strip.zero for strip in drawn} == {50.0}
    assert [(strip.low, strip.value, strip.high) for strip in drawn] == [
        (61.0, 72.0, 94.0),
        (28.0, 72.0, 94.0),
        (6.0, 28.0, 72.0),
    ]
    assert [strip.state for strip in drawn] == ["better", "unsure", "unsure"]


def test_a_rule_gives_the_colour_of_its_verdict() -> None:
    passed = replace(difference(-0.2, 0.1, 0.3, margin=-0.5), verdict="passed")
    skipped = replace(passed, verdict="not applicable")
    assert [strip.tone for strip in charts.strips([passed, skipped])] == ["passed", "unsure"]


def test_differences_of_one_metric_can_have_the_same_scale() -> None:
    drawn = charts.strips([difference(0.5, 1.0, 2.0), difference(-4.0, -2.0, 0.0)], common_scale=True)
    assert [(strip.low, strip.zero, strip.high) for strip in drawn] == [(72.0, 64.67, 94.0), (6.0, 64.67, 64.67)]


def test_a_margin_is_drawn_inside_the_picture() -> None:
    [strip] = charts.strips([difference(0.1, 0.2, 0.3, margin=-0.6)])
    assert strip.margin == 6.0
    assert strip.zero == pytest.approx(64.67)
    assert charts.strips([difference(0.1, 0.2, 0.3, margin=0.0)])[0].margin is None


def test_a_difference_of_zero_can_be_drawn() -> None:
    [strip] = charts.strips([difference(0.0, 0.0, 0.0)])
    assert (strip.low, strip.value, strip.high, strip.state) == (50.0, 50.0, 50.0, "unsure")
    assert charts.strips([]) == []


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 1500, [0, 500, 1000, 1500]),
        (10, 480, [200, 400]),
        (2.13, 7.8, [4, 6]),
        (0.001, 0.0042, [0.001, 0.002, 0.003, 0.004]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(first: float, last: float, expected: list[float]) -> None:
    assert charts.ticks(first, last) == pytest.approx(expected)


def test_a_curve_falls_from_the_left_top_to_the_right_bottom() -> None:
    curve = charts.curve([(10, 4.0), (20, 3.0), (30, 2.0)], [(30, 2.5)])
    assert curve is not None
    assert curve.raw == "0,6 50,50 100,94"
    assert curve.held_out == ((100.0, 72.0),)
    assert (curve.last, curve.last_held_out) == (2.0, 2.5)


def test_the_step_from_which_the_losses_part_is_marked() -> None:
    curve = charts.curve([(10, 4.0), (1210, 3.0), (2410, 2.0)], [(1210, 2.5), (2410, 3.5)], mark=1210)
    assert curve is not None
    assert curve.mark == charts.Tick(50.0, "1,210")
    unmarked = charts.curve([(10, 4.0), (20, 3.0)])
    assert unmarked is not None
    assert unmarked.mark is None


@pytest.mark.parametrize("points", [[], [(10, 4.0)]])
def test_fewer_than_two_points_are_not_a_curve(points: list[tuple[float, float]]) -> None:
    assert charts.curve(points) is None


def test_a_flat_curve_is_in_the_middle() -> None:
    curve = charts.curve([(1, 2.0), (2, 2.0)])
    assert curve is not None
    assert curve.raw == "0,50 100,50"


def test_the_smoothed_curve_does_not_lag() -> None:
    line = [(float(step), 100.0 - step) for step in range(101)]
    curve = charts.curve(line)
    assert curve is not None
    assert curve.smooth == curve.raw


def test_a_curve_of_few_steps_labels_each_step_once() -> None:
    drawn = charts.curve([(1.0, 3.0), (2.0, 2.9)])
    assert drawn is not None
    assert [tick.label for tick in drawn.x] == ["1", "2"]


@pytest.mark.parametrize("text", ["step,loss\n1,0.5\nx", "loss\n1", "step,loss\n1,2,3", "s\0"])
def test_a_damaged_table_of_steps_is_an_error_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "training.csv"
    path.write_text(text)
    with pytest.raises(UnreadableFileError, match=r"training\.csv: is not a table of steps"):
        curves.read(path)


@pytest.mark.parametrize(("level", "confidence"), [(None, ""), (0.025 / 6, "99.17 %")])
def test_a_rule_that_another_interval_decides_names_it(level: float | None, confidence: str) -> None:
    rule = {"metric": "chrf", "versus": "champion", "improvement": 1.0, "low": 0.5, "high": 1.5, "margin": 0.0}
    [found] = comparison_section.differences({}, [rule | {"verdict": "undecided", "level": level}])
    assert found.confidence == confidence
