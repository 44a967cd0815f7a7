"""What fine-tuning has made the model forget and memorise, for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.data.secrets import screening
from tuneline.evaluation import results
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.probes import probe_table
from tuneline.evaluation.probes.probe_table import CANARIES, COPIED, GENERAL, MEMORISED, PROBES, Probed
from tuneline.params.gate import metric

_MOST_SPANS = 8

_MEANING = {
    GENERAL: "How many bits the model needs to encode general text that no training has seen, per byte of the text. "
    "More than the base needs is what fine-tuning has made the model forget.",
    MEMORISED: "Exact memorization is the share of the tokens of a training row that are the model's likeliest next "
    "token; extraction strength is the share at the end of the row that the model writes on its own. The gap is the "
    "value on training rows minus the value on test rows: what anybody could guess is in both.",
    COPIED: "The share of the words of all answers that are in spans of at least 8 words, or characters of scripts "
    "without spaces, that a training row contains too.",
    CANARIES: "How far random sequences that were planted in the training rows rank above random sequences that were "
    "not, in bits. A model that has not learned them by heart has about 1.44.",
}
"""Probe -> what its metrics mean."""

_HARNESS = "The mean score of the documents of a task of lm-evaluation-harness, by the first metric of the task."


@dataclass(frozen=True)
class Line:
    """One metric of candidate and base."""

    metric: str
    name: str
    candidate: float | None
    base: float | None
    difference: Interval | None
    """Candidate minus base; None where it has no interval."""


@dataclass(frozen=True)
class Group:
    """The metrics of one probe."""

    probe: str
    meaning: str
    counts: Mapping[str, Any]
    """What the probe was measured on."""
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Span:
    """A span of an answer that is in a training row too."""

    text: str
    units: int
    answer: str
    """The source of the answered row."""
    origin: str
    """The source of the training row."""


@dataclass(frozen=True)
class Forgetting:
    """What the page shows."""

    groups: tuple[Group, ...]
    absent: tuple[tuple[str, str], ...]
    """Metric, and why it was not measured."""
    spans: tuple[Span, ...]
    """The longest first."""
    copied_by_references: float | None
    """The copied share of the references, which a perfect model would write."""
    highest: int
    """Canaries that rank above every sequence that was not planted."""


def read(reports: Path, evaluation: Mapping[str, Any]) -> Forgetting | None:
    """What the probes have measured; None where the evaluation has no probes.

    Args:
        reports: the folder of reports.
        evaluation: the value of evaluation.json.
    """
    about = reports / "probes.json"
    if not about.is_file():
        return None
    counts = files.read_object(about, "absent")
    probed = probe_table.from_table(files.read_parquet(reports / "probes.parquet"))
    intervals = results.read_intervals(files.read_object(reports / "intervals.json"))
    groups = tuple(
        Group(
            name,
            _MEANING.get(name, _HARNESS),
            counts.get(name, {}),
            _lines(name, evaluation, intervals.get("base", {})),
        )
        for name in (*PROBES, *(name for name in probed if name not in PROBES))
        if name in probed
    )
    absent = tuple(
        (metric(name).name, reason)
        for probe, reason in counts["absent"].items()
        for name in probe_table.probe_of(probe).metrics
    )
    if not groups and not absent:
        return None
    references = probe_table.summarise({name: probed[name] for name in probed if name == COPIED}, "reference")
    return Forgetting(groups, absent, _spans(probed), references.get("copied_share"), _highest(probed))


def _lines(name: str, evaluation: Mapping[str, Any], versus_base: Measures) -> tuple[Line, ...]:
    lines = []
    for one in probe_table.probe_of(name).metrics:
        candidate, base = (evaluation.get(model, {}).get(one) for model in ("candidate", "base"))
        difference = versus_base.get(one)
        lines.append(
            Line(one, metric(one).name, candidate, base, difference if isinstance(difference, Interval) else None)
        )
    return tuple(lines)


def _spans(probed: Mapping[str, Probed]) -> tuple[Span, ...]:
    """The longest copied spans of the candidate's answers, each text once, without secrets."""
    if COPIED not in probed:
        return ()
    rows, own = probed[COPIED].rows, probed[COPIED].scores["candidate"]
    found = [
        Span(screening.hidden(copy["span"]), copy["longest"], source, copy["origin"])
        for copy, source in zip(own.to_pylist(), rows["source"].to_pylist(), strict=True)
        if copy["longest"]
    ]
    different: dict[str, Span] = {}
    for span in sorted(found, key=lambda span: -span.units):
        different.setdefault(span.text, span)
    return tuple(different.values())[:_MOST_SPANS]


def _highest(probed: Mapping[str, Probed]) -> int:
    if CANARIES not in probed:
        return 0
    nll = probed[CANARIES].scores["candidate"]["nll"].to_pylist()
    planted = probed[CANARIES].rows["planted"].to_pylist()
    others = min(value for value, is_planted in zip(nll, planted, strict=True) if not is_planted)
    return sum(is_planted and value < others for value, is_planted in zip(nll, planted, strict=True))
