"""Today's test set: what the last `evaluate` has measured, read from DVC's cache so that it works during a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from tuneline import params
from tuneline.core import files
from tuneline.decisions import probe_scores
from tuneline.decisions.probe_scores import Found
from tuneline.errors import DataError
from tuneline.evaluation import results, score_table
from tuneline.evaluation.intervals import Measures
from tuneline.pipeline import recorded_bytes

_STAGE = "evaluate"


@dataclass(frozen=True)
class LastEvaluation:
    """The test rows with the scores of base and baselines, and the candidate of that time."""

    p: params.Params
    """Today's params, with the task's settings of that evaluation: a training may follow a change of params.yaml."""
    rows: pa.Table
    scores: dict[str, pa.Table]
    """`candidate`, `base` and the trivial baselines -> score table."""
    intervals: dict[str, Measures]
    """`base`, `baseline` and `value` -> how the candidate of that time differs."""
    model_sha256: str
    """Of the candidate of that time."""
    probed: Found
    """What the probes have measured of that candidate."""


def read(p: params.Params) -> LastEvaluation:
    """What the last `evaluate` in dvc.lock has measured.

    Args:
        p: today's params.

    Raises:
        DataError: the stage has never run, it measured another task, or its outputs are in neither cache nor remote.
    """
    record = recorded_bytes.read_record(_STAGE)
    then = _with_settings(p, record.get("params", {}).get(params.PARAMS_FILE, {}))
    with files.temporary_folder() as folder:
        paths = {
            name: recorded_bytes.locate(record, name, folder)
            for name in ("rows.parquet", "intervals.json", "measured.json")
        }
        rows, scores = score_table.split_columns(files.read_parquet(paths["rows.parquet"]))
        intervals = results.read_intervals(files.read_object(paths["intervals.json"]))
        measured = files.read_object(paths["measured.json"], "model_sha256")
        probes = _probes(record, folder)
    return LastEvaluation(then, rows, scores, intervals, measured["model_sha256"], probes)


def _probes(record: Mapping[str, Any], folder: Path) -> Found:
    """What the probes have measured; nothing where an earlier release wrote the record."""
    table, about = "probes.parquet", "probes.json"
    if not any(Path(out["path"]).name == table for out in record.get("outs", [])):
        return {}
    paths = {name: recorded_bytes.locate(record, name, folder) for name in (table, about)}
    return probe_scores.read(paths[table], paths[about])


def _with_settings(p: params.Params, recorded: Mapping[str, Any]) -> params.Params:
    task = recorded.get("task")
    if task != p.task:
        raise DataError(
            f"{params.PARAMS_FILE}: task is {p.task}, but the last evaluation in dvc.lock measured {task}; run: make "
            "run"
        )
    try:
        evaluate = params.Evaluate(**recorded["evaluate"])
        finetune = p.finetune.model_copy(update={"max_length": int(recorded["finetune.max_length"])})
    except (ValidationError, LookupError, TypeError, ValueError):
        raise DataError(
            f"dvc.lock: records the settings of the stage {_STAGE} as another release wrote them; run: make run"
        ) from None
    return p.model_copy(update={"evaluate": evaluate, "finetune": finetune})
