"""The rule that is always there: every behaviour check of severity error passes."""

from collections.abc import Sequence

from tuneline.behaviour.check_results import CheckResult, counts, failed
from tuneline.gate.decision import Decision, RuleVerdict, Verdict

BEHAVIOUR = "behaviour"
"""The metric of this rule's decision."""
CHECKS = "checks"
"""What it is compared with."""
_NAMED = 5


def decide(results: Sequence[CheckResult]) -> Decision | None:
    """The decision about the results of all checks; None where there is no check of severity error.

    The reason names checks by number and name. It has no answer of the model, because it is shown in Markdown too.
    """
    if all(result.severity != "error" for result in results):
        return None
    wrong = failed(results, "error")
    if wrong:
        return unmade(f"{counts(results)}; failed: {_titles(wrong)}")
    return _decision("passed", counts(results))


def unmade(reason: str) -> Decision:
    """The decision where the checks have failed or could not be made.

    Args:
        reason: why, in words without a full stop.
    """
    return _decision("failed", reason)


def with_behaviour(verdict: Verdict, decision: Decision | None) -> Verdict:
    """The verdict on rules and checks: passed checks show nothing about the rules, so only a failure changes it."""
    if decision is None:
        return verdict
    return Verdict("failed" if decision.verdict == "failed" else verdict.verdict, (*verdict.rules, decision))


def verify(results: Sequence[CheckResult]) -> tuple[bool, str]:
    """Whether no check of severity error has failed, and what was found, in words; at least one result."""
    wrong, warned = failed(results, "error"), failed(results, "warning")
    found = counts(results) + (f"; failed: {_titles(wrong)}" if wrong else "")
    if all(result.severity != "error" for result in results):
        found = f"there is no check of severity error; {found}"
    told = f"; failed with severity warning, which does not stop a promotion: {_titles(warned)}" if warned else ""
    return not wrong, found + told


def remark(results: Sequence[CheckResult]) -> str:
    """A sentence about failed checks of severity warning; empty where there are none."""
    wrong = failed(results, "warning")
    return f"Behaviour checks of severity warning failed: {_titles(wrong)}." if wrong else ""


def _decision(verdict: RuleVerdict, reason: str) -> Decision:
    return Decision(BEHAVIOUR, "higher", CHECKS, 0.0, None, None, None, verdict, f"Behaviour checks: {reason}.")


def _titles(results: Sequence[CheckResult]) -> str:
    more = len(results) - _NAMED
    named = ", ".join(result.title for result in results[:_NAMED])
    return f"{named} and {more} more" if more > 0 else named
