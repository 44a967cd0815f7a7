"""What failed behaviour checks mean for the gate."""

from typing import get_args

from tuneline.behaviour import check_results
from tuneline.behaviour.check_results import CheckResult, Expectation
from tuneline.evaluation.intervals import Interval
from tuneline.gate import behaviour_rule
from tuneline.gate.decision import Verdict, decide
from tuneline.gate.next_steps import Situation, next_steps
from tuneline.params import Rule, Task

EVIL = "<script>alert(1)</script> **bold** \x1b[2J"


def result(number: int, *, passed: bool, severity: str = "error", name: str | None = None) -> CheckResult:
    expected = Expectation("contains “x”", None if passed else f"the answer to “{EVIL}” is “{EVIL}”")
    return CheckResult(number, name, severity, EVIL, EVIL, (expected,))


def verdict(difference: float) -> Verdict:
    rule = Rule.model_validate({"metric": "chrf", "direction": "higher", "versus": "base", "margin": 0.0})
    return decide([rule], {"base": {"chrf": Interval(difference, difference - 1, difference + 1, 100)}})


def combined(difference: float, *results: CheckResult) -> Verdict:
    return behaviour_rule.with_behaviour(verdict(difference), behaviour_rule.decide(results))


def test_a_failed_check_of_severity_error_fails_the_gate() -> None:
    found = combined(5.0, result(1, passed=True), result(2, passed=False, name="greets"))
    assert found.verdict == "failed"
    assert found.rules[-1].reason == "Behaviour checks: 1 of 2 of severity error passed; failed: 2 (greets)."
    assert found.as_dict()["rules"][-1]["versus"] == "checks"
    steps = next_steps(found, Situation("sft", "hub", 1.0, 1e-3, 5000, 500, {}))
    assert [step.split(".")[0] for step in steps] == [
        "Read in the report what the model answered to the failed behaviour checks"
    ]


def test_stage_gate_and_verification_count_alike() -> None:
    results = [
        result(1, passed=True),
        result(2, passed=False),
        result(3, passed=False, severity="warning"),
        result(4, passed=True, severity="warning"),
    ]
    counted = "1 of 2 of severity error and 1 of 2 of severity warning passed"
    decided = behaviour_rule.decide(results)
    assert decided
    assert decided.reason == f"Behaviour checks: {counted}; failed: 2."
    assert check_results.lines(results, "data/checks.yaml")[0] == f"behaviour checks of data/checks.yaml: {counted}"
    assert behaviour_rule.verify(results)[1] == (
        f"{counted}; failed: 2; failed with severity warning, which does not stop a promotion: 3"
    )


def test_the_advice_after_a_failed_check_fits_the_task() -> None:
    found = combined(5.0, result(1, passed=False))
    told = {task: next_steps(found, Situation(task, "hub", 1.0, 1e-3, 5000, 500, {}))[0] for task in get_args(Task)}
    assert {task for task, step in told.items() if "chat template" in step} == {"sft", "preference"}
    assert "or give them another label" in told["classification"]
    assert "on another scale" in told["regression"]


def test_passed_checks_do_not_decide_a_rule() -> None:
    assert combined(5.0, result(1, passed=True)).verdict == "passed"
    assert combined(0.5, result(1, passed=True)).verdict == "undecided"
    assert combined(-5.0, result(1, passed=True)).verdict == "failed"
    assert combined(0.5, result(1, passed=False)).verdict == "failed"


def test_a_failed_check_of_severity_warning_is_a_remark() -> None:
    results = [result(number, passed=False, severity="warning") for number in range(1, 9)]
    assert combined(5.0, *results) == verdict(5.0)
    assert behaviour_rule.remark(results) == ("Behaviour checks of severity warning failed: 1, 2, 3, 4, 5 and 3 more.")
    assert behaviour_rule.remark([result(1, passed=True, severity="warning")]) == ""


def test_a_check_that_could_not_be_asked_has_failed() -> None:
    asked = CheckResult(1, None, "error", "Hello", problem="the chat template refuses it")
    assert combined(5.0, asked).verdict == "failed"
    assert behaviour_rule.verify([asked]) == (False, "0 of 1 of severity error passed; failed: 1")


def test_without_a_check_of_severity_error_nothing_stops_a_promotion_and_that_is_told() -> None:
    results = [result(number, passed=False, severity="warning") for number in (1, 2)]
    assert behaviour_rule.verify(results) == (
        True,
        "there is no check of severity error; 0 of 2 of severity warning passed; failed with severity warning, which "
        "does not stop a promotion: 1, 2",
    )


def test_a_reason_holds_no_text_of_the_model() -> None:
    found = combined(5.0, result(1, passed=False))
    assert EVIL not in found.rules[-1].reason
    assert "<" not in found.rules[-1].reason
