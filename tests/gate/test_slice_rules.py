from typing import Any

import numpy as np
import pytest
from scipy import stats

from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.slices import Slice, SlicedColumn
from tuneline.gate.decision import Decision, Verdict, decide
from tuneline.gate.explanation import explain, times_as_many_rows
from tuneline.gate.slice_rules import holm
from tuneline.params import Rule

GOOD, BAD, VERY_BAD = (0.01, 0.02, 0.03), (-0.0404, -0.02, -0.0004), (-0.3, -0.2, -0.1)


def rule(slice_: str, **more: Any) -> Rule:
    values = {"metric": "accuracy", "direction": "higher", "versus": "champion", "margin": 0.0, "slice": slice_}
    return Rule.model_validate(values | more)


def part(value: str | None, measured: tuple[float, float, float] | str | int, rows: int = 100) -> Slice:
    if isinstance(measured, tuple):
        low, difference, high = measured
        one: Interval | str = Interval(difference, low, high, rows)
    else:
        one = measured if isinstance(measured, str) else Interval(0.5, None, None, measured)
    return Slice(value, rows, rows, {}, {"champion": {"accuracy": one}, "base": {"accuracy": one}})


def sliced(*parts: Slice, few: dict[str, tuple[int, int]] | None = None) -> dict[str, SlicedColumn]:
    few = few or {}
    return {"language": SlicedColumn(parts, len([one for one in parts if one.value is not None]) + len(few), few)}


def decided(rules: list[Rule], columns: dict[str, SlicedColumn] | None, whole: Measures | None = None) -> Verdict:
    slices = {} if columns is None else {"champion": columns, "base": columns}
    return decide(rules, {"champion": {} if columns else whole}, slices=slices)


def only(rules: list[Rule], columns: dict[str, SlicedColumn] | None, whole: Measures | None = None) -> Decision:
    return decided(rules, columns, whole).rules[0]


@pytest.mark.parametrize(("measured", "verdict"), [(GOOD, "passed"), (BAD, "failed"), ((-0.1, 0.0, 0.1), "undecided")])
def test_a_rule_about_one_slice_is_decided_like_a_rule_about_all_rows(
    measured: tuple[float, float, float], verdict: str
) -> None:
    found = only([rule("language=zh")], sliced(part("zh", measured), part("en", GOOD)))
    assert found.verdict == verdict
    assert found.slice == "language=zh"
    assert found.reason.startswith("Accuracy on language=zh is ")


def test_one_broken_slice_fails_a_rule_about_every_slice() -> None:
    found = only([rule("language")], sliced(part("en", GOOD), part("zh", VERY_BAD), part("de", GOOD)))
    assert found.verdict == "failed"
    assert (found.low, found.high) == (-0.3, -0.1)
    assert found.slice == "language"
    assert found.reason == (
        "Accuracy on language=zh is worse than the champion's by 0.2000 (95 % interval of the improvement −0.3000 to "
        "−0.1000); the interval is not above zero. This holds after Holm's correction for 3 slices."
    )


def test_a_slice_that_fails_alone_is_undecided_among_many() -> None:
    assert only([rule("language")], sliced(part("zh", BAD))).verdict == "failed"
    found = only([rule("language")], sliced(part("zh", BAD), *(part(str(at), GOOD) for at in range(5))))
    assert found.verdict == "undecided"
    assert found.reason.endswith("Among 6 slices this may be chance: after Holm's correction it is not decided.")


def test_a_slice_that_may_be_worse_by_chance_needs_more_rows_to_fail() -> None:
    one = rule("language")
    found = only([one], sliced(part("zh", BAD), *(part(str(at), GOOD) for at in range(39))))
    assert found.verdict == "undecided"
    # At 2.5 % / 40, with a standard error of 0.0102 and an improvement of -0.02.
    needed = (stats.norm.isf(0.025 / 40) + stats.norm.isf(0.2)) * 0.0102 / 0.02
    assert times_as_many_rows(one, found) == pytest.approx(needed**2, rel=0.01)
    assert "4.3 times as many test rows would let it fail" in explain([one], [found], {})[0]


def test_rules_about_single_slices_are_corrected_together() -> None:
    columns = sliced(part("zh", BAD), *(part(str(at), GOOD) for at in range(5)))
    one_by_one = [rule("language=zh"), *(rule(f"language={at}") for at in range(5))]
    assert [one.verdict for one in decided(one_by_one, columns).rules] == ["undecided", *["passed"] * 5]


def test_every_slice_passes() -> None:
    found = only([rule("language")], sliced(part("zh", GOOD), part("en", (0.1, 0.2, 0.3))))
    assert found.verdict == "passed"
    assert found.reason.startswith(
        "Each of 2 slices passes; the narrowest of them: Accuracy on language=zh is better than"
    )


def test_the_rest_counts_if_it_has_an_interval() -> None:
    few = {"he": (3, 3), "el": (3, 3)}
    found = only([rule("language")], sliced(part("en", GOOD), part(None, VERY_BAD), few=few))
    assert found.reason.startswith("Accuracy on the 2 other values of language is worse")
    assert only([rule("language")], sliced(part("en", GOOD), part(None, 3), few=few)).verdict == "passed"


@pytest.mark.parametrize(
    ("slice_", "verdict", "reason"),
    [
        (
            "language=he",
            "undecided",
            "Accuracy on language=he cannot be decided: 1 independent groups",
        ),
        (
            "language=eng",
            "failed",
            "with the champion: no test row has this value; the closest is en.",
        ),
        ("language=big", "failed", "it has 30 test rows, and only the 20 values with most rows are measured apart."),
        ("shop=a", "failed", "the test rows were not cut into these slices; run `make run`, which evaluates again."),
        ("language=", "failed", "Accuracy on language= (rows without a value) could not be compared"),
    ],
)
def test_a_slice_that_is_not_there_is_never_passed(slice_: str, verdict: str, reason: str) -> None:
    found = only([rule(slice_)], sliced(part("en", GOOD), few={"he": (1, 1), "big": (30, 30)}))
    assert found.verdict == verdict
    assert reason in found.reason
    assert found.improvement is None


def test_secrets_of_a_column_are_not_in_the_reasons() -> None:
    columns = sliced(part("ann@firm.de", VERY_BAD), part("en", GOOD), few={"bob@firm.de": (3, 3)})
    reasons = [only([rule(slice_)], columns).reason for slice_ in ("language", "language=xx")]
    assert "on language=<EMAIL> is worse" in reasons[0]
    assert "the values are <EMAIL>, en, <EMAIL>" in reasons[1]


def test_no_slice_is_large_enough() -> None:
    found = only([rule("language")], sliced(part(None, 9), few={"he": (9, 9)}))
    assert found.verdict == "failed"
    assert "none of the 1 values of language has enough test rows for an interval" in found.reason


def test_a_champion_that_is_absent_or_broken() -> None:
    assert only([rule("language=zh")], None).verdict == "not applicable"
    found = only([rule("language=zh")], None, {"accuracy": "version 3 is broken: a file is missing"})
    assert found.verdict == "failed"
    assert found.reason == (
        "Accuracy on language=zh could not be compared with the champion: version 3 is broken: a file is missing."
    )


def test_holm_rejects_step_by_step() -> None:
    # The example of Holm (1979), at 5 %: 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2.
    assert holm([0.04, 0.01, 0.03, 0.015], 0.05) == [1, 3]
    assert holm([], 0.05) == []
    assert holm([0.2], 0.05) == []


def test_slices_that_are_good_enough_fail_in_at_most_a_few_percent_of_months() -> None:
    """Of 20 slices without any difference, a rule about each by itself would fail in 40 % of all months."""
    random = np.random.default_rng(5)
    failed = naive = 0
    for _ in range(400):
        means = random.normal(0, 0.01, 20)
        half = 0.01 * stats.norm.ppf(0.975)
        parts = [part(str(at), (mean - half, mean, mean + half)) for at, mean in enumerate(means.tolist())]
        failed += only([rule("language")], sliced(*parts)).verdict == "failed"
        naive += bool((means + half <= 0).any())
    assert naive / 400 > 0.3
    assert failed / 400 < 0.05
