"""Measure an ensemble of registered versions: verify them, say what it costs, and print what was measured."""

from collections.abc import Sequence
from pathlib import Path

from tuneline import params
from tuneline.commands.ask import served_version
from tuneline.core import files
from tuneline.decisions import about_version
from tuneline.errors import DataError, ModelError, RegistryError
from tuneline.evaluation.intervals import Interval
from tuneline.fusion.ensembles import ensemble, ensemble_rows, fit_together
from tuneline.fusion.ensembles.ensemble import FITTED, UNIFORM, Difference, Plan, Result
from tuneline.fusion.ensembles.ensemble_rows import Member
from tuneline.fusion.ensembles.mixtures import MIXTURES
from tuneline.params.gate import metric
from tuneline.registry import tracking
from tuneline.reporting import ensemble_page
from tuneline.reporting.ensemble_page import EnsemblePage, Mixed, Rows, Weights

_MIXTURES = {UNIFORM: "equal weights", FITTED: "fitted weights"}
"""What the page calls them."""


def plan(p: params.Params, names: Sequence[str]) -> Plan:
    """Verify the versions, and find the rows on which they can be measured.

    Args:
        p: the params.
        names: numbers or aliases of versions.

    Raises:
        TunelineError: these versions cannot be an ensemble; all reasons.
        TrackingError: MLflow does not answer.
    """
    problems = [problem] if (problem := fit_together.task_problem(p)) else []
    members, of_versions = _members(p, names)
    problems += of_versions
    try:
        form = ensemble_rows.clean_form(p)
    except DataError as error:
        raise DataError(*problems, *error.problems) from None
    if fit_together.task_problem(p) or not members:
        raise ModelError(*problems)
    made, found = ensemble.plan(p, form, members)
    if made is None or problems:
        raise ModelError(*problems, *found)
    return made


def _members(p: params.Params, names: Sequence[str]) -> tuple[list[Member], list[str]]:
    """The versions that can be read, and what is wrong with the others."""
    tracker, members, problems = tracking.connect(), dict[str, Member](), []
    for name in names:
        try:
            number = about_version.find_number(tracker, p.registry.model, name)
            if number in members:
                problems.append(f"version {number} is given twice; a weight of its own needs no second place")
                continue
            served = served_version.serve(p, version=int(number), alias="")
        except (RegistryError, ModelError) as error:
            problems += error.problems
            continue
        members[number] = Member(number, served.folder)
    if len(set(names)) < 2:
        problems.append("an ensemble has at least two members; give two or more versions, as in: tuneline ensemble 3 4")
    return list(members.values()), problems


def cost(p: params.Params, made: Plan) -> str:
    """What it costs, in a sentence."""
    return ensemble.cost(p, made)


def write_page(p: params.Params, result: Result, output: Path | None) -> Path:
    """Write the page of an ensemble, and return its path.

    Args:
        p: the params.
        result: what was measured.
        output: the page; None: a file in the folder of reports.
    """
    made, fitted = result.plan, result.fitted
    splits = {"test": made.test, "validation": made.validation}
    page = EnsemblePage(
        model=result.model,
        versions=result.members,
        groups=_groups(result),
        rows=tuple(Rows(name, one.rows.num_rows, one.trained, one.near) for name, one in splits.items()),
        weights=fitted and Weights(fitted.weights, fitted.loss, fitted.uniform_loss, fitted.gap),
        metrics={_MIXTURES.get(name, name): found for name, found in result.metrics.items()},
        mixtures=tuple(_MIXTURES[name] for name in _MIXTURES if name in result.metrics),
        differences=[
            Mixed(_MIXTURES[one.of], _MIXTURES.get(one.versus, one.versus), one.measures) for one in result.differences
        ],
        remarks=made.remarks,
    )
    path = output or Path(p.paths.reports) / "ensembles" / f"v{'-'.join(result.members)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, ensemble_page.render(page, p.report.language))
    return path


def _groups(result: Result) -> int:
    return len(set(result.plan.test.rows["cluster"].to_pylist()))


def lines(result: Result) -> list[str]:
    """What was measured, for a person."""
    test, validation = result.plan.test, result.plan.validation
    found = [
        f"{result.model}: versions {' and '.join(result.members)} on {test.rows.num_rows:,} test rows of "
        f"{_groups(result):,} groups"
    ]
    found += [f"note: {remark}" for remark in result.plan.remarks]
    found += _weights(result, validation.rows.num_rows)
    names = list(result.metrics[UNIFORM])
    table = [["", *(metric(name).name for name in names)]]
    for model, metrics in result.metrics.items():
        table.append([model, *(_digits(name, metrics.get(name)) for name in names)])
    return [*found, *_aligned(table), *(line for one in result.differences for line in _difference(one))]


def _weights(result: Result, rows: int) -> list[str]:
    if result.fitted is None:
        return ["fitted weights: none, because no validation row is left that no member was trained on"]
    fitted, mixture = result.fitted, MIXTURES[result.task]
    shares = zip(result.members, fitted.weights, strict=True)
    return [
        f"fitted weights: {', '.join(f'version {name} {weight:.3f}' for name, weight in shares)}; from {rows:,} "
        f"validation rows with {fitted.items:,} {mixture.item}, {mixture.loss} {fitted.loss:.4f} (equal weights "
        f"{fitted.uniform_loss:.4f}; no other weights are better by more than {fitted.gap:.0e})"
    ]


def _difference(one: Difference) -> list[str]:
    found = []
    for name, measured in one.measures.items():
        if isinstance(measured, Interval):
            digits = metric(name).digits
            bounds = (
                "too few groups for an interval"
                if measured.low is None or measured.high is None
                else f"95 % interval {measured.low:+.{digits}f} to {measured.high:+.{digits}f}"
            )
            said = f"{measured.difference:+.{digits}f} ({bounds}): {verdict(name, measured)}"
        else:
            said = f"not measured: {measured}"
        found.append(f"{one.of} − {one.versus}: {metric(name).name} {said}")
    return found


def verdict(name: str, measured: Interval) -> str:
    """What an interval says about a mixture: better, worse or neither."""
    sign = metric(name).sign
    if not sign or measured.low is None or measured.high is None:
        return "not decided"
    low, high = sorted((sign * measured.low, sign * measured.high))
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def _digits(name: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.{metric(name).digits}f}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
