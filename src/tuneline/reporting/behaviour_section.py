"""The behaviour checks: what the candidate was asked, what it answered, and whether that is as expected."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuneline import terminal
from tuneline.behaviour.check_results import CheckResult, counts
from tuneline.data.secrets import screening

_LONGEST = 600
_MOST_PASSED = 100


@dataclass(frozen=True)
class Line:
    """One check."""

    title: str
    severity: str
    asked: str
    answer: str | None
    """None: the model could not be asked."""
    expected: tuple[tuple[str, str | None], ...]
    """What is expected in words, and why it is not met; None: it is met."""
    note: str
    verdict: str
    """passed, failed or warning."""


@dataclass(frozen=True)
class Behaviour:
    """What the page shows of the checks."""

    summary: str
    """How many have passed, as a sentence."""
    failed: tuple[Line, ...]
    """Those of severity error first."""
    passed: tuple[Line, ...]
    more_passed: int
    """The number of passed checks that are not shown."""


def behaviour_of(results: Sequence[CheckResult]) -> Behaviour | None:
    """The results of all checks; None where there are none."""
    if not results:
        return None
    failed = sorted((one for one in results if not one.passed), key=lambda one: one.severity != "error")
    passed = [one for one in results if one.passed]
    return Behaviour(
        summary=f"Of the checks of data/checks.yaml, {counts(results)}.",
        failed=tuple(map(_line, failed)),
        passed=tuple(map(_line, passed[:_MOST_PASSED])),
        more_passed=max(len(passed) - _MOST_PASSED, 0),
    )


def _line(result: CheckResult) -> Line:
    expected = [(_shown(one.words), None if one.reason is None else _shown(one.reason)) for one in result.expectations]
    if result.problem:
        expected.append(("the model can be asked", _shown(result.problem)))
    return Line(
        title=result.title,
        severity=result.severity,
        asked=_shown(result.asked),
        answer=None if result.answer is None else _shown(result.answer),
        expected=tuple(expected),
        note=_shown(result.note),
        verdict="passed" if result.passed else "failed" if result.severity == "error" else "warning",
    )


def _shown(text: str) -> str:
    """The text without secrets, with characters that a page does not show, and without the end of a long one.

    The page is sent to people who must not see a secret that the model has learned.
    """
    return terminal.visible(terminal.shortened(screening.hidden(text), _LONGEST))
