"""What failed behaviour checks mean for the gate."""

from tuneline.behaviour.check_results import CheckResult, Expectation
from tuneline.evaluation.intervals import Interval
from tuneline.gate import behaviour_rule
from tuneline.gate.decision import Verdict, decide
from tuneline.gate.next_steps import Situation, next_steps
from tuneline.params import Rule

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
    assert found.rules[-1].reason == "Behaviour checks: 1 of 2 failed: 2 (greets)."
    assert found.as_dict()["rules"][-1]["versus"] == "checks"
    steps = next_steps(found, Situation("hub", 1.0, 1e-3, 5000, 500, {}))
    assert [step.split(".")[0] for step in steps] == [
        "Read in the report what the model answered to the failed behaviour checks"
    ]


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
    assert behaviour_rule.verify([asked]) == (False, "0 of 1 checks passed; failed: 1")


def test_a_reason_holds_no_text_of_the_model() -> None:
    found = combined(5.0, result(1, passed=False))
    assert EVIL not in found.rules[-1].reason
    assert "<" not in found.rules[-1].reason
