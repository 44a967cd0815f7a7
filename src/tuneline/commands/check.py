"""Ask the new model, or a registered version, what data/checks.yaml asks, and print what it answers."""

from collections.abc import Sequence
from pathlib import Path

from tuneline import params, terminal
from tuneline.behaviour import check_file
from tuneline.behaviour.check_results import CheckResult
from tuneline.commands.ask import served_version
from tuneline.decisions import checking
from tuneline.errors import DataError, ModelError

_LONGEST = 300


def check(p: params.Params, *, version: int | None, alias: str | None) -> tuple[str, list[CheckResult]]:
    """Ask a model in a process of its own.

    Args:
        p: the params.
        version: the number of a version.
        alias: of a version, where no number is given; None, as the number: the new model in the workspace.

    Returns:
        The name of the model, and the results of all checks of the task.

    Raises:
        DataError: the file of the checks is missing or wrong.
        ModelError: the model cannot be loaded, or the workspace holds none.
        RegistryError: the registry does not have the version, or its files have changed.
        TrackingError: MLflow does not answer.
    """
    if version is None and alias is None:
        folder = Path(p.paths.finetuned)
        if not folder.is_dir():
            problem = f"{folder}: holds no model yet; run: make run; or ask a version with: --version N"
            try:
                check_file.load(Path(p.paths.checks))
            except DataError as error:
                raise DataError(*error.problems, problem) from None
            raise ModelError(problem)
        return str(folder), checking.check(p, folder, "candidate")
    served = served_version.serve(p, version=version, alias=alias or "")
    return served.name, checking.check(p, served.folder, "version")


def lines(results: Sequence[CheckResult]) -> list[str]:
    """Each check with its verdict; of one that has not passed also why, and the answer."""
    found = []
    for result in results:
        verdict = "passed" if result.passed else "failed" if result.severity == "error" else "warning"
        found.append(f"{verdict:8} {result.title}{': ' if result.reasons() else ''}{'; '.join(result.reasons())}")
        if not result.passed and result.answer is not None:
            found.append(f"         answer: {_one_line(result.answer)}")
        if result.note:
            found.append(f"         note: {result.note}")
    return found


def _one_line(text: str) -> str:
    return terminal.visible(terminal.shortened(repr(text)[1:-1], _LONGEST))
