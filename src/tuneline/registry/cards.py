"""The texts of a version for people: the tags they read first, the description, and the model card."""

import re
from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.registry.lineage import Lineage

CHAMPION = "champion"
"""The alias of the version in use."""

_PROMOTE = (
    "Read the report (Source Model → Artifacts → report.html); if it convinces you, give this version the alias "
    f"{CHAMPION} (Aliases → Add)."
)
_LATER = "Later verdicts:"
_BROKEN = re.compile(r"\ABroken: .*\.\n\n")
_NUMBERS = 3


def first_tags(p: params.Params, verdict: str) -> dict[str, str]:
    """The tags that people read first: one page of MLflow sorts tags by name, another by the time of setting.

    Args:
        p: the params.
        verdict: of the gate.
    """
    data = ", ".join([p.data.raw, *(f"{name} (mixed in)" for name in sorted(p.data.mixture))])
    return {"1 verdict": verdict, "2 data": data, "3 base": _base(p), "4 task": p.task}


def later_verdict_tag(number: int, verdict: str) -> dict[str, str]:
    """The tag of a later verdict, shown after the first verdict.

    Args:
        number: of the verdict, from 2 on.
        verdict: of the gate.
    """
    return {f"1 verdict no. {number}": verdict}


def broken_tag(reason: str) -> dict[str, str]:
    """The tag of a broken version, shown before all other tags."""
    return {"0 broken": reason}


def broken_description(reason: str, description: str) -> str:
    """The description of a broken version: the reason, then the earlier description.

    Args:
        reason: why its files cannot be used.
        description: the present description; it may begin with a reason already, if a kill came before the tags.
    """
    before = _BROKEN.sub("", description, count=1)
    return f"Broken: {reason}.\n\n{before}"


def later_verdict(number: int, gate: dict[str, Any], day: str, report: str) -> str:
    """A later verdict as Markdown, with the reasons of the rules.

    Args:
        number: of the verdict, from 2 on.
        gate: the value of gate.json.
        day: the day of the decision.
        report: the path of its report.
    """
    champion = (gate.get("asked") or {}).get("champion")
    compared = f"compared with {CHAMPION} version {champion}" if champion else f"without a {CHAMPION}"
    lines = [f"- Verdict {number} ({day}, {compared}): {gate['verdict']}. Report: {report}"]
    return "\n".join([*lines, *(f"  - {rule['reason']}" for rule in gate["rules"])])


def append_verdict(description: str, added: str) -> str:
    """A description with a later verdict at its end."""
    return f"{description}\n{added}" if f"\n{_LATER}\n" in description else f"{description}\n\n{_LATER}\n\n{added}"


def _base(p: params.Params) -> str:
    if p.base.source != "hub":
        return "builtin" if p.base.source == "builtin" else p.base.input
    # Loads torch, which commands that only look for a version do not need.
    from tuneline.modeling import sources

    name, revision = sources.read_reference(Path(p.base.input))
    return f"{name} at {revision[:12]}"


def version_description(task: params.Task, gate: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The description of a version: the verdict with three metrics, the reasons of the rules, and what to do next.

    The first line is plain text, because the list of versions shows it without Markdown.

    Args:
        task: the task of the fine-tuning.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
    """
    lines = [
        f"{gate['verdict'].capitalize()}: {'; '.join(_numbers(task, gate, evaluation))}.",
        "",
        *(f"- {rule['reason']}" for rule in gate["rules"]),
        "",
        "What to do next:",
        "",
        *(f"- {step}" for step in [*gate.get("next_steps", ()), _PROMOTE]),
    ]
    return "\n".join(lines)


def _numbers(task: params.Task, gate: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    """Metrics in words, those of the rules first; each with the value of champion, base or best baseline."""
    wanted = [*(rule["metric"] for rule in gate["rules"]), *METRICS_OF_TASK[task]]
    measured = [name for name in dict.fromkeys(wanted) if name in METRICS and name in evaluation["candidate"]]
    return [_number_in_words(name, gate.get("champion") or {}, evaluation) for name in measured[:_NUMBERS]]


def _number_in_words(name: str, champion: dict[str, Any], evaluation: dict[str, Any]) -> str:
    text = f"{METRICS[name].name} {_number(evaluation['candidate'][name])}"
    others = {model: evaluation[model][name] for model in MODELS if name in evaluation.get(model, {})}
    others.pop("candidate")
    if name in champion:
        return f"{text} (champion, version {champion['version']}: {_number(champion[name])})"
    if "base" in others:
        return f"{text} (base: {_number(others['base'])})"
    if others:
        best = (min if METRICS[name].better == "lower" else max)(others, key=lambda model: others[model])
        return f"{text} ({MODELS[best][0]}: {_number(others[best])})"
    return text


def model_card(p: params.Params, lineage: Lineage, gate: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The model card in Hugging Face's format: YAML front matter, then Markdown.

    Args:
        p: the params.
        lineage: of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
    """
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {'text-classification' if p.task in ('classification', 'regression') else 'text-generation'}",
        "tags: [tuneline]",
        "---",
        "",
        f"# {p.registry.model}",
        "",
        f"Fine-tuned for the task `{p.task}` on `{p.data.raw}`, from a base of source `{p.base.source}`.",
        "",
        f"## Measured on {evaluation['rows']} held-out rows",
        "",
        *_table(evaluation),
        "",
        f"## Gate: {gate['verdict']}",
        "",
        *(f"- {rule['reason']}" for rule in gate["rules"]),
        "",
        "## Lineage",
        "",
        *(f"- {name.removeprefix('tuneline.')}: `{value}`" for name, value in lineage.tags().items()),
        "",
        "`params.yaml` and `dvc.lock` next to this file are those that the model was made with.",
    ]
    return "\n".join(lines) + "\n"


def _table(evaluation: dict[str, Any]) -> list[str]:
    metrics = list(evaluation["candidate"])
    rows = [name for name in MODELS if evaluation.get(name)]
    return [
        f"| | {' | '.join(metrics)} |",
        f"|---|{'---:|' * len(metrics)}",
        *(f"| {name} | {' | '.join(_number(evaluation[name].get(metric)) for metric in metrics)} |" for name in rows),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
