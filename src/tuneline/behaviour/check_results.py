"""reports/checks.json: what a model answered to each check, and whether the answer is as expected."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tuneline.core import files
from tuneline.errors import UnreadableFileError

SEVERITIES = ("error", "warning")
"""The severities of checks, in the order in which they are counted."""

FILE = "checks.json"
"""Its name in paths.reports."""


@dataclass(frozen=True)
class Expectation:
    """One expectation on an answer."""

    words: str
    """What is expected, for example `contains “Return”`."""
    reason: str | None
    """Why it is not met, in words; None: it is met."""


@dataclass(frozen=True)
class CheckResult:
    """A check, and what the model answered."""

    number: int
    """Its place in the list of the task, from 1."""
    name: str | None
    severity: str
    asked: str
    answer: str | None = None
    """None: the model could not be asked."""
    expectations: tuple[Expectation, ...] = ()
    problem: str | None = None
    """Why the model could not be asked, in words."""
    note: str = ""
    """What else a person should know about the answer."""

    @property
    def passed(self) -> bool:
        """Whether the model could be asked and every expectation is met."""
        return self.problem is None and all(one.reason is None for one in self.expectations)

    @property
    def title(self) -> str:
        """The number and the name. It has no text of data or of a model."""
        return f"{self.number} ({self.name})" if self.name else str(self.number)

    def reasons(self) -> list[str]:
        """Why it has not passed; empty if it has."""
        return [self.problem] if self.problem else [one.reason for one in self.expectations if one.reason]


def failed(results: Sequence[CheckResult], severity: str) -> list[CheckResult]:
    """The checks of a severity that have not passed."""
    return [result for result in results if result.severity == severity and not result.passed]


def counts(results: Sequence[CheckResult]) -> str:
    """How many checks of each severity have passed, in the words that the stage, the gate and all reports use.

    Args:
        results: of all checks of the task; at least one.
    """
    of = {severity: [one.passed for one in results if one.severity == severity] for severity in SEVERITIES}
    parts = [f"{sum(found)} of {len(found)} of severity {severity}" for severity, found in of.items() if found]
    return f"{' and '.join(parts)} passed"


def summary(results: Sequence[CheckResult], file: str) -> str:
    """How many checks have passed, as a line for a person.

    Args:
        results: of all checks of the task.
        file: the file of the checks.
    """
    if not results:
        return f"{file} has no behaviour checks for this task"
    return f"behaviour checks of {file}: {counts(results)}"


def lines(results: Sequence[CheckResult], file: str) -> list[str]:
    """The summary, and which checks have not passed and why, as lines for a person.

    Args:
        results: of all checks of the task.
        file: the file of the checks.
    """
    # A line of a stage that begins with `error` would be taken for the reason why it ended.
    words = {"error": "failed", "warning": "warning"}
    wrong = [result for result in results if not result.passed]
    return [
        summary(results, file),
        *(f"  {words[one.severity]}: check {one.title}: {'; '.join(one.reasons())}" for one in wrong),
    ]


def as_json(model_sha256: str | None, results: Sequence[CheckResult]) -> dict[str, Any]:
    """The value of checks.json.

    Args:
        model_sha256: of the folder of the model that was asked; None: none was, or the caller knows it.
        results: of all checks of the task.
    """
    return {"model_sha256": model_sha256, "checks": [asdict(result) for result in results]}


def read(path: Path) -> tuple[str | None, list[CheckResult]]:
    """The digest of the model, None where no model was asked, and the results in a checks.json.

    Raises:
        UnreadableFileError: the file is missing or damaged.
    """
    value = files.read_object(path, "model_sha256", "checks")
    try:
        return value["model_sha256"], _RESULTS.validate_python(value["checks"])
    except ValidationError:
        raise UnreadableFileError(f"{path}: does not hold the results of checks; run: make run") from None


_RESULTS = TypeAdapter(list[CheckResult])
