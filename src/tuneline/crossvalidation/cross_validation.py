"""Runs all folds one after the other, and puts their scores together."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline import params, processes
from tuneline.core import files
from tuneline.crossvalidation import folds, one_fold
from tuneline.crossvalidation.corrected_interval import FoldMean, mean_of_folds
from tuneline.errors import KilledError, TrainingError
from tuneline.evaluation import comparison, score_table
from tuneline.params.gate import METRICS_OF_TASK

RESULT, PREDICTIONS = "crossvalidation.json", "crossvalidation.parquet"
"""Its files in paths.reports."""
_SCORES = one_fold.SCORES


@dataclass(frozen=True)
class Plan:
    """A cross-validation before it starts."""

    folds: tuple[folds.Fold, ...]
    folder: Path
    """Where its folds are kept while it runs."""

    @property
    def done(self) -> list[int]:
        """The numbers of the folds that an earlier run has finished."""
        return [fold.number for fold in self.folds if (one_fold.place(self.folder, fold.number) / _SCORES).is_file()]

    @property
    def trained_share(self) -> float:
        """The training rows of all trainings over those of one `finetune`."""
        whole = {row for fold in self.folds for row in fold.train["id"].to_pylist()}
        return sum(fold.train.num_rows for fold in self.folds) / max(1, len(whole))


@dataclass(frozen=True)
class Result:
    """What a cross-validation has measured."""

    metrics: Mapping[str, Mapping[str, FoldMean | str]]
    """Model or baseline -> metric -> its mean over folds, or why it has none."""
    of_folds: Mapping[str, Sequence[float | None]]
    """Metric -> its value in each fold for the trained models; None where it is not defined."""
    predictions: pa.Table
    """Every row, with its fold and what the model that has not seen it gives."""

    def as_dict(self) -> dict[str, Any]:
        """The values for crossvalidation.json."""

        def value(found: FoldMean | str) -> dict[str, float] | str:
            return found if isinstance(found, str) else {"mean": found.mean, "low": found.low, "high": found.high}

        means = {model: {name: value(one) for name, one in found.items()} for model, found in self.metrics.items()}
        return {"rows": self.predictions.num_rows, "folds": {**self.of_folds}, **means}


def experiment(p: params.Params) -> str:
    """The experiment of MLflow that holds its runs."""
    return f"{p.registry.model}-crossvalidation"


def plan(p: params.Params, count: int) -> Plan:
    """What a cross-validation will do.

    Args:
        p: the params.
        count: the number of folds.

    Raises:
        DataError: the rows do not suffice for so many folds.
        TrainingError: the training needs several processes.
    """
    if p.finetune.nproc_per_node > 1:
        raise TrainingError(
            f"finetune.nproc_per_node is {p.finetune.nproc_per_node}: a cross-validation trains in one process; set it "
            "to 1 in params.yaml"
        )
    made = tuple(folds.split(Path(p.paths.clean), count))
    return Plan(made, one_fold.FOLDER / one_fold.digest(p, count))


def run(plan: Plan, ended: Callable[[int], None] = lambda _: None) -> None:
    """Train and measure the folds that are not done. A killed run goes on where it was.

    Args:
        plan: from `plan`.
        ended: called with the number of each fold that is done, in their order.

    Raises:
        KilledError: a training was killed from outside.
        TrainingError: a training has failed.
    """
    for fold in plan.folds:
        if fold.number not in plan.done:
            print(f"fold {fold.number}: {fold.train.num_rows:,} training rows, {fold.held_out.num_rows:,} held out")
            sys.stdout.flush()
            _run_fold(plan, fold.number)
        ended(fold.number)


def measured(p: params.Params, plan: Plan, number: int) -> Mapping[str, float]:
    """The metrics of the trained model on a fold that is done; those that are not defined on its rows are left out."""
    rows, scores = score_table.split_columns(files.read_parquet(one_fold.place(plan.folder, number) / _SCORES))
    return comparison.summarise(rows, p.task, scores["candidate"])


def summarise(p: params.Params, plan: Plan) -> Result:
    """Put the scores of all folds together.

    Args:
        p: the params.
        plan: whose folds are all done.
    """
    names = METRICS_OF_TASK[p.task]
    parts = [files.read_parquet(one_fold.place(plan.folder, fold.number) / _SCORES) for fold in plan.folds]
    measured: dict[str, list[dict[str, float]]] = {}
    for part in parts:
        rows, scores = score_table.split_columns(part)
        for model, table in scores.items():
            measured.setdefault(model, []).append(comparison.summarise(rows, p.task, table))
    share = float(np.mean([fold.held_out.num_rows / fold.train.num_rows for fold in plan.folds]))
    metrics = {
        model: {name: _mean([one.get(name) for one in found], share) for name in _named(names, found)}
        for model, found in measured.items()
    }
    of_folds = {name: [one.get(name) for one in measured["candidate"]] for name in metrics["candidate"]}
    return Result(metrics, of_folds, _predictions(parts, [fold.number for fold in plan.folds]))


def forget(plan: Plan) -> None:
    """Delete the folder of a cross-validation whose result is written."""
    shutil.rmtree(plan.folder, ignore_errors=True)


def _named(names: Sequence[str], found: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in (*names, "perplexity") if any(name in one for one in found)]


def _mean(values: Sequence[float | None], share: float) -> FoldMean | str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"it is not defined on {len(values) - len(known)} of {len(values)} folds"
    return mean_of_folds(known, held_out_share=share)


def _predictions(parts: Sequence[pa.Table], numbers: Sequence[int]) -> pa.Table:
    """The rows and what the models that have not seen them give, without the baselines."""
    whole = []
    for part, number in zip(parts, numbers, strict=True):
        rows, scores = score_table.split_columns(part)
        table = score_table.join(rows, {"candidate": scores["candidate"]})
        whole.append(table.append_column("fold", pa.array([number] * table.num_rows, pa.int64())))
    return pa.concat_tables(whole, promote_options="permissive")


def _run_fold(plan: Plan, number: int) -> None:
    own = one_fold.place(plan.folder, number)
    own.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        (own / one_fold.PROBLEMS).unlink()
    command = [sys.executable, "-m", "tuneline.crossvalidation.one_fold"]
    command += [str(plan.folder), str(len(plan.folds)), str(number)]
    # Nothing that a training does to its process reaches the next one.
    ran = subprocess.run(processes.bound_command(command), stdin=subprocess.DEVNULL, check=False)
    if ran.returncode == 0:
        return
    if (own / one_fold.PROBLEMS).is_file():
        problems = files.read_json(own / one_fold.PROBLEMS)
        raise TrainingError(*(f"fold {number}: {problem}" for problem in problems))
    again = "run the same command again to go on"
    if ran.returncode < 0:
        name = signal.Signals(-ran.returncode).name
        raise KilledError(f"fold {number}: {name} ended its process, for example because memory ran out; {again}")
    raise TrainingError(f"fold {number}: its process ended with code {ran.returncode}; {again}")
