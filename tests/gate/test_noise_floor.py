import pytest

from tuneline.evaluation.intervals import Interval
from tuneline.gate.decision import decide
from tuneline.gate.explanation import Counts, explain
from tuneline.gate.noise_floor import NoiseFloor, noise_floor
from tuneline.params import Rule


def rule(*, beyond_twins: bool, margin: float = 0.0, fails_below: float | None = None) -> Rule:
    return Rule(
        metric="accuracy",
        direction="higher",
        versus="champion",
        margin=margin,
        fails_below=fails_below,
        beyond_twins=beyond_twins,
    )


def gain(size: float, half: float = 0.01) -> dict[str, dict[str, Interval]]:
    return {"champion": {"accuracy": Interval(size, size - half, size + half, 300)}}


def test_the_noise_floor_is_the_largest_difference_to_a_twin() -> None:
    twins = [
        {"accuracy": Interval(0.02, 0.01, 0.03, 300), "macro_f1": Interval(0.1, None, None, 3)},
        {"accuracy": Interval(-0.03, -0.04, -0.02, 300), "macro_f1": "it is not defined on these rows"},
    ]
    assert noise_floor(twins) == NoiseFloor(2, {"accuracy": 0.03})
    assert noise_floor([]) == NoiseFloor(0, {})


def test_every_gain_says_how_much_of_it_exceeds_a_twins() -> None:
    noise = NoiseFloor(2, {"accuracy": 0.03})
    [found] = decide([rule(beyond_twins=False)], gain(0.05), noise=noise).rules
    assert found.verdict == "passed"
    assert found.reason.endswith("Of this gain, 0.0200 exceeds the noise floor of 2 twins, 0.0300: the luck of a seed.")
    [small] = decide([rule(beyond_twins=False)], gain(0.02), noise=noise).rules
    assert "Of this gain, nothing exceeds the noise floor" in small.reason
    assert "gain" not in decide([rule(beyond_twins=False)], gain(-0.02), noise=noise).rules[0].reason
    assert "twin" not in decide([rule(beyond_twins=False)], gain(0.05)).rules[0].reason


@pytest.mark.parametrize(
    ("size", "verdict"),
    # The candidate differs from its twins by up to 0.03, and the interval is 0.01 to both sides.
    [(0.05, "passed"), (0.035, "undecided"), (0.025, "undecided"), (0.02, "failed"), (-0.02, "failed")],
)
def test_a_lucky_seed_does_not_pass_a_rule_that_asks_for_more_than_its_twins(size: float, verdict: str) -> None:
    noise = NoiseFloor(2, {"accuracy": 0.03})
    [found] = decide([rule(beyond_twins=True)], gain(size), noise=noise).rules
    assert found.verdict == verdict
    assert "the noise floor of the twins (0.0300)" in found.reason
    # Without the key the lucky seed passes.
    assert decide([rule(beyond_twins=False)], gain(size), noise=noise).verdict == ("passed" if size > 0 else "failed")


def test_the_margin_comes_on_top_and_fails_below_stays() -> None:
    noise = NoiseFloor(1, {"accuracy": 0.03})
    assert decide([rule(beyond_twins=True, margin=0.02)], gain(0.05), noise=noise).verdict == "undecided"
    assert decide([rule(beyond_twins=True, fails_below=-0.05)], gain(0.0), noise=noise).verdict == "undecided"


def test_a_twin_that_was_not_measured_fails_the_rule() -> None:
    [found] = decide([rule(beyond_twins=True)], gain(0.05)).rules
    assert found.verdict == "failed"
    assert found.reason == "Accuracy has no noise floor, because a twin was not measured or has no such number."


@pytest.mark.parametrize(
    ("margin", "named"),
    [
        (-0.02, "the noise floor of the twins with the tolerated loss (−0.02) (0.0100 in all)"),
        (0.02, "the noise floor of the twins with the required gain of 0.02 (0.0500 in all)"),
    ],
)
def test_margin_and_noise_floor_are_told_apart(margin: float, named: str) -> None:
    [found] = decide([rule(beyond_twins=True, margin=margin)], gain(0.2), noise=NoiseFloor(1, {"accuracy": 0.03})).rules
    assert f"the interval is above {named}." in found.reason
    assert found.noise_floor == 0.03


def test_a_gain_that_is_not_stated_is_not_said_to_exceed_anything() -> None:
    few = {"champion": {"accuracy": Interval(0.2, None, None, 6)}}
    [found] = decide([rule(beyond_twins=True)], few, noise=NoiseFloor(1, {"accuracy": 0.03})).rules
    assert "twin" not in found.reason


def test_explain_asks_for_the_noise_floor_too() -> None:
    asked, noise = rule(beyond_twins=True), NoiseFloor(1, {"accuracy": 0.03})
    verdict = decide([asked], gain(0.035), noise=noise)
    [told] = explain([asked], verdict.rules, {"champion": Counts(600, 300)})
    assert (
        "better than the champion, by whatever amount, and beyond the noise floor of the twins (0.0300 in all)" in told
    )
    # 0.03 and 2.8 standard errors of 0.0051.
    assert "an improvement of 0.0443 or more passes" in told
    # Without the noise floor, a gain of 0.035 would need no more rows.
    assert "8.2 times as many test rows, about 4,300 more, would let it pass" in told
