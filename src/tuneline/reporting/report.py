"""The page that says whether the candidate is good enough, and why: one file that runs and loads nothing."""

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
from tuneline.reporting import charts, comparison_section, curves, data_section
from tuneline.reporting.label_section import MOST_IN_WORDS, MOST_ON_A_PHONE, Labels, labels_of
from tuneline.reporting.samples_section import Section, sections

_LONGEST_TEXT = 700
_LONGEST_NAME = 80
# What HTML shows as nothing, or as one blank.
_UNSEEN_BLANKS = re.compile(r"^[ \t\n\r\f]|[ \t\n\r\f]{2}|[ \t\n\r\f]$")
# Not behind the semicolon or the ampersand of an escaped character.
_WORD_END = re.compile(r"([_/.:|\-]+)(?=\w)")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Report:
    """Everything on the page, as plain values."""

    model: str
    task: str
    evaluation: dict[str, Any]
    """The value of evaluation.json."""
    gate: dict[str, Any] | None = None
    """The value of gate.json; None before the gate was asked."""
    samples: tuple[Section, ...] = ()
    labels: Labels | None = None
    """Of a classification."""
    training: charts.Curve | None = None
    pretraining: charts.Curve | None = None
    training_account: dict[str, Any] = field(default_factory=dict)
    base_account: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    """The value of prepare.json."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Kind of secret -> what is done with it."""
    data_docs: tuple[dict[str, str], ...] = ()
    """Pages by Great Expectations: path from the page, and name."""
    lineage: dict[str, str] = field(default_factory=dict)
    params_text: str = ""
    shows_pretraining: bool = True
    """Whether the page tells of the pretraining text: only where a base was made from it, and from a set of yours."""

    @property
    def champion(self) -> dict[str, Any] | None:
        """The champion's version and metrics, where the candidate was compared with one."""
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
    """Gather the page's values; whatever file is missing, but for evaluation.json, is a part left out.

    Args:
        reports: the folder of reports.
        p: the params.
        gate: what the gate has decided; None: what gate.json says, if it is there.
        lineage: name -> value, as the tags of a version.
        champion_texts: the champion's answers by row id.
        params_file: the file as written, shown folded.
    """
    scored = reports / "rows.parquet"
    rows = files.read_parquet(scored) if scored.is_file() else None
    return Report(
        model=p.registry.model,
        task=p.task,
        evaluation=files.read_object(reports / "evaluation.json"),
        gate=_json(reports / "gate.json") or None if gate is None else gate,
        samples=tuple(sections(rows, p.task, p.evaluate.samples, champion_texts or {})) if rows is not None else (),
        labels=labels_of(rows) if rows is not None and p.task == "classification" else None,
        training=_curve(reports / "training.csv"),
        pretraining=_curve(reports / "base.csv") if p.base.source == "builtin" else None,
        training_account=_json(reports / "training.json"),
        base_account=_json(reports / "base.json"),
        data=_json(reports / "prepare.json"),
        secrets=p.data.secrets.model_dump(),
        data_docs=tuple(data_section.data_docs(reports)),
        lineage={name.removeprefix("tuneline."): value for name, value in (lineage or {}).items()},
        params_text=params_file.read_text("utf-8") if params_file.is_file() else "",
        shows_pretraining=p.base.source == "builtin"
        and (p.data.pretraining != p.paths.sample_text or p.data.raw == p.paths.sample),
    )


def render(report: Report) -> str:
    """The page as HTML; every text that comes from data or a model is escaped."""
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
        table=comparison_section.table(report.evaluation, report.champion),
        strips=charts.strips(differences),
        notes=comparison_section.notes(report.evaluation),
        terms=comparison_section.terms(report.evaluation),
        samples=report.samples,
        labels=report.labels,
        most_in_words=MOST_IN_WORDS,
        most_on_a_phone=MOST_ON_A_PHONE,
        training_facts=_training_facts(report),
        mixture=data_section.of_mixture(report.training_account),
        next_steps=(report.gate or {}).get("next_steps") or [],
        cut=_cut_rows(report.training_account.get("data") or {}),
        pretrained_on=None if report.shows_pretraining else _pretrained_on(report),
        sets=data_section.of_sets(report.data, report.secrets, with_pretraining=report.shows_pretraining),
        overlap=data_section.of_overlap(report.data, report.task),
        data_docs=report.data_docs,
        version=tuneline.__version__,
    )


def headline(report: Report) -> str:
    """The verdict in one sentence for somebody who reads nothing else."""
    model, verdict = report.model, (report.gate or {}).get("verdict")
    against = _held_against(report, verdict)
    if verdict == "passed":
        return f"The new {model} is good enough: on text it has never seen, it meets every rule against {against}."
    if verdict == "failed":
        return f"The new {model} is not good enough: on text it has never seen, it fails a rule against {against}."
    if verdict == "undecided" and _is_no_better(report):
        return f"The new {model} is not shown to be better than its base, but not so much worse that it fails."
    if verdict == "undecided":
        return f"It cannot be told yet whether the new {model} is good enough: there are too few test rows to be sure."
    versus, other = (
        ("base", "its base") if "versus_base" in report.evaluation else ("baseline", "the trivial baselines")
    )
    measures = report.evaluation.get(f"versus_{versus}", {})
    metric = next((name for name in METRICS if name in METRICS_OF_TASK[report.task] and name in measures), None)
    sign = -1.0 if metric and METRICS[metric].better == "lower" else 1.0
    better = sign * ((measures[metric].get("difference") if metric else None) or 0.0) > 0
    does = "predicts unseen text" if "bits_per_byte" in report.evaluation["candidate"] else "judges unseen text"
    return f"The new {model} {does} {'better' if better else 'no better'} than {other}; its rules are not decided yet."


def _is_no_better(report: Report) -> bool:
    """Whether what is undecided is that alone: no number of test rows would decide it."""
    rules = [rule for rule in (report.gate or {}).get("rules", []) if rule["verdict"] == "undecided"]
    return bool(rules) and all(
        rule["versus"] == "base" and rule["high"] is not None and rule["high"] <= rule["margin"] for rule in rules
    )


def _held_against(report: Report, verdict: str | None) -> str:
    """What the rules hold the candidate against; where it failed, those that it failed."""
    rules = (report.gate or {}).get("rules", [])
    asked = {rule["versus"] for rule in rules if verdict != "failed" or rule["verdict"] == "failed"}
    words = {"base": "its base", "baseline": "the trivial baselines", "value": "fixed values"}
    found = [words[versus] for versus in words if versus in asked]
    if report.champion is not None and "champion" in asked:
        found.append(f"version {report.champion['version']}")
    return ", ".join(found[:-1]) + (" and " if found[:-1] else "") + (found[-1] if found else "what it replaces")


def _consequence(report: Report) -> str:
    return {
        "passed": "It may be registered, and a person may make it the champion.",
        "failed": "It is not registered. What is in production stays as it is.",
        "undecided": "It may be registered with this verdict, but becomes the champion only if a person overrides it.",
    }.get((report.gate or {}).get("verdict", ""), "`tuneline gate` decides the rules.")


def _training_facts(report: Report) -> list[dict[str, Any]]:
    known = {
        "parameters": ("Parameters", ""),
        "steps": ("Optimizer steps", ""),
        "tokens": ("Tokens seen", ""),
        "supervised_tokens": ("Tokens learnt", "completions and their ends"),
    }
    account = report.training_account
    return [
        {"name": name, "note": note if report.task == "sft" else "", "value": account[key]}
        for key, (name, note) in known.items()
        if isinstance(account.get(key), int)
    ]


def _cut_rows(account: Mapping[str, Any]) -> str:
    """What training rows lost because they were too long, in a sentence; nothing where none did."""
    cut, rows = account.get("rows_truncated"), account.get("rows")
    if not cut or not rows:
        return ""
    lost = account.get("supervised_tokens_left_out") or 0
    lost_share = lost / (lost + account.get("supervised_tokens", 0) or 1)
    without = f", without {lost_share:.1%} of the tokens to be learnt" if lost else ""
    share = f"{cut:,} of {rows:,} training rows ({cut / rows:.1%})"
    return f"{share} were longer than finetune.max_length and were cut{without}."


def _pretrained_on(report: Report) -> str:
    """The pretraining text of a builtin base in a sentence, where its accounts are not shown."""
    text = report.data.get("pretraining")
    if report.base_account.get("source") != "builtin" or not text:
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
    """As a person writes it; a minus sign, not a hyphen."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.replace("-", "−")


def _signed(value: float) -> str:
    written = _number(value)
    is_zero = not any(digit in written for digit in "123456789")
    return written.removeprefix("−") if is_zero else ("+" if value > 0 else "") + written


def _against(versus: str) -> str:
    """What a difference is measured against, as it goes on after the metric: a baseline by its name."""
    is_named = versus not in ("base", "baseline", "champion") and not versus.startswith("value ")
    return f"against {versus}" if is_named else f"against the {versus}"


def _cut(text: str, keep_end: bool = False) -> str:
    """A long text without its middle of nowhere: its beginning, or its end, that fits the page."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return "… " + text[-_LONGEST_TEXT:] if keep_end else text[:_LONGEST_TEXT] + " …"


def _breakable(name: str) -> Markup:
    """A label's name, at most as long as a table can show it, that may be broken where its words end.

    A browser shows no blanks at the edge of a text and one for several inside: a name with such blanks, which else
    looks like another label, stands in quotes with each of them.
    """
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + " …"
    if _UNSEEN_BLANKS.search(name):
        short = repr(short).replace(" ", "\N{NO-BREAK SPACE}")
    return Markup(_WORD_END.sub(r"\1<wbr>", str(escape(short))))


def _with_code(text: str) -> Markup:
    """A sentence of ours, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
