"""Cross-validates the params of a trial in its folder, in a process of its own.

    python -m tuneline.search.trial_folds COUNT

After each fold it writes what the folds have measured so far into work/folds.json, from which the search reads it. A
killed process goes on with the fold that it was at.
"""

import sys
from pathlib import Path

from tuneline import params, processes, terminal
from tuneline.core import files
from tuneline.crossvalidation import cross_validation
from tuneline.errors import KilledError, TunelineError
from tuneline.search.objective import objective_of
from tuneline.work import WORK

MEASURED = WORK / "folds.json"
ERROR = "error: "
KILLED = 75
"""The exit code after a training was killed from outside: another try goes on from there."""


def means(project: Path) -> dict[int, float]:
    """What a trial has measured: number of folds, from 1 -> the mean of their losses.

    Args:
        project: the project in the folder of the trial.
    """
    path = project / MEASURED
    losses = files.read_json(path) if path.is_file() else []
    return {count: sum(losses[:count]) / count for count in range(1, len(losses) + 1)}


def _run(count: int) -> None:
    p = params.load()
    objective, losses = objective_of(p.task, count), []

    def ended(number: int) -> None:
        found = cross_validation.measured(p, plan, number)
        if objective.metric not in found:
            raise TunelineError(f"fold {number}: {objective.metric} is not defined on its rows; use fewer folds")
        losses.append(objective.loss(found[objective.metric]))
        files.write_json(MEASURED, losses)

    plan = cross_validation.plan(p, count)
    cross_validation.run(plan, ended)
    cross_validation.forget(plan)


def main() -> None:
    """Exit with code 0; 1 and the reasons on stdout; `KILLED` and the reason if a training was killed."""
    try:
        _run(int(sys.argv[1]))
    except TunelineError as error:
        print(*(f"{ERROR}{problem}" for problem in error.problems), sep="\n", flush=True)
        sys.exit(KILLED if isinstance(error, KilledError) else 1)


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(main)
