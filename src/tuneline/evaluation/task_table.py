"""How the models of each task are evaluated: one row per task."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import causal, classification, preference, regression
from tuneline.params import Evaluate, Task

if TYPE_CHECKING:
    from tuneline.evaluation import timing


class Baselines(Protocol):
    """Scores the trivial baselines of a task."""

    def __call__(
        self,
        folder: Path,
        train: pa.Table,
        test: pa.Table,
        evaluate: Evaluate,
        token_caches: tuple[Path, Path] | None = None,
    ) -> dict[str, pa.Table]:
        """Baseline -> its score table.

        Args:
            folder: the candidate's, for its tokenizer.
            train: the training rows.
            test: the test rows.
            evaluate: the section of params.
            token_caches: the folders that keep the tokens of `train` and `test`; None: in memory.
        """
        ...


@dataclass(frozen=True)
class TaskEvaluation:
    """How the models of one task are evaluated. Neither the table nor `statistics` loads torch."""

    test_rows: Callable[[pa.Table, Evaluate, RecordForm], pa.Table]
    """Clean split, section of params, form of its records -> the rows that models are scored on."""
    measure: Callable[[ModelToScore, pa.Table, Evaluate], pa.Table]
    """Model, test rows, section of params -> its score table. Raises ModelError where it cannot be loaded."""
    baselines: Baselines
    statistics: Callable[[pa.Table, pa.Table], list[Statistic]]
    """Test rows, score table -> the metrics."""
    estimate_time: "Callable[[ModelToScore, pa.Table, Evaluate], tuple[timing.Work, timing.Estimate]] | None" = None
    """Model, test rows, section of params -> how long `measure` takes here. None: no answers are generated of which
    params.yaml sets the number."""
    is_relative_to_base: bool = False
    """Whether scores are counted from those of the base."""


TASKS: dict[Task, TaskEvaluation] = {
    "sft": TaskEvaluation(
        causal.test_rows,
        partial(causal.measure, is_text=False),
        partial(causal.baselines, is_text=False),
        causal.statistics,
        causal.estimate_time,
    ),
    "language-modeling": TaskEvaluation(
        causal.test_rows,
        partial(causal.measure, is_text=True),
        partial(causal.baselines, is_text=True),
        causal.statistics,
    ),
    "classification": TaskEvaluation(
        classification.test_rows, classification.measure, classification.baselines, classification.statistics
    ),
    "regression": TaskEvaluation(regression.test_rows, regression.measure, regression.baselines, regression.statistics),
    "preference": TaskEvaluation(
        preference.test_rows,
        preference.measure,
        preference.baselines,
        preference.statistics,
        is_relative_to_base=True,
    ),
}
