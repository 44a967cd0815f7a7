"""Section `gate`: the rules that a candidate must pass to be registered, and the metrics that they may name."""

import difflib
from collections.abc import Iterable
from math import inf
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from tuneline.params.section import Section, Seed
from tuneline.params.slices import GAP, split_gap
from tuneline.params.task_keys import TASK_KEYS, Task

Direction = Literal["lower", "higher"]
Versus = Literal["base", "champion", "baseline", "value"]
MOST_TWINS = 20
"""Each twin is trained and evaluated, so it takes as long as the candidate."""


class Metric(NamedTuple):
    """A metric of an evaluation. `tuneline.evaluation` holds its formula."""

    name: str
    """The name that people read."""
    better: Direction | Literal["neither"]
    """neither: what is best depends on the data, so a rule says which way it must go."""
    range: tuple[float, float]
    """The lowest and the highest value."""
    source: str
    """Where the definition is published."""
    digits: int
    """Digits after the point of a difference in a sentence."""
    report_digits: int = 3
    """Digits after the point of a value in the report."""

    @property
    def sign(self) -> float:
        """A difference times this is an improvement: 1.0 where higher is better, −1.0 where lower is, else 0.0."""
        return {"higher": 1.0, "lower": -1.0, "neither": 0.0}[self.better]

    def best(self, values: Iterable[float]) -> float | None:
        """The best of these values; None where neither direction is better."""
        return None if self.better == "neither" else max(values, key=lambda value: self.sign * value)


_SHARE = (0.0, 1.0)
_PERCENT = (0.0, 100.0)
_CORRELATION = (-1.0, 1.0)
_FROM_ZERO = (0.0, inf)
_ANY = (-inf, inf)
_PERPLEXITY = "Jelinek et al. 1977, https://doi.org/10.1121/1.2016299"
_BITS = "Gao et al. 2020 (The Pile), https://arxiv.org/abs/2101.00027"
_SQUAD = (
    "Rajpurkar et al. 2016 (SQuAD), https://arxiv.org/abs/1606.05250; other languages as Lewis et al. 2020 (MLQA), "
    "https://arxiv.org/abs/1910.07475"
)
_BLEU = (
    "Papineni et al. 2002, https://aclanthology.org/P02-1040; Post 2018 (sacrebleu), https://arxiv.org/abs/1804.08771"
)
_DISTINCT = "Li et al. 2016, https://arxiv.org/abs/1510.03055"
_REPETITION = "Welleck et al. 2020 (seq-rep-4), https://arxiv.org/abs/1908.04319"
_SELF_BLEU = "Zhu et al. 2018 (Texygen), https://arxiv.org/abs/1802.01886"
_CHRF = "Popović 2015, https://aclanthology.org/W15-3049; sacrebleu's chrF2"
_F1 = "van Rijsbergen 1979, Information Retrieval; scikit-learn's f1_score"
_BETWEEN_GROUPS = "Weerts et al. 2023, https://arxiv.org/abs/2303.16626; fairlearn's difference(between_groups)"
_LM_EVAL = "Gao et al. 2024, https://doi.org/10.5281/zenodo.12608602; the first metric of the task"
_STRENGTH = "Carlini et al. 2021, https://arxiv.org/abs/2012.07805; open-unlearning's extraction_strength"
_EXACT = "Tirumala et al. 2022, https://arxiv.org/abs/2205.10770; open-unlearning's exact_memorization"
_COPIED = "McCoy et al. 2023, https://arxiv.org/abs/2111.09509; the words of 8-grams that are not novel"
_EXPOSURE = "Carlini et al. 2019, https://arxiv.org/abs/1802.08232; by rank among sampled references"
_ECE = "Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602; Guo et al. 2017, https://arxiv.org/abs/1706.04599"
_DPO = "Rafailov et al. 2023, https://arxiv.org/abs/2305.18290"

METRICS = {
    "bits_per_byte": Metric("Bits per byte", "lower", _FROM_ZERO, _BITS, 4),
    "token_loss": Metric("Token loss", "lower", _FROM_ZERO, _PERPLEXITY, 4),
    "perplexity": Metric("Perplexity", "lower", (1.0, inf), _PERPLEXITY, 2, 1),
    "exact_match": Metric("Exact match", "higher", _SHARE, _SQUAD, 4),
    "token_f1": Metric("Token F1", "higher", _SHARE, _SQUAD, 4),
    "bleu": Metric("BLEU", "higher", _PERCENT, _BLEU, 2, 1),
    "chrf": Metric("chrF", "higher", _PERCENT, _CHRF, 2, 1),
    "length_ratio": Metric("Length ratio", "neither", _FROM_ZERO, _BLEU, 4),
    "distinct_1": Metric("Distinct-1", "higher", _SHARE, _DISTINCT, 4),
    "distinct_2": Metric("Distinct-2", "higher", _SHARE, _DISTINCT, 4),
    "repetition": Metric("Repetition", "lower", _SHARE, _REPETITION, 4),
    "self_bleu": Metric("Self-BLEU", "lower", _PERCENT, _SELF_BLEU, 2, 1),
    "accuracy": Metric("Accuracy", "higher", _SHARE, "scikit-learn's accuracy_score", 4),
    "macro_f1": Metric("Macro F1", "higher", _SHARE, _F1, 4),
    "weighted_f1": Metric("Weighted F1", "higher", _SHARE, _F1, 4),
    "matthews_corrcoef": Metric(
        "Matthews correlation",
        "higher",
        _CORRELATION,
        "Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006",
        4,
    ),
    "ece": Metric("Calibration error", "lower", _SHARE, _ECE, 4),
    "mae": Metric("Mean absolute error", "lower", _FROM_ZERO, "scikit-learn's mean_absolute_error", 4),
    "rmse": Metric("Root mean squared error", "lower", _FROM_ZERO, "scikit-learn's root_mean_squared_error", 4),
    "spearman": Metric(
        "Spearman correlation",
        "higher",
        _CORRELATION,
        "Spearman 1904, https://doi.org/10.2307/1412159; scipy's spearmanr",
        4,
    ),
    "reward_accuracy": Metric("Reward accuracy", "higher", _SHARE, _DPO, 4),
    "reward_margin": Metric("Reward margin", "higher", _ANY, _DPO, 4),
    "general_bits_per_byte": Metric("Bits per byte of general text", "lower", _FROM_ZERO, _BITS, 4),
    "extraction_strength": Metric("Extraction strength", "lower", _SHARE, _STRENGTH, 4),
    "extraction_strength_gap": Metric("Extraction strength, gap", "lower", _CORRELATION, _STRENGTH, 4),
    "exact_memorization": Metric("Exact memorization", "lower", _SHARE, _EXACT, 4),
    "exact_memorization_gap": Metric("Exact memorization, gap", "lower", _CORRELATION, _EXACT, 4),
    "copied_share": Metric("Copied share of answers", "lower", _SHARE, _COPIED, 4),
    "canary_exposure": Metric("Exposure of canaries", "lower", _FROM_ZERO, _EXPOSURE, 3),
}
"""Every metric of a model, in the order in which they are shown."""

METRICS_OF_TASK = {task: keys.metrics for task, keys in TASK_KEYS.items()}
"""Task -> the metrics of the test rows that have an interval and that a rule may name."""

PROBED = tuple(name for name in METRICS if any(name in keys.probes for keys in TASK_KEYS.values()))
"""The metrics of probes, which are measured on other rows than the test rows. A rule may name them too."""

GENERAL = "general_bits_per_byte"
"""The metric of forgetting."""

HARNESS_ROWS = "harness_rows"
ROWS_OF_PROBE = {GENERAL: "general_rows"} | dict.fromkeys(
    ("extraction_strength", "extraction_strength_gap", "exact_memorization", "exact_memorization_gap"),
    "memorisation_rows",
)
"""Metric of a probe -> the key of evaluate.probes that says on how many rows it is measured."""

_VERSUS_OF_PROBES: dict[str, tuple[Versus, ...]] = {GENERAL: ("base", "champion", "value")}
_FIXED: tuple[Versus, ...] = ("base", "value")

OF_LABEL = {
    "recall": Metric("Recall", "higher", _SHARE, "scikit-learn's recall_score", 4),
    "precision": Metric("Precision", "higher", _SHARE, "scikit-learn's precision_score", 4),
}
"""`recall:LABEL` and `precision:LABEL` are metrics of one label of a classification. Recall: of the rows that have the
label, the share that is given it. Precision: of the rows that are given the label, the share that has it."""


# Characters of a label in the name of a metric, which sentences hold.
_LONGEST_LABEL = 80

HARNESS = "harness:"
"""`harness:TASK` is the metric of a task of lm-evaluation-harness that evaluate.harness names."""


def metric(name: str) -> Metric:
    """The metric of this name, which may be `recall:LABEL`, `gap:METRIC:COLUMN` or `harness:TASK`.

    Raises:
        KeyError: no metric has this name.
    """
    kind, _, label = name.partition(":")
    if kind in OF_LABEL and label:
        shown = label if len(label) <= _LONGEST_LABEL else f"{label[:_LONGEST_LABEL]}…"
        return OF_LABEL[kind]._replace(name=f"{OF_LABEL[kind].name} of “{shown}”")
    if is_of_harness(name):
        return Metric(f"{name.removeprefix(HARNESS)} of lm-evaluation-harness", "higher", _ANY, _LM_EVAL, 4)
    if gap := split_gap(name):
        of = METRICS[gap[0]]
        what = f"Gap in {of.name} between slices of {gap[1]}"
        return Metric(what, "lower", _FROM_ZERO, _BETWEEN_GROUPS, of.digits, of.report_digits)
    return METRICS[name]


def is_of_harness(name: str) -> bool:
    """Whether this is the metric of a task of lm-evaluation-harness."""
    return name.startswith(HARNESS) and name != HARNESS


def is_of_label(name: str) -> bool:
    """Whether this is a metric of one label, such as recall:LABEL."""
    kind, _, label = name.partition(":")
    return kind in OF_LABEL and bool(label)


_LABEL_METRICS = ", ".join(f"{kind}:LABEL" for kind in OF_LABEL)


class Rule(Section):
    metric: str
    """One of METRICS_OF_TASK or PROBED; of one label, such as recall:LABEL; or gap:METRIC:COLUMN, the largest gap
    between the slices of a column."""
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
    slice: Annotated[str, Field(min_length=1)] | None = None
    """COLUMN=VALUE: only these test rows count; COLUMN: each slice of the column must pass; None: all test rows count.
    The column is one of evaluate.slices."""
    beyond_twins: bool = False
    """Whether the improvement must exceed the margin by the noise floor too: the largest difference, for better or
    worse, between the candidate and a twin. Then a lucky seed does not pass."""
    task: Task | None = None
    """The task of the rule; None: the task of params.yaml. `tuneline use` sets it when another task is chosen, so that
    the rules of the previous task are kept."""

    @field_validator("metric")
    @classmethod
    def _is_measured(cls, name: str) -> str:
        measured = {name for names in METRICS_OF_TASK.values() for name in names}
        gap = split_gap(name)
        is_known = gap[0] in measured if gap else name in measured or name in PROBED
        if not is_known and not is_of_label(name) and not is_of_harness(name):
            known = [name for name in METRICS if name in measured or name in PROBED]
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}? The" if close else "the"
            others = f"{_LABEL_METRICS}, {GAP}METRIC:COLUMN and {HARNESS}TASK"
            raise ValueError(f"no metric has this name; {meant} metrics are {', '.join(known)}, {others}")
        return name

    @model_validator(mode="after")
    def _asks_for_better(self) -> "Rule":
        better = metric(self.metric).better
        if better != "neither" and self.direction != better:
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
        if self.beyond_twins and self.slice is not None:
            raise ValueError("beyond_twins compares whole test sets, so it has no slice; remove slice or beyond_twins")
        if split_gap(self.metric) and (self.slice or self.versus == "baseline"):
            raise ValueError(
                f"{self.metric} compares the slices with each other, so it has no slice of its own; remove slice"
                if self.slice
                else f"{self.metric} is not compared with a baseline, because a model that always answers alike may "
                "have no gap; use base, champion or value"
            )
        return self


class Gate(Section):
    rules: Annotated[list[Rule], Field(min_length=1)]
    twins: Annotated[list[Seed], Field(max_length=MOST_TWINS)]
    """Seeds of trainings that differ from the candidate's in nothing else. How much their models differ is the noise
    floor of the rules."""


def problem_of_task(rule: Rule, task: Task) -> tuple[str, str] | None:
    """The key of a rule that cannot be measured for a task, and the reason with a remedy; None if it can be."""
    keys = TASK_KEYS[task]
    known = (*keys.metrics, *keys.probes)
    gap = split_gap(rule.metric)
    name = gap[0] if gap else rule.metric
    is_known = name in (keys.metrics if gap else known) or (is_of_harness(name) and bool(keys.probes))
    if not is_known and not (keys.has_labels and is_of_label(rule.metric)):
        of_labels = f", {_LABEL_METRICS}" if keys.has_labels else ""
        return "metric", f"'{name}' is not measured for task {task}; use {', '.join(known)}{of_labels}"
    if rule.versus == "baseline" and metric(rule.metric).better == "neither":
        return (
            "versus",
            f"no baseline is the best in {rule.metric}, because neither more nor less of it is better; use base, "
            "champion or value",
        )
    is_probed = rule.metric in PROBED or is_of_harness(rule.metric)
    if is_probed and rule.versus not in (able := _VERSUS_OF_PROBES.get(rule.metric, _FIXED)):
        return "versus", (
            f"'{rule.versus}' cannot be measured for {rule.metric}; use {', '.join(able[:-1])} or {able[-1]}"
        )
    if is_probed and rule.slice is not None:
        return "slice", f"{rule.metric} is not measured on test rows, which slices are made of; remove slice"
    if rule.versus == "base" and not keys.scores_base:
        return "versus", (
            f"'base' cannot be measured for task {task}, because a base has no head for it; "
            "use baseline, champion or value"
        )
    return None
