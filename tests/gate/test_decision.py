from dataclasses import replace

import pytest

from tuneline.evaluation.intervals import Interval, Measures
from tuneline.gate.decision import decide
from tuneline.params import Rule


def rule(metric: str = "bits_per_byte", versus: str = "base", margin: float = 0.0) -> Rule:
    direction = "higher" if metric == "chrf" else "lower"
    return Rule.model_validate({"metric": metric, "direction": direction, "versus": versus, "margin": margin})


def tolerant(margin: float = 0.0, fails_below: float = -0.05) -> Rule:
    return rule(margin=margin).model_copy(update={"fails_below": fails_below})


def interval(low: float, difference: float, high: float) -> Interval:
    return Interval(difference, low, high, 100)


@pytest.mark.parametrize(
    ("metric", "margin", "measured", "verdict"),
    [
        # Lower is better: a difference below zero is an improvement.
        ("bits_per_byte", 0.0, (-0.5, -0.4, -0.3), "passed"),
        ("bits_per_byte", 0.3, (-0.5, -0.4, -0.3), "undecided"),
        ("bits_per_byte", 0.29, (-0.5, -0.4, -0.3), "passed"),
        ("bits_per_byte", 0.5, (-0.5, -0.4, -0.3), "failed"),
        ("bits_per_byte", 0.0, (-0.1, 0.0, 0.1), "undecided"),
        ("bits_per_byte", 0.0, (0.1, 0.2, 0.3), "failed"),
        ("bits_per_byte", -0.31, (0.1, 0.2, 0.3), "passed"),
        ("bits_per_byte", 0.0, (0.0, 0.0, 0.0), "failed"),
        ("bits_per_byte", -0.01, (0.0, 0.0, 0.0), "passed"),
        ("token_loss", 0.0, (-0.5, -0.4, -0.3), "passed"),
        # Higher is better.
        ("chrf", 0.0, (0.3, 0.4, 0.5), "passed"),
        ("chrf", 0.0, (-0.5, -0.4, -0.3), "failed"),
        ("chrf", 1.0, (0.3, 2.0, 5.0), "undecided"),
        ("chrf", 5.0, (0.3, 2.0, 5.0), "failed"),
    ],
)
def test_a_rule_is_decided_on_the_bounds_of_the_interval(
    metric: str, margin: float, measured: tuple[float, float, float], verdict: str
) -> None:
    found = decide([rule(metric, margin=margin)], {"base": {metric: interval(*measured)}, "champion": None})
    assert found.rules[0].verdict == verdict
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ((-0.03, -0.02, -0.01), "passed"),
        # A candidate that equals its base shows no improvement.
        ((0.0, 0.0, 0.0), "undecided"),
        ((-0.01, 0.0, 0.01), "undecided"),
        ((0.01, 0.02, 0.03), "undecided"),
        ((0.01, 0.04, 0.07), "undecided"),
        ((0.05, 0.06, 0.07), "failed"),
    ],
)
def test_between_better_and_too_much_worse_a_rule_is_undecided(
    measured: tuple[float, float, float], verdict: str
) -> None:
    found = decide([tolerant()], {"base": {"bits_per_byte": interval(*measured)}})
    assert found.verdict == verdict


def test_the_reason_of_a_small_loss_does_not_ask_for_more_rows() -> None:
    [found] = decide([tolerant()], {"base": {"bits_per_byte": interval(0.01, 0.02, 0.03)}}).rules
    assert found.reason == (
        "Bits per byte is worse than the base's by 0.0200 (95 % interval of the improvement −0.0300 to −0.0100); "
        "the interval is not above zero, but reaches above the tolerated loss (−0.05)."
    )
    [failed] = decide([tolerant()], {"base": {"bits_per_byte": interval(0.05, 0.06, 0.07)}}).rules
    assert failed.reason.endswith("the interval is not above the tolerated loss (−0.05).")


@pytest.mark.parametrize(
    ("measured", "end"),
    [
        # The test rows show that it is worse, not by how much.
        (
            (-0.0536, -0.0268, -0.0038),
            "the candidate is worse, because the interval is below zero; whether by more than the tolerated loss "
            "(−0.02) is not decided.",
        ),
        (
            (-0.0536, -0.0268, 0.0),
            "the interval is on both sides of the tolerated loss (−0.02): more test rows are needed to decide.",
        ),
    ],
)
def test_the_reason_says_if_the_candidate_is_surely_worse(measured: tuple[float, float, float], end: str) -> None:
    asked = Rule(metric="accuracy", direction="higher", versus="champion", margin=-0.02)
    [found] = decide([asked], {"champion": {"accuracy": interval(*measured)}}).rules
    assert found.verdict == "undecided"
    assert found.reason.endswith(f"; {end}")


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        ((0.0, 0.0, 0.0), "is the same as the base's (95 % interval of the improvement exactly 0)"),
        ((-0.04, 0.01, 0.0), "is better than the base's by 0.0100 (95 % interval of the improvement −0.0400 to 0)"),
        (
            (-0.00002, 0.00001, 0.00004),
            "is the same as the base's (95 % interval of the improvement −0.00002 to +0.00004)",
        ),
        ((-0.00004, 0.01, 0.02), "is better than the base's by 0.0100 (95 % interval of the improvement −0.00004 to +"),
    ],
)
def test_the_bounds_of_an_interval_show_their_sign(measured: tuple[float, float, float], shown: str) -> None:
    asked = Rule(metric="accuracy", direction="higher", versus="base", margin=0.0)
    [found] = decide([asked], {"base": {"accuracy": interval(*measured)}}).rules
    assert shown in found.reason


def test_an_improvement_is_positive_for_every_metric() -> None:
    measures: Measures = {"bits_per_byte": interval(-0.5, -0.4, -0.2), "chrf": interval(0.2, 0.4, 0.5)}
    found = decide([rule(), rule("chrf")], {"base": measures, "champion": None})
    assert [(one.improvement, one.low, one.high) for one in found.rules] == [(0.4, 0.2, 0.5), (0.4, 0.2, 0.5)]


def test_without_a_champion_its_rules_do_not_apply() -> None:
    measures: Measures = {"bits_per_byte": interval(-0.5, -0.4, -0.2)}
    found = decide([rule(), rule(versus="champion")], {"base": measures, "champion": None})
    assert found.verdict == "passed"
    assert [one.verdict for one in found.rules] == ["passed", "not applicable"]
    assert found.rules[1].reason == "Bits per byte is not compared: no champion exists yet."


def test_a_rule_fails_if_its_metric_could_not_be_measured() -> None:
    measures: Measures = {"token_loss": "their tokenizers cut the rows differently"}
    found = decide([rule("token_loss"), rule("chrf")], {"base": measures})
    assert [one.verdict for one in found.rules] == ["failed", "failed"]
    assert found.rules[0].reason == (
        "Token loss could not be compared with the base: their tokenizers cut the rows differently."
    )
    assert found.rules[1].reason == "chrF could not be compared with the base: it was not measured."


def test_too_few_groups_are_undecided() -> None:
    found = decide([rule()], {"base": {"bits_per_byte": Interval(-0.4, None, None, 3)}})
    assert found.verdict == "undecided"
    assert "3 independent groups of test rows are too few" in found.rules[0].reason


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ([-1.0, -1.0], "passed"),
        ([-1.0, 0.0], "undecided"),
        ([-1.0, 1.0], "failed"),
        ([0.0, 1.0], "failed"),
    ],
)
def test_a_failed_rule_fails_the_gate_and_an_undecided_rule_leaves_it_undecided(
    changes: list[float], verdict: str
) -> None:
    names = ["bits_per_byte", "token_loss"]
    measures: Measures = {
        name: interval(change - 0.1, change, change + 0.1) for name, change in zip(names, changes, strict=True)
    }
    assert decide([rule(name) for name in names], {"base": measures}).verdict == verdict


def test_reasons_are_sentences_with_numbers() -> None:
    measures: Measures = {"bits_per_byte": interval(-0.5, -0.41236, -0.3), "chrf": interval(-1.0, 0.5, 2.0)}
    rules = [rule(), rule("chrf"), rule(versus="champion", margin=-0.01)]
    found = decide(rules, {"base": measures, "champion": {"bits_per_byte": interval(0.02, 0.03, 0.04)}})
    assert [one.reason for one in found.rules] == [
        "Bits per byte is better than the base's by 0.4124 (95 % interval of the improvement +0.3000 to +0.5000); "
        "the interval is above zero.",
        "chrF is better than the base's by 0.50 (95 % interval of the improvement −1.00 to +2.00); "
        "the interval is on both sides of zero: more test rows are needed to decide.",
        "Bits per byte is worse than the champion's by 0.0300 (95 % interval of the improvement −0.0400 to −0.0200); "
        "the interval is not above the tolerated loss (−0.01).",
    ]


def test_baselines_and_values_are_rules_like_others() -> None:
    rules = [
        Rule(metric="accuracy", direction="higher", versus="baseline", margin=0.0),
        Rule(metric="macro_f1", direction="higher", versus="value", value=0.8, margin=0.0),
        Rule(metric="recall:spam", direction="higher", versus="value", value=0.9, margin=0.0),
        Rule(metric="recall:ham", direction="higher", versus="baseline", margin=0.0),
    ]
    found = decide(
        rules,
        {
            "baseline": {"accuracy": replace(interval(0.01, 0.02, 0.03), other="tfidf")},
            "value": {"macro_f1": interval(0.78, 0.81, 0.84), "recall:spam": interval(0.5, 0.6, 0.7)},
        },
    )
    assert [one.verdict for one in found.rules] == ["passed", "undecided", "failed", "failed"]
    assert [one.reason for one in found.rules] == [
        "Accuracy is better than that of the best baseline (TF-IDF) by 0.0200 (95 % interval of the improvement "
        "+0.0100 to +0.0300); the interval is above zero.",
        "Macro F1 is better than the required 0.8 by 0.0100 (95 % interval of the improvement −0.0200 to +0.0400); "
        "the interval is on both sides of zero: more test rows are needed to decide.",
        "Recall of “spam” is worse than the required 0.9 by 0.3000 (95 % interval of the improvement −0.4000 to "
        "−0.2000); the interval is not above zero.",
        "Recall of “ham” could not be compared with the baseline: it was not measured.",
    ]
    assert found.as_dict()["rules"][1]["value"] == 0.8


def test_a_rule_can_limit_an_error_by_a_value() -> None:
    rule = Rule(metric="rmse", direction="lower", versus="value", value=1.0, margin=0.0)
    found = decide([rule], {"value": {"rmse": interval(0.5, 0.6, 0.7)}})
    assert (found.rules[0].improvement, found.rules[0].low, found.rules[0].high) == pytest.approx((0.4, 0.3, 0.5))
    assert found.verdict == "passed"


@pytest.mark.parametrize(
    ("measured", "verdict", "end"),
    [
        ((0.02, 0.10, 0.18), "undecided", "at the 99.17 % of this comparison the interval begins at −0.0077, which is"),
        ((0.04, 0.10, 0.16), "passed", "the interval is above zero, also at the 99.17 % of this comparison."),
        # A rule fails as ever.
        ((-0.18, -0.10, -0.02), "failed", "the interval is not above zero."),
        (
            (-0.02, 0.10, 0.22),
            "undecided",
            "the interval is on both sides of zero: more test rows are needed to decide.",
        ),
    ],
)
def test_a_comparison_with_the_champion_passes_at_its_level(
    measured: tuple[float, float, float], verdict: str, end: str
) -> None:
    rules = [
        Rule(metric="accuracy", direction="higher", versus="champion", margin=0.0),
        Rule(metric="accuracy", direction="higher", versus="baseline", margin=0.0),
    ]
    both = {"accuracy": interval(*measured)}
    found = decide(rules, {"champion": both, "baseline": both}, level=0.05 / 12)
    assert found.rules[0].verdict == verdict
    assert end in found.rules[0].reason
    ordinary = decide(rules, {"champion": both, "baseline": both})
    assert found.rules[1] == ordinary.rules[1]
    assert (ordinary.rules[0].level, ordinary.rules[0].bound) == (None, None)
    if verdict != "failed":
        assert found.rules[0].bound == pytest.approx(0.10 - (0.10 - measured[0]) * 2.6383 / 1.95996, abs=1e-4)


def test_the_level_holds_for_metrics_of_which_less_is_better() -> None:
    asked = rule(versus="champion")
    found = decide([asked], {"champion": {"bits_per_byte": interval(-0.18, -0.10, -0.02)}}, level=0.05 / 12)
    assert found.rules[0].verdict == "undecided"
    assert found.rules[0].bound == pytest.approx(-0.0077, abs=1e-4)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_a_finite_number_fails(number: float, place: int) -> None:
    numbers = [0.3, 0.4, 0.5]
    numbers[place] = number
    [found] = decide([rule("chrf")], {"base": {"chrf": interval(*numbers)}}).rules
    assert found.verdict == "failed"
    assert found.reason == "chrF could not be compared with the base: the difference is not a finite number."


@pytest.mark.parametrize("versus", ["base", "baseline"])
def test_only_a_champion_may_be_absent(versus: str) -> None:
    asked = [rule(), rule("chrf", versus=versus)]
    found = decide(asked, {"base": {"bits_per_byte": interval(-0.5, -0.4, -0.2)}, "champion": None})
    assert found.verdict == "failed"
    assert found.rules[1].reason.endswith("it was not measured.")


def test_a_gate_without_a_rule_that_applies_has_not_passed() -> None:
    assert decide([], {}).verdict == "undecided"
    assert decide([rule(versus="champion")], {"champion": None}).verdict == "undecided"
