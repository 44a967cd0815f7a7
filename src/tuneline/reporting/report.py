"""The report: one HTML page that shows whether the candidate is good enough, and why. It loads and runs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

import tuneline
from tuneline import params
from tuneline.behaviour import check_results
from tuneline.core import files
from tuneline.evaluation import results, slices
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Sliced
from tuneline.fusion.merging import merge_recipe
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.reporting import (
    catalogue,
    charts,
    comparison_section,
    curves,
    data_section,
    filters,
    forgetting_section,
    overfitting_section,
    samples_section,
    slices_section,
    verdict_section,
    without_section,
)
from tuneline.reporting.behaviour_section import Behaviour, behaviour_of
from tuneline.reporting.calibration_section import Calibration, calibration_of
from tuneline.reporting.label_section import MOST_IN_WORDS, MOST_ON_A_PHONE, Labels, labels_of
from tuneline.reporting.samples_section import MakeSections, Section

# The others are folded.
_OPEN_SAMPLES = 2
_OPEN_LABELS = 8
_OPEN_SLICES = 8
_OPEN_COLUMNS = 2
_OPEN_DIFFERENCES = 6
_OPEN_METRICS = 6
HTML_LANGUAGES: dict[params.Language, str] = {"en": "en", "zh": "zh-Hans"}
"""Language of a page -> the value of its attribute `lang`."""


@dataclass(frozen=True)
class Part:
    """A part of the page below the summary, with an entry in the table of contents."""

    name: str
    """The anchor of the part; its template is report_<name>.html.jinja and shows `part.content`."""
    title: str
    content: Any
    """Nothing (None, an empty tuple or dict): the part is left out."""


@dataclass(frozen=True)
class TaskPage:
    """What the page of a task shows."""

    samples: MakeSections
    does: str = "predicts unseen text"
    """What the model does, for the headline."""
    has_labels: bool = False
    """Whether the page has a table of labels."""
    has_answers: bool = False
    """Whether the task is to write answers to prompts."""


TASK_PAGES: dict[params.Task, TaskPage] = {
    "sft": TaskPage(samples_section.answers, has_answers=True),
    "language-modeling": TaskPage(samples_section.continuations),
    "classification": TaskPage(samples_section.labels, "predicts the labels of unseen text", has_labels=True),
    "regression": TaskPage(samples_section.numbers, "predicts the numbers of unseen text"),
    "preference": TaskPage(samples_section.preferences),
}


@dataclass(frozen=True)
class Report:
    """The values of the page."""

    model: str
    task: params.Task
    evaluation: dict[str, Any]
    """The value of evaluation.json."""
    gate: dict[str, Any] | None = None
    """The value of gate.json; None before the gate has run."""
    samples: tuple[Section, ...] = ()
    labels: Labels | None = None
    """Only for a task with labels."""
    calibration: Calibration | None = None
    """Only where each row has one label."""
    sliced: Sliced = field(default_factory=dict)
    """Of slices.json."""
    champion_slices: Sliced = field(default_factory=dict)
    """The slices on which the candidate was compared with the champion."""
    gaps: Measures = field(default_factory=dict)
    """The candidate's own gaps between slices."""
    behaviour: Behaviour | None = None
    """None where there are no checks."""
    forgetting: forgetting_section.Forgetting | None = None
    training: charts.Curve | None = None
    pretraining: charts.Curve | None = None
    training_course: overfitting_section.Course | None = None
    pretraining_course: overfitting_section.Course | None = None
    training_json: dict[str, Any] = field(default_factory=dict)
    base_json: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    """The value of prepare.json."""
    augmented: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of variants of training rows -> the value of its file in augmented/."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Type of secret -> what is done with it."""
    data_docs: tuple[dict[str, str], ...] = ()
    """Pages of Great Expectations: path from the page, and name."""
    lineage: dict[str, str] = field(default_factory=dict)
    params_text: str = ""
    shows_pretraining: bool = True
    """Whether the page shows the pretraining text as a set of its own."""
    language: params.Language = "en"

    @property
    def champion(self) -> dict[str, Any] | None:
        """Version and metrics of the champion; None where the candidate was not compared with a champion."""
        return (self.gate or {}).get("champion")


def assemble(
    reports: Path,
    p: params.Params,
    *,
    gate: dict[str, Any] | None = None,
    lineage: Mapping[str, str] | None = None,
    champion_texts: Mapping[str, str] | None = None,
    params_file: Path = Path(params.PARAMS_FILE),
) -> Report:
    """Read the values of the page. Only evaluation.json is required; the part of any other missing file is left out.

    Args:
        reports: the folder of reports.
        p: the params.
        gate: the value of gate.json; None: it is read, if it exists.
        lineage: name -> value, as the tags of a version.
        champion_texts: row id -> the champion's answer.
        params_file: the params as written, which the page shows folded.
    """
    scored = reports / "rows.parquet"
    rows = files.read_parquet(scored) if scored.is_file() else None
    samples, page = (), TASK_PAGES[p.task]
    checked = reports / check_results.FILE
    if rows is not None:
        samples = tuple(samples_section.sections(rows, page.samples, p.evaluate.samples, champion_texts or {}))
    decided = _json(reports / "gate.json") or None if gate is None else gate
    evaluation = files.read_object(reports / "evaluation.json")
    training = _curve(reports / "training.csv")
    pretraining = _curve(reports / "base.csv") if p.base.source == "builtin" else (None, None)
    return Report(
        model=p.registry.model,
        task=p.task,
        evaluation=evaluation,
        gate=decided,
        samples=samples,
        labels=labels_of(rows) if rows is not None and page.has_labels else None,
        calibration=calibration_of(rows) if rows is not None and page.has_labels else None,
        sliced=slices.read(_json(reports / "slices.json")),
        champion_slices=slices.read((decided or {}).get("champion_slices", {})),
        gaps=results.read_intervals(_json(reports / "intervals.json")).get("value", {}),
        behaviour=behaviour_of(check_results.read(checked)[1]) if checked.is_file() else None,
        forgetting=forgetting_section.read(reports, evaluation),
        training=training[0],
        pretraining=pretraining[0],
        training_course=training[1],
        pretraining_course=pretraining[1],
        training_json=_json(reports / "training.json"),
        base_json=_json(reports / "base.json"),
        data=_json(reports / "prepare.json"),
        augmented={name: _json(reports / "augmented" / f"{name}.json") for name, _, _ in p.data.augment.variants()},
        secrets=p.data.secrets.model_dump(),
        data_docs=tuple(data_section.data_docs(reports)),
        lineage={name.removeprefix("tuneline."): value for name, value in (lineage or {}).items()},
        params_text=params_file.read_text("utf-8") if params_file.is_file() else "",
        shows_pretraining=p.base.source == "builtin"
        and (p.data.pretraining != p.paths.sample_text or p.data.raw == p.paths.sample),
        language=p.report.language,
    )


@cache
def templates(language: params.Language, *more: Path) -> jinja2.Environment:
    """The templates with the words of a language, which are compiled once.

    Args:
        language: of the page.
        more: folders with further templates.
    """
    words = catalogue.read(language)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, *more]),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(words, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= filters.FILTERS | {"say": words.say}
    environment.tests |= filters.TESTS
    return environment


def render(report: Report) -> str:
    """The page as HTML. Every text from data or a model is escaped."""
    gate, page = report.gate or {}, TASK_PAGES[report.task]
    differences = _differences(report)
    return (
        templates(report.language)
        .get_template("report.html.jinja")
        .render(
            report=report,
            gate=gate,
            evaluation=report.evaluation,
            language=HTML_LANGUAGES[report.language],
            headline=verdict_section.headline(
                report.model, gate, report.evaluation, METRICS_OF_TASK[report.task], page.does
            ),
            consequence=verdict_section.consequence(gate),
            counts=verdict_section.counts(gate),
            pictures=verdict_section.pictures(report.evaluation, differences),
            parts=[part for part in _parts(report) if part.content],
            names=comparison_section.names(differences),
            metric_names={name: metric.name for name, metric in METRICS.items()},
            digits={name: metric.report_digits for name, metric in METRICS.items()},
            samples_open=_OPEN_SAMPLES,
            version=tuneline.__version__,
        )
    )


def _differences(report: Report) -> list[charts.Difference]:
    return comparison_section.differences(report.evaluation, (report.gate or {}).get("rules", []))


def _parts(report: Report) -> list[Part]:
    """The parts of the page in their order. A part whose content is empty is left out."""
    samples = report.samples
    return [
        Part("rules", "Rule by rule", report.gate),
        Part("numbers", "The numbers", _numbers(report)),
        Part("without", "With and without", _without(report)),
        Part("slices", "Slice by slice", _slices(report)),
        Part("behaviour", "Behaviour checks", report.behaviour),
        Part("forgetting", "Forgetting and memorisation", report.forgetting),
        Part("calibration", "How far its probabilities can be trusted", report.calibration),
        Part("labels", "Label by label", _labels(report)),
        Part("samples", samples[0].title if len(samples) == 1 else "Samples side by side", samples),
        Part("training", "How it was trained", _training(report)),
        Part("data", "What became of every row", _data(report, has_answers=TASK_PAGES[report.task].has_answers)),
        Part("lineage", "Where it comes from", report.lineage or report.params_text),
    ]


def _numbers(report: Report) -> dict[str, Any]:
    differences = _differences(report)
    # Those of rules; before the gate has run, the first.
    shown = [one for one in differences if one.verdict] or differences[:_OPEN_DIFFERENCES]
    measured = comparison_section.shown(report.evaluation)
    asked = {rule["metric"] for rule in (report.gate or {}).get("rules", [])}
    metrics = measured if len(measured) <= _OPEN_METRICS else [one for one in measured if one in asked]
    metrics = metrics or measured[:_OPEN_METRICS]
    return {
        "metrics": metrics,
        "more_metrics": [name for name in measured if name not in metrics],
        "table": comparison_section.table(report.evaluation, report.champion),
        "notes": comparison_section.notes(report.evaluation),
        "terms": comparison_section.terms(report.evaluation),
        "strips": charts.strips(shown),
        "more_strips": charts.strips([one for one in differences if one not in shown]),
    }


def _without(report: Report) -> tuple[without_section.Comparison, ...]:
    metrics = METRICS_OF_TASK[report.task]
    return without_section.comparisons(report.gate or {}, report.evaluation, report.training_json, metrics)


def _slices(report: Report) -> dict[str, Any]:
    found = slices_section.columns(
        report.sliced, METRICS_OF_TASK[report.task], report.gate or {}, report.champion_slices, report.gaps
    )
    return {"columns": found, "open": _OPEN_SLICES, "columns_open": _OPEN_COLUMNS} if found else {}


def _labels(report: Report) -> dict[str, Any]:
    if report.labels is None:
        return {}
    limits = {"open": _OPEN_LABELS, "most_in_words": MOST_IN_WORDS, "most_on_a_phone": MOST_ON_A_PHONE}
    return {"labels": report.labels, **limits}


def _training(report: Report) -> dict[str, Any]:
    merge = report.base_json.get("merge")
    if not report.training and not report.pretraining and not merge:
        return {}
    is_trained = report.training_json.get("steps") != 0
    return {
        "merge": _merge_facts(merge) if merge else {},
        "is_trained": is_trained,
        "facts": _training_facts(report),
        "courses": {
            "training": overfitting_section.sentence(report.training_course, report.training_json),
            "pretraining": overfitting_section.sentence(report.pretraining_course, report.base_json, "base.builtin"),
        },
        "rates": report.training_json.get("rates") or {},
        "cut": _cut_rows(report.training_json.get("data") or {}) if is_trained else "",
        "mixture": data_section.mixture(report.training_json),
    }


def _data(report: Report, *, has_answers: bool) -> dict[str, Any]:
    sets = data_section.sets(report.data, report.secrets, with_pretraining=report.shows_pretraining)
    if not sets and not report.data_docs:
        return {}
    return {
        "sets": sets,
        "reasons": data_section.REASONS,
        "augmented": data_section.augmented(report.augmented),
        "why_no_variant": data_section.WHY_NO_VARIANT,
        "overlap": [
            *data_section.overlap(report.data, has_answers=has_answers),
            *data_section.long_rows(report.evaluation),
        ],
        "pretrained_on": None if report.shows_pretraining else _pretrained_on(report),
        "docs": report.data_docs,
    }


def _merge_facts(merge: dict[str, Any]) -> dict[str, str]:
    """How versions were merged, for a sentence; `merge` is what base.json says of it."""
    recipe = merge_recipe.parse(merge)
    return {
        "versions": ", ".join(recipe.versions),
        "method": recipe.method,
        "weights": ", ".join(f"{weight:.4g}" for weight in recipe.weights),
    }


def _training_facts(report: Report) -> list[dict[str, Any]]:
    known = {
        "parameters": ("Parameters", ""),
        "steps": ("Optimizer steps", ""),
        "tokens": ("Tokens read", ""),
        "supervised_tokens": ("Tokens trained on", "completions with end-of-text"),
        "frozen": ("Frozen parameters", ""),
    }
    return [
        {"name": name, "note": note if TASK_PAGES[report.task].has_answers else "", "value": report.training_json[key]}
        for key, (name, note) in known.items()
        if isinstance(report.training_json.get(key), int)
    ]


def _cut_rows(counts: Mapping[str, Any]) -> str:
    """A sentence about training rows that were cut because they are too long; empty where none was."""
    cut, rows = counts.get("rows_truncated"), counts.get("rows")
    if not cut or not rows:
        return ""
    lost = counts.get("supervised_tokens_left_out") or 0
    lost_share = lost / (lost + counts.get("supervised_tokens", 0) or 1)
    without = f", which leaves out {lost_share:.1%} of the tokens to train on" if lost else ""
    share = f"{cut:,} of {rows:,} training rows ({cut / rows:.1%})"
    return f"{share} were longer than finetune.max_length and were cut{without}."


def _pretrained_on(report: Report) -> str:
    """A sentence about the pretraining text of a builtin base."""
    text = report.data.get("pretraining")
    if report.base_json.get("source") != "builtin" or not text:
        return ""
    return f"The base was pretrained on {text['set']} ({text['rows_out']:,} texts)."


def _curve(path: Path) -> tuple[charts.Curve | None, overfitting_section.Course | None]:
    if not path.is_file():
        return None, None
    steps = curves.read(path)

    def column(name: str) -> list[tuple[float, float]]:
        return [(float(step), values[name]) for step, values in steps if name in values]

    course = overfitting_section.read(steps)
    return charts.curve(column("loss"), column("eval_loss"), course.mark if course else None), course


def _json(path: Path) -> dict[str, Any]:
    return files.read_object(path) if path.is_file() else {}
