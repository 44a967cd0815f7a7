"""reports/search.html: what a search has found, on one page that loads nothing and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import tuneline
from tuneline import params
from tuneline.evaluation.intervals import Interval
from tuneline.params.gate import METRICS, metric
from tuneline.reporting import charts, report
from tuneline.search import pictures
from tuneline.search.against_default import Compared
from tuneline.search.objective import Objective
from tuneline.search.result import Result, State
from tuneline.search.space import Space, Value


@dataclass(frozen=True)
class Page:
    """What the page shows."""

    model: str
    name: str
    space: Space
    results: Sequence[Result]
    best: Result | None
    importance: Mapping[str, float]
    compared: Compared | None
    wanted: int
    """How many trials were asked for."""
    threads: int
    workers: int
    objective: Objective


def render(page: Page, language: params.Language) -> str:
    """The page as HTML. Every text from data, params or a model is escaped."""
    environment = report.templates(language, Path(__file__).parent)
    environment.filters["value"] = pictures.shown
    return environment.get_template("search.html.jinja").render(
        page=page,
        language=report.HTML_LANGUAGES[language],
        counts={state: sum(result.state == state for result in page.results) for state in get_args(State)},
        parallel=pictures.parallel(page.space.space, page.results, page.best.number if page.best else None),
        size=(pictures.WIDTH, pictures.HEIGHT),
        default=page.results[0] if page.results else None,
        changed=_changed(page),
        strips=charts.strips(_differences(page.compared)),
        unmeasured=_unmeasured(page.compared),
        names={name: one.name for name, one in METRICS.items()},
        version=tuneline.__version__,
    )


def _changed(page: Page) -> list[tuple[str, Value, Value]]:
    """The keys with the values of today and of the best trial."""
    if page.best is None:
        return []
    default = page.results[0].values
    return [(key, default[key], page.best.values[key]) for key in page.space.space]


def _differences(compared: Compared | None) -> list[charts.Difference]:
    found = []
    for name, one in (compared.measures if compared else {}).items():
        if not isinstance(one, Interval) or one.low is None or one.high is None or name not in METRICS:
            continue
        sign = metric(name).sign
        if sign:
            low, high = sorted((sign * one.low, sign * one.high))
            found.append(charts.Difference(name, "today's values", sign * one.difference, low, high, None))
    return found


def _unmeasured(compared: Compared | None) -> list[tuple[str, str]]:
    return [(name, one) for name, one in (compared.measures if compared else {}).items() if isinstance(one, str)]
