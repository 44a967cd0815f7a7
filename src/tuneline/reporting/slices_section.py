"""The slices of the test rows for the report: of each column the slice with the worst value first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuneline.data.secrets import screening
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.slices import Slice, Sliced, SlicedColumn
from tuneline.params.gate import METRICS, is_of_label
from tuneline.params.slices import GAP, LABEL, split_gap, split_slice
from tuneline.reporting import charts

MOST_METRICS = 4
"""Metrics of a table, so that it fits on the page."""
# All rows of such a slice have the same label, so what compares labels with each other means nothing there.
_BETWEEN_LABELS = ("macro_f1", "weighted_f1", "matthews_corrcoef")
_Versus = Literal["champion", "base", "baseline"]
_ORDER: tuple[_Versus, ...] = ("champion", "base", "baseline")


@dataclass(frozen=True)
class Cell:
    """A metric of the candidate on one slice."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One slice."""

    value: str
    """Empty: rows without a value."""
    others: int
    """The number of values that the rest holds; 0: the slice is that of one value."""
    rows: int
    cells: tuple[Cell, ...]
    has_failed: bool
    """Whether a rule names this slice and has failed."""


@dataclass(frozen=True)
class Column:
    """The slices of one column, the worst first; those with too few rows for an interval last."""

    name: str
    metric: str
    """The metric by which they are ordered."""
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    gap: Cell | None
    """The largest difference between two slices; None where fewer than two are large enough."""
    strips: tuple[charts.Strip, ...]
    """How the candidate differs from the champion, else the base, else the best baseline on each slice."""


def columns(
    sliced: Sliced,
    metrics: Sequence[str],
    gate: Mapping[str, Any],
    champion: Sliced,
    gaps: Mapping[str, Interval | str],
) -> list[Column]:
    """What the page shows of the slices.

    Args:
        sliced: of evaluation.
        metrics: of the task; the first that a rule of the gate asks for orders the slices.
        gate: the value of gate.json; empty before the gate has run.
        champion: the slices on which the candidate was compared with the champion.
        gaps: `gap:METRIC:COLUMN` -> the candidate's gap.
    """
    rules = gate.get("rules", [])
    return [
        _column(name, of, _shown(name, of, metrics, rules), rules, champion.get(name), gaps)
        for name, of in sliced.items()
        if of.slices
    ]


def _shown(name: str, of: SlicedColumn, metrics: Sequence[str], rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of a column's table; the one that orders its slices first."""
    measured = {metric for one in of.slices for metric in one.metrics["candidate"]}
    known = [one for one in metrics if one in measured and not (name == LABEL and one in _BETWEEN_LABELS)]
    about = [rule for rule in rules if (rule.get("slice") or "").split("=")[0] == name]
    asked = [_measured(rule["metric"]) for rule in (*about, *rules) if not is_of_label(rule["metric"])]
    return [one for one in dict.fromkeys([*asked, *known]) if one in known][:MOST_METRICS]


def _measured(metric: str) -> str:
    gap = split_gap(metric)
    return gap[0] if gap else metric


def _column(
    name: str,
    of: SlicedColumn,
    metrics: Sequence[str],
    rules: Sequence[Mapping[str, Any]],
    champion: SlicedColumn | None,
    gaps: Mapping[str, Interval | str],
) -> Column:
    first = metrics[0] if metrics else ""
    failed = {split_slice(rule["slice"], [name]) for rule in rules if rule.get("slice") and rule["verdict"] == "failed"}

    def order(one: Slice) -> tuple[bool, bool, float]:
        value = one.metrics["candidate"].get(first)
        cell = _cell(one, first)
        sign = METRICS[first].sign if first else 0.0
        return (name, one.value) not in failed, cell.low is None, 0.0 if value is None else sign * value

    ordered = sorted(of.slices, key=order)
    own = sum(one.value is not None for one in of.slices)
    lines = [
        Line(
            screening.hidden(one.value or ""),
            0 if one.value is not None else of.values - own,
            one.rows,
            tuple(_cell(one, metric) for metric in metrics),
            (name, one.value) in failed,
        )
        for one in ordered
    ]
    gap = gaps.get(f"{GAP}{first}:{name}")
    return Column(
        name,
        first,
        tuple(metrics),
        tuple(lines),
        Cell(first, gap.difference, gap.low, gap.high) if isinstance(gap, Interval) else None,
        tuple(charts.strips(_differences(name, ordered, champion, first), common_scale=True)),
    )


def _cell(one: Slice, metric: str) -> Cell:
    value, own = one.metrics["candidate"].get(metric), one.versus.get("value", {}).get(metric)
    return Cell(metric, value, *((own.low, own.high) if isinstance(own, Interval) else (None, None)))


def _differences(
    name: str, ordered: Sequence[Slice], champion: SlicedColumn | None, metric: str
) -> list[charts.Difference]:
    """How the candidate differs in one metric on each slice that has an interval, in their order."""
    theirs = {} if champion is None else {one.value: one.versus for one in champion.slices}
    merged = [(one.value, {**one.versus, **theirs.get(one.value, {})}) for one in ordered]
    known: list[_Versus] = [model for model in _ORDER if any(_interval(versus, model, metric) for _, versus in merged)]
    found, sign = [], METRICS[metric].sign if known else 0.0
    for value, versus in merged:
        measured = _interval(versus, known[0], metric) if known else None
        if measured is None or measured.low is None or measured.high is None:
            continue
        low, high = sorted((sign * measured.low, sign * measured.high))
        called = name if value is None else f"{name}={screening.hidden(value)}"
        found.append(
            charts.Difference(metric, known[0], sign * measured.difference, low, high, None, known[0], "", called)
        )
    return found


def _interval(versus: Mapping[str, Mapping[str, Interval | str]], model: str, metric: str) -> Interval | None:
    found = versus.get(model, {}).get(metric)
    return found if isinstance(found, Interval) and found.low is not None else None
