"""Scores a registered version on test rows; with compute.portable in a process of its own.

    python -m tuneline.decisions.scoring SHARED FOLDER

The process of a flow or of a command is not restricted to the instruction set that the candidate was evaluated with.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from tuneline import instruction_set, params, processes, terminal
from tuneline.core import files
from tuneline.errors import ModelError, RegistryError, TunelineError
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS

_ROWS, _BASE, _FOUND, _PROBLEMS = "rows.parquet", "base.parquet", "found.parquet", "problems.json"


def score(p: params.Params, folder: Path, rows: pa.Table, base: pa.Table | None) -> pa.Table:
    """The score table of a version.

    Args:
        p: the params, as params.yaml holds them.
        folder: the version's files.
        rows: the test rows.
        base: the scores of the base, for a task that counts from them.

    Raises:
        ModelError: the version cannot be loaded.
        RegistryError: the process that scores it has ended early.
    """
    if not p.compute.portable or instruction_set.is_restricted(os.environ):
        return _score_here(p, folder, rows, base)
    with files.temporary_folder() as shared:
        files.write_parquet(shared / _ROWS, rows)
        if base is not None:
            files.write_parquet(shared / _BASE, base)
        command = [sys.executable, "-m", "tuneline.decisions.scoring", str(shared), str(folder.absolute())]
        environment = instruction_set.restricted(os.environ)
        done = subprocess.run(processes.bound_command(command), env=environment, stdin=subprocess.DEVNULL, check=False)
        if (shared / _PROBLEMS).is_file():
            raise ModelError(*json.loads((shared / _PROBLEMS).read_text("utf-8")))
        if done.returncode:
            raise RegistryError(
                f"the process that scores the champion ended with code {done.returncode}, for example because memory "
                "ran out; run the same command again"
            )
        return files.read_parquet(shared / _FOUND)


def _score_here(p: params.Params, folder: Path, rows: pa.Table, base: pa.Table | None) -> pa.Table:
    # This import loads torch, which takes seconds and is needed only here.
    from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    return TASKS[p.task].measure(ModelToScore(folder, "champion", p.finetune.max_length, base=base), rows, p.evaluate)


def main(shared: Path, folder: Path) -> None:
    """Score the version in `folder` on the rows in `shared`, and write the scores or the problems there."""
    try:
        base = files.read_parquet(shared / _BASE) if (shared / _BASE).is_file() else None
        found = _score_here(params.load(), folder, files.read_parquet(shared / _ROWS), base)
    except TunelineError as error:
        files.write_json(shared / _PROBLEMS, list(error.problems))
        sys.exit(1)
    files.write_parquet(shared / _FOUND, found)


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
