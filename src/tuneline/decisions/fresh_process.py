"""A model loaded and asked in a process of its own: what its bytes do there cannot disturb the caller.

python -m tuneline.decisions.fresh_process FOLDER      FOLDER holds model/, rows.parquet, base.parquet and settings.json
"""

import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params, processes
from tuneline.core import files
from tuneline.decisions import scoring
from tuneline.evaluation import comparison

MODEL = "model"
"""The folder of the model below the folder that is given."""
SECONDS = 300.0
"""The most that loading and answering may take."""
_ANSWER = "answer.json"
_LONGEST = 200


def ask(
    folder: Path, p: params.Params, row: pa.Table, base: pa.Table | None, *, seconds: float = SECONDS
) -> str | None:
    """Load the model in a new process and have it answer a row of the test set.

    Args:
        folder: its subfolder `MODEL` holds the model; other files are written into it.
        p: the params.
        row: a table with one test row.
        base: the base's scores of this row, for a task that counts from them.
        seconds: the time limit.

    Returns:
        Why the model cannot be used, in words; None if it has answered.
    """
    scoring.write_request(folder, p, row, base)
    command = processes.bound_command([sys.executable, "-m", "tuneline.decisions.fresh_process", str(folder)])
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not load and answer within {seconds:.0f} s"
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"does not load: {name} ended the process that loads it, for example because memory ran out"
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return f"does not load and answer: {lines[-1][:_LONGEST] if lines else f'exit code {done.returncode}'}"
    return None


def _answer(folder: Path) -> dict[str, Any]:
    """Load the model, score the row, and return what was measured."""
    task, row, scores = scoring.answer_request(folder, folder / MODEL, "version", models=0)
    return {"answer": comparison.answers(scores)[0], **comparison.summarise(row, task, scores)}


def _main(folder: Path) -> None:
    found = _answer(folder)
    if wrong := [name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value)]:
        sys.exit(f"its {', '.join(wrong)} is not a number")
    files.write_json(folder / _ANSWER, found)


if __name__ == "__main__":
    processes.run_and_exit(lambda: _main(Path(sys.argv[1])))
