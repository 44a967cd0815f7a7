"""Section `gate`: the rules that a candidate must pass to be registered, and the metrics that they may name."""

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from tuneline.params.section import Section
from tuneline.params.task_keys import TASK_KEYS, Task

Direction = Literal["lower", "higher"]
Versus = Literal["base", "champion", "baseline", "value"]


class Metric(NamedTuple):
    """A metric of an evaluation. `tuneline.evaluation.metrics` holds its formula."""

    name: str
    """The name that people read."""
    better: Direction
    digits: int
    """Digits after the point of a difference in a sentence."""
    report_digits: int = 3
    """Digits after the point of a value in the report."""

    @property
    def sign(self) -> float:
        """1.0 where higher is better, else -1.0: a difference times this is an improvement."""
        return 1.0 if self.better == "higher" else -1.0

    def best(self, values: Iterable[float]) -> float:
        """The best of these values."""
        return max(values, key=lambda value: self.sign * value)


METRICS = {
    "bits_per_byte": Metric("Bits per byte", "lower", 4),
    "token_loss": Metric("Token loss", "lower", 4),
    "perplexity": Metric("Perplexity", "lower", 2, 1),
    "chrf": Metric("chrF", "higher", 2, 1),
    "accuracy": Metric("Accuracy", "higher", 4),
    "macro_f1": Metric("Macro F1", "higher", 4),
    "weighted_f1": Metric("Weighted F1", "higher", 4),
    "matthews_corrcoef": Metric("Matthews correlation", "higher", 4),
    "mae": Metric("Mean absolute error", "lower", 4),
    "rmse": Metric("Root mean squared error", "lower", 4),
    "spearman": Metric("Spearman correlation", "higher", 4),
    "reward_accuracy": Metric("Reward accuracy", "higher", 4),
    "reward_margin": Metric("Reward margin", "higher", 4),
}
"""Every metric of a model, in the order in which they are shown."""

METRICS_OF_TASK = {task: keys.metrics for task, keys in TASK_KEYS.items()}
"""Task -> the metrics that have an interval and that a rule may name."""

RECALL = "recall:"
"""`recall:LABEL` is the metric of one label of a classification: the share of its rows that are given the label."""


def metric(name: str) -> Metric:
    """The metric of this name, which may be `recall:LABEL`.

    Raises:
        KeyError: no metric has this name.
    """
    if name.startswith(RECALL) and name != RECALL:
        return Metric(f"Recall of “{name.removeprefix(RECALL)}”", "higher", 4)
    return METRICS[name]


class Rule(Section):
    metric: str
    """One of METRICS_OF_TASK, or recall:LABEL."""
    direction: Direction
    """Which way is better."""
    versus: Versus
    """base: the model before fine-tuning; champion: the version in use; baseline: the best trivial baseline; value: a
    fixed number."""
    value: float | None = None
    """The number for `versus: value`; only then."""
    margin: float
    """Improvement, in the metric's unit, that the interval's lower bound must exceed; negative: a tolerated loss."""
    fails_below: float | None = None
    """The rule fails if the interval's upper bound does not exceed this improvement; None: the margin. Between the two
    a candidate is undecided."""
    task: Task | None = None
    """The task of the rule; None: the task of params.yaml. `tuneline use` sets it when another task is chosen, so that
    the rules of the previous task are kept."""

    @field_validator("metric")
    @classmethod
    def _is_measured(cls, name: str) -> str:
        measured = {name for names in METRICS_OF_TASK.values() for name in names}
        if name not in measured and (not name.startswith(RECALL) or name == RECALL):
            known = ", ".join(name for name in METRICS if name in measured)
            raise ValueError(f"no metric has this name; the metrics are {known} and {RECALL}LABEL")
        return name

    @model_validator(mode="after")
    def _asks_for_better(self) -> "Rule":
        better = metric(self.metric).better
        if self.direction != better:
            raise ValueError(
                f"{self.metric} is better when {better}, but direction is {self.direction}; set direction to {better}"
            )
        if self.fails_below is not None and self.fails_below > self.margin:
            raise ValueError(
                f"fails_below {self.fails_below:g} is above the margin {self.margin:g}; set it to the margin or less"
            )
        if (self.value is None) == (self.versus == "value"):
            raise ValueError(
                "versus value needs the key `value`, the number that the metric is compared with"
                if self.value is None
                else f"value {self.value:g} is only used with versus value, and versus is {self.versus}; remove value"
            )
        return self


class Gate(Section):
    rules: Annotated[list[Rule], Field(min_length=1)]


def problem_of_task(rule: Rule, task: Task) -> tuple[str, str] | None:
    """The key of a rule that cannot be measured for a task, and the reason with a remedy; None if it can be."""
    keys = TASK_KEYS[task]
    known = keys.metrics
    if rule.metric not in known and not (keys.has_labels and rule.metric.startswith(RECALL)):
        recalls = f" and {RECALL}LABEL" if keys.has_labels else ""
        return "metric", f"'{rule.metric}' is not measured for task {task}; use {', '.join(known)}{recalls}"
    if rule.versus == "base" and not keys.scores_base:
        return "versus", (
            f"'base' cannot be measured for task {task}, because a base has no head for it; "
            "use baseline, champion or value"
        )
    return None
