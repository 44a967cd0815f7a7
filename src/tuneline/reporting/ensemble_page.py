"""The page of an ensemble: one HTML file in the colours of the report. It loads and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tuneline
from tuneline import params
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.params.gate import METRICS, metric
from tuneline.reporting import charts, report

# The table has more columns than a phone is wide; these few decide.
_SHOWN = 6


@dataclass(frozen=True)
class Rows:
    """The rows of a split."""

    split: str
    measured: int
    trained: int
    """Left out, because a member was trained on them."""
    near: int
    """Left out, because a member was trained on near duplicates."""


@dataclass(frozen=True)
class Weights:
    """Weights that were fitted on the validation rows."""

    shares: tuple[float, ...]
    """Of each version."""
    loss: float
    uniform_loss: float
    gap: float


@dataclass(frozen=True)
class Mixed:
    """How a mixture differs from a member or from another mixture."""

    of: str
    versus: str
    measures: Measures


@dataclass(frozen=True)
class EnsemblePage:
    """What the page shows. Models are called as in `metrics`."""

    model: str
    versions: tuple[str, ...]
    groups: int
    rows: tuple[Rows, ...]
    """Of validation and test."""
    weights: Weights | None
    metrics: Mapping[str, Mapping[str, float]]
    mixtures: tuple[str, ...]
    """The last of them is the one that the title is about."""
    differences: Sequence[Mixed]
    remarks: tuple[str, ...]


def render(page: EnsemblePage, language: params.Language) -> str:
    """The page as HTML. Every text from data or a model is escaped."""
    names = list(page.metrics[page.mixtures[0]])[:_SHOWN]
    best = {name: METRICS[name].best([one[name] for one in page.metrics.values() if name in one]) for name in names}
    return (
        report.templates(language)
        .get_template("ensemble.html.jinja")
        .render(
            page=page,
            title=_title(page),
            versions=" + ".join(page.versions),
            test=next(one for one in page.rows if one.split == "test"),
            columns=names,
            best=best,
            names={name: one.name for name, one in METRICS.items()},
            digits={name: one.report_digits for name, one in METRICS.items()},
            strips={name: charts.strips(_differences(page, name)) for name in page.mixtures},
            unmeasured=_unmeasured(page),
            language=report.HTML_LANGUAGES[language],
            version=tuneline.__version__,
        )
    )


def _title(page: EnsemblePage) -> str:
    """What the intervals of the first metric say, in a sentence."""
    mixture = page.mixtures[-1]
    found = [
        one for one in _differences(page, mixture) if one.versus in page.metrics and one.versus not in page.mixtures
    ]
    first = [one for one in found if one.metric == found[0].metric]
    if not first:
        return "The test rows are too few for an interval"
    if all(one.low > 0 for one in first):
        return "Together the versions are better than each of them"
    if any(one.high < 0 for one in first):
        return "Together the versions are worse than one of them alone"
    return "It is not shown that the versions are better together than each of them"


def _differences(page: EnsemblePage, mixture: str) -> list[charts.Difference]:
    found = []
    for one in page.differences:
        for name, measured in one.measures.items() if one.of == mixture else ():
            sign = metric(name).sign
            if sign and isinstance(measured, Interval) and measured.low is not None and measured.high is not None:
                low, high = sorted((sign * measured.low, sign * measured.high))
                found.append(charts.Difference(name, one.versus, sign * measured.difference, low, high, None))
    # Those of one metric below each other.
    order = [name for one in page.differences for name in one.measures]
    return sorted(found, key=lambda one: order.index(one.metric))


def _unmeasured(page: EnsemblePage) -> list[tuple[str, str]]:
    reasons = {
        (name, measured)
        for one in page.differences
        for name, measured in one.measures.items()
        if isinstance(measured, str)
    }
    return sorted(reasons)
