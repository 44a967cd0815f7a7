"""Scores a registered version on test rows, in a process of its own.

    python -m tuneline.decisions.scoring SHARED FOLDER

What a model does while it is loaded and scored cannot disturb the caller. With compute.portable the process is
restricted to the instruction set that the candidate was evaluated with, which the process of a flow is not.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from tuneline import instruction_set, params, processes, terminal
from tuneline.core import files
from tuneline.errors import ModelError, RegistryError, TunelineError
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS

_SETTINGS, _ROWS, _BASE = "settings.json", "rows.parquet", "base.parquet"
_FOUND, _PROBLEMS = "found.parquet", "problems.json"


def score(p: params.Params, folder: Path, rows: pa.Table, base: pa.Table | None) -> pa.Table:
    """The score table of a version.

    Args:
        p: the params.
        folder: the version's files.
        rows: the test rows.
        base: the scores of the base, for a task that counts from them.

    Raises:
        ModelError: the version cannot be loaded or scored.
        RegistryError: the process that scores it was ended.
    """
    with files.temporary_folder() as shared:
        write_request(shared, p, rows, base)
        command = [sys.executable, "-m", "tuneline.decisions.scoring", str(shared), str(folder.absolute())]
        environment = instruction_set.restricted(os.environ) if p.compute.portable else dict(os.environ)
        done = subprocess.run(processes.bound_command(command), env=environment, stdin=subprocess.DEVNULL, check=False)
        if (shared / _PROBLEMS).is_file():
            raise ModelError(*json.loads((shared / _PROBLEMS).read_text("utf-8")))
        if done.returncode < 0:
            raise RegistryError(
                f"{signal.Signals(-done.returncode).name} ended the process that scores the model, for example because "
                "memory ran out; run the same command again"
            )
        if done.returncode:
            raise ModelError(f"the model cannot be scored: its process ended with code {done.returncode}, see above")
        return files.read_parquet(shared / _FOUND)


def write_request(shared: Path, p: params.Params, rows: pa.Table, base: pa.Table | None) -> None:
    """Write what another process needs to score a model with `answer_request`.

    Args:
        shared: the folder that both processes know.
        p: the params.
        rows: the test rows.
        base: the scores of the base, for a task that counts from them.
    """
    settings = {"task": p.task, "evaluate": p.evaluate.model_dump(), "max_length": p.finetune.max_length}
    files.write_json(shared / _SETTINGS, {**settings, "threads": p.compute.threads})
    files.write_parquet(shared / _ROWS, rows)
    if base is not None:
        files.write_parquet(shared / _BASE, base)


def answer_request(shared: Path, folder: Path, name: str, *, models: int = 1) -> tuple[params.Task, pa.Table, pa.Table]:
    """Score a model as `write_request` asks.

    Args:
        shared: the folder of the request.
        folder: of the model.
        name: of the model, for its progress lines.
        models: as in `ModelToScore`.

    Returns:
        The task, the test rows and their scores.

    Raises:
        ModelError: the model cannot be loaded or scored.
    """
    settings = files.read_object(shared / _SETTINGS, "task", "evaluate", "max_length", "threads")
    rows, task = files.read_parquet(shared / _ROWS), settings["task"]
    base = files.read_parquet(shared / _BASE) if (shared / _BASE).is_file() else None
    # This import loads torch, which takes seconds.
    from tuneline.modeling.models import use_threads

    use_threads(settings["threads"])
    scored = ModelToScore(folder, name, settings["max_length"], base=base, models=models)
    return task, rows, TASKS[task].measure(scored, rows, params.Evaluate(**settings["evaluate"]))


def main(shared: Path, folder: Path) -> None:
    """Score the version in `folder` on the rows in `shared`, and write the scores or the problems there."""
    try:
        _, _, found = answer_request(shared, folder, "champion")
    except TunelineError as error:
        files.write_json(shared / _PROBLEMS, list(error.problems))
        sys.exit(1)
    files.write_parquet(shared / _FOUND, found)


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
