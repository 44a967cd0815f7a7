"""The page that says whether the candidate is good enough, and why: one file that runs and loads nothing."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

import tuneline
from tuneline import files, params
from tuneline.evaluation import accounts, charts

METRICS = {"bits_per_byte": "Bits per byte", "token_loss": "Token loss", "perplexity": "Perplexity", "chrf": "chrF"}
_LOWER_IS_BETTER = {"bits_per_byte", "token_loss", "perplexity"}
_LONGEST_TEXT = 700


@dataclass(frozen=True)
class Sample:
    """One prompt and what each model made of it."""

    source: str
    prompt: str
    reference: str
    answers: dict[str, str]
    """By model: base, champion, candidate."""
    chrf: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Everything on the page, as plain values."""

    model: str
    task: str
    evaluation: dict[str, Any]
    """The value of evaluation.json."""
    gate: dict[str, Any] | None = None
    """The value of gate.json; None before the gate was asked."""
    samples: tuple[Sample, ...] = ()
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

    @property
    def champion(self) -> dict[str, Any] | None:
        """The champion's version and metrics, where the candidate was compared with one."""
        return (self.gate or {}).get("champion")


def assemble(
    reports: Path,
    p: params.Params,
    *,
    lineage: Mapping[str, str] | None = None,
    champion_texts: Mapping[str, str] | None = None,
    params_file: Path = Path(params.PARAMS_FILE),
) -> Report:
    """Gather the page's values; whatever file is missing, but for evaluation.json, is a part left out.

    Args:
        reports: the folder of reports.
        p: the params.
        lineage: name -> value, as the tags of a version.
        champion_texts: the champion's answers by row id.
        params_file: the file as written, shown folded.
    """
    return Report(
        model=p.registry.model,
        task=p.task,
        evaluation=files.read_json(reports / "evaluation.json"),
        gate=_json(reports / "gate.json") or None,
        samples=_samples(reports / "rows.parquet", p.evaluate.samples, champion_texts or {}),
        training=_curve(reports / "training.csv"),
        pretraining=_curve(reports / "base.csv"),
        training_account=_json(reports / "training.json"),
        base_account=_json(reports / "base.json"),
        data=_json(reports / "prepare.json"),
        secrets=p.data.secrets.model_dump(),
        data_docs=tuple(accounts.data_docs(reports)),
        lineage={name.removeprefix("tuneline."): value for name, value in (lineage or {}).items()},
        params_text=params_file.read_text("utf-8") if params_file.is_file() else "",
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
    environment.filters |= {"number": _number, "cut": _cut, "words": _words, "signed": _signed}
    template = environment.get_template("report.html.jinja")
    return template.render(
        report=report,
        headline=headline(report),
        consequence=_consequence(report),
        rules=(report.gate or {}).get("rules", []),
        names=METRICS,
        reasons=accounts.REASONS,
        metrics=_shown_metrics(report),
        table=_table(report),
        strips=charts.strips(_differences(report)),
        notes=_notes(report),
        training_facts=_training_facts(report),
        sets=accounts.of_sets(report.data, report.secrets),
        overlap=accounts.of_overlap(report.data),
        data_docs=report.data_docs,
        version=tuneline.__version__,
    )


def headline(report: Report) -> str:
    """The verdict in one sentence for somebody who reads nothing else."""
    model, verdict = report.model, (report.gate or {}).get("verdict")
    measured = report.evaluation.get("versus_base", {}).get("bits_per_byte", {})
    against = "its base" if report.champion is None else f"its base and version {report.champion['version']}"
    if verdict == "passed":
        return f"The new {model} is good enough: it meets every rule against {against} on text it has never seen."
    if verdict == "failed":
        return f"The new {model} is not good enough: it breaks a rule against {against} on text it has never seen."
    if verdict == "undecided":
        return f"It cannot be told yet whether the new {model} is good enough: there are too few test rows to be sure."
    better = (measured.get("difference") or 0.0) < 0
    return (
        f"The new {model} predicts unseen text {'better' if better else 'no better'} than its base; no gate was asked."
    )


def _consequence(report: Report) -> str:
    return {
        "passed": "It may be registered, and a person may make it the champion.",
        "failed": "It is not registered. What is in production stays as it is.",
        "undecided": "It may be registered with this verdict, but becomes the champion only if a person overrides it.",
    }.get((report.gate or {}).get("verdict", ""), "Nothing follows from this page until the gate has decided.")


def _shown_metrics(report: Report) -> list[str]:
    candidate = report.evaluation["candidate"]
    return [metric for metric in METRICS if metric in candidate]


def _table(report: Report) -> list[dict[str, Any]]:
    """A line a model: name, what it is, its metrics, and of which it is the best of all."""
    champion, rows = report.champion, report.evaluation["rows"]
    lines = [
        ("Candidate", "the model this page is about", report.evaluation["candidate"]),
        ("Base", "what it was fine-tuned from", report.evaluation.get("base", {})),
        ("Word frequencies", "every token by how often training saw it", report.evaluation.get("unigram", {})),
        ("Copy", "the prompt given back as the answer", report.evaluation.get("copy", {})),
    ]
    if champion is not None:
        note = f"version {champion['version']}, in use today"
        if champion.get("rows", rows) != rows:
            note += f"; on the {_number(champion['rows'])} rows that it was not trained on"
        lines.insert(1, ("Champion", note, champion))
    best = {}
    for metric in METRICS:
        # A champion measured on fewer rows cannot be the best of all.
        values = [
            values[metric]
            for _, _, values in lines
            if values.get(metric) is not None and values.get("rows", rows) == rows
        ]
        best[metric] = (min if metric in _LOWER_IS_BETTER else max)(values) if values else None
    return [
        {"name": name, "note": note, "values": values, "best": [m for m in METRICS if values.get(m) == best[m]]}
        for name, note, values in lines
        if any(metric in values for metric in METRICS)
    ]


def _differences(report: Report) -> list[charts.Difference]:
    """Every interval as an improvement: the base's from the evaluation, the champion's from the gate."""
    rules = (report.gate or {}).get("rules", [])
    margins = {(rule["metric"], rule["versus"]): rule["margin"] for rule in rules}
    found = []
    for metric, measured in report.evaluation.get("versus_base", {}).items():
        if measured.get("low") is None:
            continue
        sign = -1.0 if metric in _LOWER_IS_BETTER else 1.0
        low, high = sorted((sign * measured["low"], sign * measured["high"]))
        margin = margins.get((metric, "base"))
        found.append(charts.Difference(metric, "base", sign * measured["difference"], low, high, margin))
    found.sort(key=lambda item: list(METRICS).index(item.metric))
    return found + [
        charts.Difference(
            rule["metric"], rule["versus"], rule["improvement"], rule["low"], rule["high"], rule["margin"]
        )
        for rule in rules
        if rule["versus"] != "base" and rule.get("low") is not None
    ]


def _notes(report: Report) -> list[str]:
    """What the numbers do not say aloud, where a baseline that costs nothing does better."""
    candidate, unigram = report.evaluation["candidate"], report.evaluation.get("unigram", {})
    copied = report.evaluation.get("copy", {}).get("chrf")
    notes = []
    if candidate["bits_per_byte"] >= unigram.get("bits_per_byte", float("inf")):
        notes.append("Word frequencies alone predict the test rows as well: the candidate has learnt nothing of use.")
    if copied is not None and candidate.get("chrf", float("inf")) <= copied:
        notes.append(
            "Giving the prompt back scores a chrF as high as the candidate's answers, because prompt and reference "
            "share many words: judge the answers by reading them, and the model by its bits per byte."
        )
    return notes


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


def _samples(path: Path, wanted: int, champion_texts: Mapping[str, str]) -> tuple[Sample, ...]:
    """Answered rows spread evenly over the test split, so that nobody has picked the good ones."""
    if not path.is_file() or not wanted:
        return ()
    rows = [row for row in files.read_parquet(path).to_pylist() if row["candidate_text"] is not None]
    places = np.unique(np.linspace(0, len(rows) - 1, min(wanted, len(rows))).round().astype(int)) if rows else []
    samples = []
    for row in (rows[place] for place in places):
        answers = {
            "base": row["base_text"],
            "champion": champion_texts.get(row["id"]),
            "candidate": row["candidate_text"],
        }
        samples.append(
            Sample(
                source=row["source"],
                prompt=row["prompt"],
                reference=row["reference"],
                answers={name: text for name, text in answers.items() if text is not None},
                chrf={name: row[f"{name}_chrf"] for name in ("base", "candidate") if row[f"{name}_chrf"] is not None},
            )
        )
    return tuple(samples)


def _curve(path: Path) -> charts.Curve | None:
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))

    def column(name: str) -> list[tuple[float, float]]:
        return [(float(line["step"]), float(line[name])) for line in lines if line.get(name)]

    return charts.curve(column("loss"), column("eval_loss"))


def _json(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.is_file() else {}


def _number(value: float | None, digits: int = 3) -> str:
    """As a person writes it; a minus sign, not a hyphen."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.replace("-", "−")


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + _number(value)


def _cut(text: str, keep_end: bool = False) -> str:
    """A long text without its middle of nowhere: its beginning, or its end, that fits the page."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return "… " + text[-_LONGEST_TEXT:] if keep_end else text[:_LONGEST_TEXT] + " …"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
