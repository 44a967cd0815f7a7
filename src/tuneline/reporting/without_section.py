"""The candidate beside the same training without some of its rows, for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneline.params.gate import METRICS
from tuneline.reporting import charts


@dataclass(frozen=True)
class Line:
    """A metric of both trainings."""

    metric: str
    candidate: float | None
    without: float
    better: str
    """`candidate`, `without`, or empty where they are equal."""


@dataclass(frozen=True)
class Comparison:
    """One comparison with a training without some rows."""

    name: str
    left_out: tuple[str, ...]
    steps: int
    candidate_steps: int | None
    lines: tuple[Line, ...]
    strips: tuple[charts.Strip, ...]
    sentence: str


def comparisons(
    gate: Mapping[str, Any], evaluation: Mapping[str, Any], training: Mapping[str, Any], metrics: Sequence[str]
) -> tuple[Comparison, ...]:
    """The comparisons that the gate has made; empty where none was asked for.

    Args:
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        training: the value of training.json.
        metrics: those of the task.
    """
    return tuple(
        _comparison(name, one, evaluation["candidate"], training.get("steps"), metrics)
        for name, one in gate.get("without", {}).items()
    )


def _comparison(
    name: str, one: Mapping[str, Any], own: Mapping[str, float], steps: int | None, metrics: Sequence[str]
) -> Comparison:
    left_out, versus = tuple(one["left_out"]), one["versus"]
    found = []
    for metric in metrics:
        measured, sign = versus.get(metric, {}), METRICS[metric].sign
        if measured.get("low") is None or not sign:
            continue
        low, high = sorted((sign * measured["low"], sign * measured["high"]))
        against = f"the same training without {', '.join(left_out)}"
        found.append(charts.Difference(metric, against, sign * measured["difference"], low, high, None, "baseline"))
    values = one["values"]
    lines = tuple(
        Line(metric, own.get(metric), values[metric], _better(metric, own.get(metric), values[metric]))
        for metric in metrics
        if metric in values
    )
    strips = tuple(charts.strips(found))
    return Comparison(name, left_out, one["steps"], steps, lines, strips, _sentence(strips))


def _better(metric: str, candidate: float | None, without: float) -> str:
    sign = METRICS[metric].sign
    if candidate is None or round(candidate, 6) == round(without, 6) or not sign:
        return ""
    return "candidate" if sign * candidate > sign * without else "without"


def _sentence(strips: Sequence[charts.Strip]) -> str:
    better = sum(one.state == "better" for one in strips)
    worse = sum(one.state == "worse" for one in strips)
    if not strips:
        return "There are too few test rows to say whether these rows have helped."
    if better and worse:
        return f"These rows have helped in {better} metrics and harmed in {worse}; the other intervals contain zero."
    if better:
        return f"These rows have helped: the interval is above zero in {better} of {len(strips)} metrics."
    if worse:
        return f"These rows have harmed: the interval is below zero in {worse} of {len(strips)} metrics."
    return "Whether these rows have helped is not decided: every interval contains zero."
