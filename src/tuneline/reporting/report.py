"""The report: one HTML page that shows whether the candidate is good enough, and why. It loads and runs nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

import tuneline
from tuneline import params
from tuneline.core import files
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.reporting import charts, comparison_section, curves, data_section, samples_section
from tuneline.reporting.label_section import MOST_IN_WORDS, MOST_ON_A_PHONE, Labels, labels_of
from tuneline.reporting.samples_section import MakeSections, Section

_LONGEST_TEXT = 700
_LONGEST_NAME = 80
# White space that HTML shows as nothing, or as one space.
_UNSEEN_SPACES = re.compile(r"^[ \t\n\r\f]|[ \t\n\r\f]{2}|[ \t\n\r\f]$")
# Without the semicolon and the ampersand of escaped characters.
_WORD_END = re.compile(r"([_/.:|\-]+)(?=\w)")
_CODE = re.compile(r"`([^`]+)`")


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
    training: charts.Curve | None = None
    pretraining: charts.Curve | None = None
    training_json: dict[str, Any] = field(default_factory=dict)
    base_json: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    """The value of prepare.json."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Type of secret -> what is done with it."""
    data_docs: tuple[dict[str, str], ...] = ()
    """Pages of Great Expectations: path from the page, and name."""
    lineage: dict[str, str] = field(default_factory=dict)
    params_text: str = ""
    shows_pretraining: bool = True
    """Whether the page shows the pretraining text as a set of its own."""

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
    if rows is not None:
        samples = tuple(samples_section.sections(rows, page.samples, p.evaluate.samples, champion_texts or {}))
    return Report(
        model=p.registry.model,
        task=p.task,
        evaluation=files.read_object(reports / "evaluation.json"),
        gate=_json(reports / "gate.json") or None if gate is None else gate,
        samples=samples,
        labels=labels_of(rows) if rows is not None and page.has_labels else None,
        training=_curve(reports / "training.csv"),
        pretraining=_curve(reports / "base.csv") if p.base.source == "builtin" else None,
        training_json=_json(reports / "training.json"),
        base_json=_json(reports / "base.json"),
        data=_json(reports / "prepare.json"),
        secrets=p.data.secrets.model_dump(),
        data_docs=tuple(data_section.data_docs(reports)),
        lineage={name.removeprefix("tuneline."): value for name, value in (lineage or {}).items()},
        params_text=params_file.read_text("utf-8") if params_file.is_file() else "",
        shows_pretraining=p.base.source == "builtin"
        and (p.data.pretraining != p.paths.sample_text or p.data.raw == p.paths.sample),
    )


def render(report: Report) -> str:
    """The page as HTML. Every text from data or a model is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "cut": _cut,
        "words": _words,
        "signed": _signed,
        "breakable": _breakable,
        "with_code": _with_code,
        "against": _against,
    }
    template = environment.get_template("report.html.jinja")
    rules = (report.gate or {}).get("rules", [])
    differences = comparison_section.differences(report.evaluation, rules)
    return template.render(
        report=report,
        headline=headline(report),
        consequence=_consequence(report),
        rules=rules,
        names=comparison_section.names(differences),
        reasons=data_section.REASONS,
        metrics=comparison_section.shown(report.evaluation),
        digits={name: metric.report_digits for name, metric in METRICS.items()},
        table=comparison_section.table(report.evaluation, report.champion),
        strips=charts.strips(differences),
        notes=comparison_section.notes(report.evaluation),
        terms=comparison_section.terms(report.evaluation),
        samples=report.samples,
        labels=report.labels,
        most_in_words=MOST_IN_WORDS,
        most_on_a_phone=MOST_ON_A_PHONE,
        training_facts=_training_facts(report),
        mixture=data_section.mixture(report.training_json),
        next_steps=(report.gate or {}).get("next_steps") or [],
        cut=_cut_rows(report.training_json.get("data") or {}),
        pretrained_on=None if report.shows_pretraining else _pretrained_on(report),
        sets=data_section.sets(report.data, report.secrets, with_pretraining=report.shows_pretraining),
        overlap=data_section.overlap(report.data, has_answers=TASK_PAGES[report.task].has_answers),
        data_docs=report.data_docs,
        version=tuneline.__version__,
    )


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    model, verdict = report.model, (report.gate or {}).get("verdict")
    against = _compared_with(report, verdict)
    if verdict == "passed":
        return f"The new {model} is good enough: on text it has never seen, it meets every rule against {against}."
    if verdict == "failed":
        return f"The new {model} is not good enough: on text it has never seen, it fails a rule against {against}."
    if verdict == "undecided" and _is_no_better(report):
        return (
            f"The test rows do not show that the new {model} is better than its base, but it is not so much worse "
            "that it fails."
        )
    if verdict == "undecided" and (worse := _worse_than(report)):
        return (
            f"The new {model} is worse than {worse}; the test rows are too few to decide whether it is worse than is "
            "tolerated."
        )
    if verdict == "undecided":
        return f"The test rows are too few to decide whether the new {model} is good enough."
    versus, other = (
        ("base", "its base") if "versus_base" in report.evaluation else ("baseline", "the trivial baselines")
    )
    measures = report.evaluation.get(f"versus_{versus}", {})
    metric = next((name for name in METRICS if name in METRICS_OF_TASK[report.task] and name in measures), None)
    is_better = metric is not None and METRICS[metric].sign * (measures[metric].get("difference") or 0.0) > 0
    does = f"{TASK_PAGES[report.task].does} {'better' if is_better else 'no better'} than {other}"
    return f"The new {model} {does}; its rules are not decided yet."


def _is_no_better(report: Report) -> bool:
    """Whether only rules versus the base are undecided, and more test rows would not decide them."""
    rules = [rule for rule in (report.gate or {}).get("rules", []) if rule["verdict"] == "undecided"]
    return bool(rules) and all(
        rule["versus"] == "base" and rule["high"] is not None and rule["high"] <= rule["margin"] for rule in rules
    )


def _worse_than(report: Report) -> str:
    """The models than which the candidate is surely worse in an undecided rule, in words."""
    rules = [rule for rule in (report.gate or {}).get("rules", []) if rule["verdict"] == "undecided"]
    worse = {rule["versus"] for rule in rules if rule["high"] is not None and rule["high"] < 0}
    words = {"base": "its base", "baseline": "the trivial baselines"}
    if report.champion is not None:
        words["champion"] = f"version {report.champion['version']}"
    return " and ".join(words[versus] for versus in words if versus in worse)


def _compared_with(report: Report, verdict: str | None) -> str:
    """What the rules compare the candidate with; after a failure only in the rules that failed."""
    rules = (report.gate or {}).get("rules", [])
    asked = {rule["versus"] for rule in rules if verdict != "failed" or rule["verdict"] == "failed"}
    words = {"base": "its base", "baseline": "the trivial baselines", "value": "fixed values"}
    found = [words[versus] for versus in words if versus in asked]
    if report.champion is not None and "champion" in asked:
        found.append(f"version {report.champion['version']}")
    return ", ".join(found[:-1]) + (" and " if found[:-1] else "") + (found[-1] if found else "the current model")


def _consequence(report: Report) -> str:
    return {
        "passed": "It may be registered, and a person may make it the champion.",
        "failed": "It is not registered. The model in use stays the same.",
        "undecided": "It may be registered with this verdict. It becomes the champion only if a person overrides the "
        "verdict.",
    }.get((report.gate or {}).get("verdict", ""), "`tuneline gate` decides the rules.")


def _training_facts(report: Report) -> list[dict[str, Any]]:
    known = {
        "parameters": ("Parameters", ""),
        "steps": ("Optimizer steps", ""),
        "tokens": ("Tokens read", ""),
        "supervised_tokens": ("Tokens trained on", "completions with end-of-text"),
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


def _curve(path: Path) -> charts.Curve | None:
    if not path.is_file():
        return None
    steps = curves.read(path)

    def column(name: str) -> list[tuple[float, float]]:
        return [(float(step), values[name]) for step, values in steps if name in values]

    return charts.curve(column("loss"), column("eval_loss"))


def _json(path: Path) -> dict[str, Any]:
    return files.read_object(path) if path.is_file() else {}


def _number(value: float | None, digits: int = 3) -> str:
    """A number with commas and a minus sign."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.replace("-", "−")


def _signed(value: float) -> str:
    written = _number(value)
    is_zero = not any(digit in written for digit in "123456789")
    return written.removeprefix("−") if is_zero else ("+" if value > 0 else "") + written


def _against(versus: str) -> str:
    """What a difference is measured against, to follow the name of the metric."""
    is_named = versus not in ("base", "baseline", "champion") and not versus.startswith("value ")
    return f"against {versus}" if is_named else f"against the {versus}"


def _cut(text: str, keep_end: bool = False) -> str:
    """The beginning of a long text, or its end."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return "… " + text[-_LONGEST_TEXT:] if keep_end else text[:_LONGEST_TEXT] + " …"


def _breakable(name: str) -> Markup:
    """The name of a label, cut to fit a table, with line breaks allowed after its words.

    A browser drops spaces at the ends of a text and shows several spaces as one, so two labels may look the same. A
    name with such spaces is therefore quoted, and all its spaces are shown.
    """
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + " …"
    if _UNSEEN_SPACES.search(name):
        short = repr(short).replace(" ", "\N{NO-BREAK SPACE}")
    return Markup(_WORD_END.sub(r"\1<wbr>", str(escape(short))))


def _with_code(text: str) -> Markup:
    """A sentence of this project; text between backticks becomes code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
