"""The best trial against today's params, on the test split, which no trial has seen."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tuneline.core import files
from tuneline.errors import DataError
from tuneline.evaluation import comparison, score_table
from tuneline.evaluation.intervals import Measures
from tuneline.gate import decision
from tuneline.gate.spending import Budget
from tuneline.params import Params, Rule
from tuneline.registry import ledger
from tuneline.registry.tracking import Tracker
from tuneline.search.record import Record
from tuneline.search.result import Result
from tuneline.search.trial_folder import TrialFolder


@dataclass(frozen=True)
class Compared:
    """How the best trial differs from the first, which has the values of params.yaml."""

    best: int
    default: int
    rows: int
    measures: Measures
    budget: Budget
    """Where this use of the test rows stands in the ledger."""


def compare(
    p: Params, tracker: Tracker, record: Record, best: Result, default: Result, log: Callable[[str], None]
) -> Compared:
    """Measure both models on the test split, and write this use of it into the ledger of the model.

    The best trial was chosen by the validation split alone, so the interval is not too good. But a person who keeps
    the values only if they are better on the test split has chosen by it: therefore it is a comparison of the ledger.

    Args:
        p: the params.
        tracker: the registry.
        record: of the search.
        best: the trial that was chosen.
        default: the trial with the values of today.
        log: called with each line about the progress.

    Raises:
        DataError: the experiment of one of them was removed.
        PipelineError: evaluate failed.
        TrackingError: MLflow does not answer.
    """
    (rows, mine, mine_sha256), (others, theirs, default_sha256) = (
        _scores(record, result, log) for result in (best, default)
    )
    if not rows["id"].equals(others["id"]):
        raise DataError("the two trials were measured on different test rows; begin the search anew with --fresh")
    measures = comparison.compare(rows, p.task, mine, theirs, p.evaluate)
    columns = {name: rows[name].to_pylist() for name in ("id", "cluster")}
    rule = _rule(p)
    about = ledger.Comparison.of(mine_sha256, default_sha256, columns, f"search {record.name}", [rule.model_dump()])
    budget = ledger.spend(
        tracker, p.registry.model, about, lambda level: decision.decide([rule], {"champion": measures}, level=level)
    ).budget
    assert budget is not None
    return Compared(best.number, default.number, rows.num_rows, measures, budget)


def _rule(p: Params) -> Rule:
    """The first rule of the gate that compares with a champion, else the first of all, without a margin."""
    usual = [rule for rule in p.rules if rule.slice is None and rule.value is None]
    rule = next((rule for rule in usual if rule.versus == "champion"), (usual or p.rules)[0])
    return rule.model_copy(update={"versus": "champion", "margin": 0.0, "value": None, "slice": None})


def _scores(record: Record, result: Result, log: Callable[[str], None]) -> tuple[pa.Table, pa.Table, str]:
    """The test rows, the score table of a trial's model, and the sha256 of the model."""
    trial = TrialFolder(record, str(result.number))
    commit = trial.commit()
    if not commit:
        raise DataError(
            f"experiment {trial.experiment} was removed, so its model cannot be measured; begin anew with --fresh"
        )
    place = TrialFolder(record, f"{result.number}-evaluated")
    place.lay_out({}, 0, commit)
    try:
        table: Path = place.evaluate(log)
        rows, scores = score_table.split_columns(files.read_parquet(table))
        return rows, scores["candidate"], files.sha256_path(place.finetuned)
    finally:
        place.remove()
