"""Tasks of lm-evaluation-harness, which `evaluate.harness` names, as probes."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params, processes
from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.probes import harness_tasks
from tuneline.evaluation.probes.harness_run import PROBLEMS, REQUEST, TASKS
from tuneline.params.gate import HARNESS

_LIBRARY = "lm_eval"
_OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")


def check(p: params.Params) -> dict[str, dict[str, Any]]:
    """Raise where the tasks cannot be run.

    Args:
        p: the params.

    Returns:
        The project's own task files: name -> content.

    Raises:
        ModelError: the library is not installed, or a task file of the project calls code.
    """
    if importlib.util.find_spec(_LIBRARY) is None:
        raise ModelError(
            f"evaluate.harness: {', '.join(p.evaluate.harness)} needs lm-evaluation-harness, which is not installed; "
            "install it (.venv/bin/pip install lm_eval), or set evaluate.harness to []"
        )
    return harness_tasks.load(Path(p.paths.harness))


def run(
    p: params.Params,
) -> tuple[dict[str, tuple[pa.Table, dict[str, pa.Table]]], dict[str, dict[str, str]]]:
    """Run the tasks on candidate and base.

    Args:
        p: the params.

    Returns:
        Probe -> its rows and, by model, their scores; and probe -> what the report says about it.

    Raises:
        ModelError: a task is unknown, its data is not on this machine, or it cannot be run.
    """
    if not p.evaluate.harness or p.evaluate.probes is None:
        return {}, {}
    own = check(p)
    # The base is asked as the candidate is.
    models = {"candidate": (p.paths.finetuned, None), "base": (p.paths.base, p.paths.finetuned)}
    request = {
        "tasks": list(p.evaluate.harness),
        "folder": p.paths.harness,
        "rows": p.evaluate.probes.harness_rows,
        "batch_size": p.evaluate.batch_size,
        "max_length": p.finetune.max_length,
        "models": {name: {"folder": folder, "encoded_as": other} for name, (folder, other) in models.items()},
        "threads": p.compute.threads,
    }
    with files.temporary_folder() as shared:
        files.write_json(shared / REQUEST, request)
        harness_tasks.write(own, shared / TASKS)
        command = [sys.executable, "-m", "tuneline.evaluation.probes.harness_run", str(shared)]
        done = subprocess.run(
            processes.bound_command(command),
            env=os.environ | _OFFLINE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if (shared / PROBLEMS).is_file():
            raise ModelError(*json.loads((shared / PROBLEMS).read_text("utf-8")))
        if done.returncode:
            raise ModelError(
                f"evaluate.harness: {', '.join(p.evaluate.harness)} cannot be run: the process ended with code "
                f"{done.returncode}, see above"
            )
        found, about = {}, {}
        for task in p.evaluate.harness:
            table = files.read_parquet(shared / f"{task}.parquet")
            found[HARNESS + task] = _as_probe(table, list(models))
            about[HARNESS + task] = files.read_object(shared / f"{task}.json", "metric")
    return found, about


def statistics(name: str, model: pa.Table) -> list[Statistic]:
    """The metric of a task: the mean score of its documents.

    Args:
        name: `harness:TASK`.
        model: the score table.
    """
    return [metrics.mean(name, model["score"].to_numpy())]


def _as_probe(table: pa.Table, models: Sequence[str]) -> tuple[pa.Table, dict[str, pa.Table]]:
    rows = pa.table(dict.fromkeys(("id", "source", "cluster"), table["document"]))
    return rows, {name: pa.table({"score": table[name]}) for name in models}
