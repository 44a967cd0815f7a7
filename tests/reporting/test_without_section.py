"""The part of the report that compares with the same training without some of its rows."""

from typing import Any

import pytest

from tuneline.decisions import without_rows
from tuneline.decisions.without_rows import Without
from tuneline.evaluation.intervals import Interval
from tuneline.registry import measured
from tuneline.reporting import without_section

METRICS = ("accuracy", "ece")


def of_gate(accuracy: tuple[float, float, float], ece: tuple[float, float, float]) -> dict[str, Any]:
    found = {
        "accuracy": Interval(*accuracy, groups=40),
        "ece": Interval(*ece, groups=40),
        "macro_f1": "it is not defined on these rows",
    }
    one = Without(("pseudo",), {"accuracy": 0.7, "ece": 0.1}, found, 80)
    return {without_rows.KEY: {"plain": one.as_json()}}


@pytest.mark.parametrize(
    ("accuracy", "ece", "said"),
    [
        (
            (0.1, 0.05, 0.15),
            (-0.02, -0.05, 0.01),
            "have helped: the interval is above zero in 1 of 2 metrics.",
        ),
        (
            (-0.1, -0.2, -0.05),
            (0.0, -0.1, 0.1),
            "have harmed: the interval is below zero in 1 of 2 metrics.",
        ),
        (
            (0.1, 0.05, 0.15),
            (0.1, 0.05, 0.15),
            "in 1 metrics and harmed in 1; the other intervals contain zero.",
        ),
        ((0.0, -0.1, 0.1), (0.0, -0.1, 0.1), "is not decided: every interval contains zero."),
    ],
)
def test_a_sentence_says_whether_the_rows_have_helped(accuracy: Any, ece: Any, said: str) -> None:
    gate, evaluation = of_gate(accuracy, ece), {"candidate": {"accuracy": 0.8, "ece": 0.08}}
    [found] = without_section.comparisons(gate, evaluation, {"steps": 120}, METRICS)
    assert found.sentence.endswith(said)
    assert (found.left_out, found.steps, found.candidate_steps) == (("pseudo",), 80, 120)
    assert [(line.metric, line.better) for line in found.lines] == [("accuracy", "candidate"), ("ece", "candidate")]
    # A lower calibration error is an improvement.
    assert [one.difference.value for one in found.strips] == [accuracy[0], -ece[0]]
    assert found.strips[0].difference.versus == "the same training without pseudo"


def test_nothing_is_shown_without_comparisons() -> None:
    assert without_section.comparisons({}, {"candidate": {}}, {}, METRICS) == ()


def test_the_comparison_is_among_the_metrics_of_run_and_version() -> None:
    entries = without_rows.as_evaluation(of_gate((0.1, 0.05, 0.15), (0.0, -0.1, 0.1)))
    metrics = measured.model_metrics({"candidate": {"accuracy": 0.8}} | entries)
    assert metrics["versus_without_plain.accuracy.low"] == 0.05
    assert metrics["without_plain.accuracy"] == 0.7
    assert without_rows.as_evaluation({}) == {}
