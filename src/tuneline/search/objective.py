"""What a search minimises: eval_loss on the validation split, or with folds the mean of a metric over folds."""

from dataclasses import dataclass

from tuneline.params import Task
from tuneline.params.gate import METRICS_OF_TASK, metric

EVAL_LOSS = "eval_loss"


@dataclass(frozen=True)
class Objective:
    """The number of a trial; lower is better."""

    metric: str
    """The name under which an experiment of DVC has it."""
    folds: int | None
    """So many trainings measure a trial, each on the rows that it has not seen; None: one, on the validation split."""

    @property
    def is_flipped(self) -> bool:
        """Whether higher is better, so that 1 minus the metric is minimised."""
        return self.metric != EVAL_LOSS and metric(self.metric).sign > 0

    @property
    def name(self) -> str:
        """What is minimised."""
        return f"1 - {self.metric}" if self.is_flipped else self.metric

    @property
    def label(self) -> str:
        """What a person reads."""
        return f"{self.name} (mean of {self.folds} folds)" if self.folds else self.name

    def loss(self, value: float) -> float:
        """What is minimised, for a value of the metric."""
        return 1 - value if self.is_flipped else value

    def value(self, loss: float) -> float:
        """The value of the metric, for what is minimised."""
        return 1 - loss if self.is_flipped else loss


def objective_of(task: Task, folds: int | None) -> Objective:
    """The objective of a search.

    Args:
        task: of the training.
        folds: of data/search.yaml.
    """
    return Objective(METRICS_OF_TASK[task][0] if folds else EVAL_LOSS, folds)
