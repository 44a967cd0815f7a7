"""The verdict of the report: one sentence, what follows from it, and the three numbers that matter most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneline.gate.behaviour_rule import CHECKS
from tuneline.params.gate import METRICS, metric
from tuneline.params.slices import split_gap, split_slice
from tuneline.reporting import charts

Gate = Mapping[str, Any]
"""The value of gate.json; empty before the gate has run."""

_MOST = 3
_VERDICTS = ("failed", "undecided", "passed", "not applicable")
_VERSUS = ("champion", "base", "baseline", "value")


@dataclass(frozen=True)
class Picture:
    """One of the numbers that matter most: the candidate's value, and the interval of its improvement."""

    name: str
    value: float | None
    """The candidate's; None where the evaluation has no single number, as for every slice of a column."""
    digits: int
    strip: charts.Strip


def headline(model: str, gate: Gate, evaluation: Mapping[str, Any], metrics: Sequence[str], does: str) -> str:
    """The verdict in one sentence.

    Args:
        model: the name of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        metrics: of the task, the most telling first.
        does: what the model does, for a page without a verdict.
    """
    verdict = gate.get("verdict")
    others = _compared_with(gate)
    if verdict == "failed" and _fails_only_checks(gate):
        return f"The new {model} is not good enough: it fails a behaviour check."
    if verdict == "passed":
        return f"The new {model} is good enough: on text it has never seen, it meets every rule against {others}."
    if verdict == "failed":
        return f"The new {model} is not good enough: on text it has never seen, it fails a rule against {others}."
    if verdict == "undecided" and _is_no_better(gate):
        return (
            f"The test rows do not show that the new {model} is better than its base, but it is not so much worse "
            "that it fails."
        )
    if verdict == "undecided" and (worse := _worse_than(gate)):
        return (
            f"The new {model} is worse than {worse}; the test rows are too few to decide whether it is worse than is "
            "tolerated."
        )
    if verdict == "undecided":
        return f"The test rows are too few to decide whether the new {model} is good enough."
    versus, other = ("base", "its base") if "versus_base" in evaluation else ("baseline", "the trivial baselines")
    measures = evaluation.get(f"versus_{versus}", {})
    first = next((name for name in METRICS if name in metrics and name in measures), None)
    is_better = first is not None and METRICS[first].sign * (measures[first].get("difference") or 0.0) > 0
    return (
        f"The new {model} {does} {'better' if is_better else 'no better'} than {other}; its rules are not decided yet."
    )


def _is_no_better(gate: Gate) -> bool:
    """Whether only rules versus the base are undecided, and more test rows would not decide them."""
    rules = [rule for rule in gate.get("rules", []) if rule["verdict"] == "undecided"]
    return bool(rules) and all(
        rule["versus"] == "base"
        and not rule.get("slice")
        and rule["high"] is not None
        and rule["high"] <= rule["margin"] + rule.get("noise_floor", 0.0)
        for rule in rules
    )


def _fails_only_checks(gate: Gate) -> bool:
    """Whether the only rule that failed is that about behaviour checks."""
    failed = {rule["versus"] for rule in gate.get("rules", []) if rule["verdict"] == "failed"}
    return failed == {CHECKS}


def _worse_than(gate: Gate) -> str:
    """The models than which the candidate is surely worse in an undecided rule, in words."""
    rules = [rule for rule in gate.get("rules", []) if rule["verdict"] == "undecided"]
    # A slice may look worse by chance.
    worse = {
        rule["versus"] for rule in rules if rule["high"] is not None and rule["high"] < 0 and not rule.get("slice")
    }
    words = _models(gate)
    return " and ".join(words[versus] for versus in words if versus in worse)


def _compared_with(gate: Gate) -> str:
    """What the rules compare the candidate with; after a failure only in the rules that failed."""
    is_failed = gate.get("verdict") == "failed"
    asked = {rule["versus"] for rule in gate.get("rules", []) if not is_failed or rule["verdict"] == "failed"}
    words = _models(gate)
    found = [words[versus] for versus in words if versus in asked]
    return ", ".join(found[:-1]) + (" and " if found[:-1] else "") + (found[-1] if found else "the current model")


def _models(gate: Gate) -> dict[str, str]:
    words = {"base": "its base", "baseline": "the trivial baselines", "value": "fixed values"}
    if gate.get("champion") is not None:
        words["champion"] = f"version {gate['champion']['version']}"
    return words


def consequence(gate: Gate) -> str:
    """What follows from the verdict."""
    return {
        "passed": "It may be registered, and a person may make it the champion.",
        "failed": "It is not registered. The champion stays the same."
        if gate.get("champion") is not None
        else "It is not registered.",
        "undecided": "It may be registered with this verdict. It becomes the champion only if a person overrides the "
        "verdict.",
    }.get(gate.get("verdict", ""), "`tuneline gate` decides the rules.")


def counts(gate: Gate) -> list[tuple[str, int]]:
    """Verdicts of rules with the number of such rules, the most serious first."""
    found = [rule["verdict"] for rule in gate.get("rules", [])]
    return [(verdict, found.count(verdict)) for verdict in _VERDICTS if verdict in found]


def pictures(evaluation: Mapping[str, Any], differences: Sequence[charts.Difference]) -> list[Picture]:
    """The three numbers that matter most: those of rules before others, the most serious verdict first.

    Args:
        evaluation: the value of evaluation.json.
        differences: every difference with an interval.
    """

    def rank(item: charts.Difference) -> tuple[int, int]:
        return _VERDICTS.index(item.verdict) if item.verdict else len(_VERDICTS), _VERSUS.index(item.kind)

    return [
        Picture(
            name=metric(strip.difference.metric).name,
            value=_value(evaluation, strip.difference),
            digits=metric(strip.difference.metric).report_digits,
            strip=strip,
        )
        for strip in charts.strips(sorted(differences, key=rank)[:_MOST])
    ]


def _value(evaluation: Mapping[str, Any], item: charts.Difference) -> float | None:
    if gap := split_gap(item.metric):
        return evaluation.get("gaps", {}).get(gap[1], {}).get(gap[0])
    if not item.slice:
        return evaluation["candidate"].get(item.metric)
    slices = evaluation.get("slices", {})
    column, value = split_slice(item.slice, slices) or ("", None)
    return None if value is None else slices[column].get(value, {}).get(item.metric)
