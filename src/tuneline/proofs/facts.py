"""What is known about a version when it is registered: the values from which its documents are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tuneline.data.records.labelled_by import LabelledBy
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.fusion.merging.merge_recipe import Recipe
from tuneline.params import Params, Task
from tuneline.params.gate import METRICS, OF_LABEL
from tuneline.registry.lineage import Lineage

LearningApproach = Literal["supervised", "self-supervised"]


FINE_TUNING, MIXED_IN, PRETRAINING = "fine-tuning", "fine-tuning, mixed in", "pretraining"
"""What the rows of a raw set are trained for."""


class Package(NamedTuple):
    """A package that decides over the weights, in the version that the lock pins."""

    name: str
    version: str


class File(NamedTuple):
    """A file of the model or of the clean data."""

    path: str
    """Relative to the folder of the model or of the clean data."""
    sha256: str
    bytes: int


@dataclass(frozen=True)
class RawSet:
    """A set of raw rows that the clean data were made from."""

    path: str
    md5: str
    """DVC's digest of the set."""
    counts: Mapping[str, Any]
    """The set's entry of prepare.json: rows in, dropped and out."""
    purpose: str = FINE_TUNING
    """One of the above; one set may serve fine-tuning and pretraining."""
    labelled_by: LabelledBy | None = None
    """The version that has labelled the set; None: people have."""


@dataclass(frozen=True)
class Facts:
    """The facts about a version; the same version gives the same facts on every machine."""

    p: Params
    lineage: Lineage
    gate: Mapping[str, Any]
    """The value of gate.json."""
    evaluation: Mapping[str, Any]
    """The value of evaluation.json."""
    measures: Mapping[str, Measures]
    """`value`: the candidate's metrics with their intervals; `base`, `baseline`: how it differs from them."""
    dataset: Mapping[str, Any]
    """The value of dataset.json."""
    training: Mapping[str, Any]
    """The value of training.json."""
    base: Mapping[str, Any]
    """The value of base.json."""
    config: Mapping[str, Any]
    """The value of the model's config.json."""
    model_files: Sequence[File]
    """The files that the model is loaded from."""
    data_files: Sequence[File]
    """The parquet files of the clean data."""
    raw_sets: Sequence[RawSet]
    packages: Sequence[Package]
    expectations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`raw` and `clean` -> the results of their expectations."""
    base_reference: tuple[str, str] | None = None
    """Id and revision of a base from the hub."""
    merge: Recipe | None = None
    """How the parents were merged; None for a model that was not merged."""

    @property
    def form(self) -> RecordForm:
        """The form of the records."""
        return RecordForm.from_json(self.dataset)

    @property
    def approach(self) -> LearningApproach:
        """How the fine-tuning learns."""
        return "self-supervised" if self.p.task == "language-modeling" else "supervised"

    @property
    def base_name(self) -> str:
        """Where the base is from, in words."""
        if self.base_reference:
            name, revision = self.base_reference
            return f"{name} at revision {revision}"
        if self.p.base.source == "builtin":
            return f"builtin, pretrained on {self.p.data.pretraining}"
        if self.merge:
            return f"{self.p.base.input}: {self.merge.describe()}"
        return self.p.base.input

    @property
    def architecture(self) -> str:
        """The class of the model, such as LlamaForCausalLM."""
        found = self.config.get("architectures")
        return str(found[0]) if isinstance(found, list) and found else "unknown"


class MetricFact(NamedTuple):
    """A metric of the candidate on the test rows."""

    name: str
    """One of METRICS, or of OF_LABEL."""
    value: float
    low: float | None
    """Bounds of the 95 % interval; None where there is none."""
    high: float | None
    slice: str | None = None
    """The label that the metric is of."""


def metrics(facts: Facts) -> list[MetricFact]:
    """The candidate's metrics with their intervals, those of single labels last."""
    own: Mapping[str, Any] = facts.evaluation["candidate"]
    found = []
    for name in METRICS:
        if name in own:
            low, high = _bounds(facts.measures.get("value", {}).get(name))
            found.append(MetricFact(name, float(own[name]), low, high))
    for kind in OF_LABEL:
        for label, value in facts.evaluation.get(kind, {}).items():
            low, high = _bounds(facts.measures.get("value", {}).get(f"{kind}:{label}"))
            found.append(MetricFact(kind, float(value), low, high, label))
    return found


def _bounds(measure: Interval | str | None) -> tuple[float | None, float | None]:
    return (measure.low, measure.high) if isinstance(measure, Interval) else (None, None)


INPUTS: Mapping[Task, tuple[str, str]] = {
    "sft": ("text: a prompt", "text: the completion"),
    "language-modeling": ("text", "text: its continuation"),
    "classification": ("text", "label with its probability"),
    "regression": ("text", "number"),
    "preference": ("text: a prompt", "text: the answer"),
}
"""Task -> what the model is given, and what it answers."""


def inputs_and_outputs(facts: Facts) -> tuple[str, str]:
    """What the model is given, and what it answers, in words."""
    given, answered = INPUTS[facts.p.task]
    if facts.form.conversational:
        return "conversation: a list of messages", "text: the assistant's next message"
    return given, answered.replace("label", "labels") if facts.form.multi_label else answered
