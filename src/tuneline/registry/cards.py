"""The texts of a version for people: the tags they read first, the description, and the model card."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from ruamel.yaml.error import YAMLError

from tuneline import params
from tuneline.core import bounded_yaml
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.intervals import LEVEL
from tuneline.fusion.merging import merge_recipe
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.registry.addresses import Pages
from tuneline.registry.lineage import Lineage
from tuneline.registry.version_files import REPORT
from tuneline.reporting.markdown import code, escape

CHAMPION = "champion"
"""The alias of the version in use."""

_PROMOTE = (
    "Read the report (Source Model → Artifacts → report.html); if it convinces you, give this version the alias "
    f"{CHAMPION} (Aliases → Add)."
)
_PIPELINE_TAGS: dict[params.Task, str] = {
    "sft": "text-generation",
    "language-modeling": "text-generation",
    "preference": "text-generation",
    "classification": "text-classification",
    "regression": "text-classification",
}
"""Task -> Hugging Face's name of what such a model does."""
CARD = "README.md"
"""The model card, as Hugging Face calls it."""
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_VERSUS = "versus_"
NEXT_STEPS = "What to do next:"
_LATER = "Later verdicts:"
_BROKEN = re.compile(r"\ABroken: .*\.\n\n")
_NUMBERS = 3


def first_tags(p: params.Params, verdict: str, labelled: Mapping[str, LabelledBy] | None = None) -> dict[str, str]:
    """The tags that people read first: one page of MLflow sorts tags by name, another by the time of setting.

    Args:
        p: the params.
        verdict: of the gate.
        labelled: set of the mixture -> the version that has labelled it; None: people have labelled all.
    """
    data = ", ".join([p.data.raw, *_mixed_in(p, labelled or {})])
    return {"1 verdict": verdict, "2 data": data, "3 base": _base(p), "4 task": p.task}


def _mixed_in(p: params.Params, labelled: Mapping[str, LabelledBy]) -> Iterator[str]:
    for name in sorted(p.data.mixture):
        yield f"{name} (mixed in{f', {labelled[name]}' if name in labelled else ''})"
    for name, _, _ in p.data.augment.variants():
        yield f"{name} (variants of training rows)"


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
    return f"Broken: {escape(reason)}.\n\n{before}"


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
    return "\n".join([*lines, *(f"  - {escape(rule['reason'])}" for rule in gate["rules"])])


def append_verdict(description: str, added: str) -> str:
    """A description with a later verdict at its end."""
    return f"{description}\n{added}" if f"\n{_LATER}\n" in description else f"{description}\n\n{_LATER}\n\n{added}"


def _base(p: params.Params) -> str:
    if p.base.source == "merge":
        return merge_recipe.read(Path(p.base.input)).describe()
    if p.base.source != "hub":
        return "builtin" if p.base.source == "builtin" else p.base.input
    # Loads torch, which commands that only look for a version do not need.
    from tuneline.modeling import sources

    name, revision = sources.read_reference(Path(p.base.input))
    return f"{name} at {revision[:12]}"


def version_description(
    task: params.Task, gate: dict[str, Any], evaluation: dict[str, Any], links: Sequence[str]
) -> str:
    """The description of a version: verdict with three metrics, reasons of the rules, what to do next, and links.

    The first line is plain text, because the list of versions shows it without Markdown.

    Args:
        task: the task of the fine-tuning.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        links: the value of `links`.
    """
    lines = [
        f"{gate['verdict'].capitalize()}: {'; '.join(_numbers(task, gate, evaluation))}.",
        "",
        *(f"- {escape(rule['reason'])}" for rule in gate["rules"]),
        "",
        NEXT_STEPS,
        "",
        *(f"- {step}" for step in [*gate.get("next_steps", ()), _PROMOTE]),
        "",
        "Made from:",
        "",
        *(f"- {link}" for link in links),
    ]
    return "\n".join(lines)


def links(p: params.Params, lineage: Lineage, pages: Pages, run_id: str, code_page: str | None) -> list[str]:
    """What a version was made from, as lines in Markdown with links to pages of the MLflow UI.

    Args:
        p: the params.
        lineage: of the model.
        pages: of the MLflow UI.
        run_id: the training run.
        code_page: the web page of the commit; None if it has none.
    """
    commit = code(lineage.git_commit[:12])
    if code_page:
        commit = f"[{commit}]({code_page})"
    dirty = "" if lineage.git_dirty == "false" else " with changes that were not committed"
    return [
        f"Report: [{REPORT}, and all other files]({pages.files})",
        f"Training: [run {run_id}]({pages.run}), with its curves, params and inputs",
        f"Data: {code(p.data.raw)}; the clean splits have the sha256 {code(lineage.data_sha256[:12])}",
        f"Base: {code(_base(p))}; sha256 {code(lineage.base_sha256[:12])}",
        f"Code: commit {commit}{dirty}; the commit in the tag `tuneline.source_commit` holds code, params and "
        "`dvc.lock` as they were",
    ]


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
    best = METRICS[name].best(others.values()) if others else None
    if best is not None:
        model = next(model for model in others if others[model] == best)
        return f"{text} ({MODELS[model][0]}: {_number(best)})"
    return text


def model_card(
    p: params.Params,
    lineage: Lineage,
    gate: dict[str, Any],
    evaluation: dict[str, Any],
    labelled: Mapping[str, LabelledBy] | None = None,
) -> str:
    """The model card in Hugging Face's format: YAML front matter with the metrics, then Markdown.

    Args:
        p: the params.
        lineage: of the model.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        labelled: set of the mixture -> the version that has labelled it; None: people have labelled all.
    """
    lines = [
        "---",
        _front_matter(p, lineage, evaluation).to_yaml().rstrip(),
        "---",
        "",
        f"# {p.registry.model}",
        "",
        f"{made_by(p)}.",
        "",
        *(line for name, by in (labelled or {}).items() for line in (f"{code(name)} is {escape(str(by))}.", "")),
        f"## Measured on {evaluation['rows']} held-out rows",
        "",
        *_table(evaluation),
        "",
        *_interval_table(evaluation),
        f"## Gate: {gate['verdict']}",
        "",
        *(f"- {escape(rule['reason'])}" for rule in gate["rules"]),
        "",
        "## Lineage",
        "",
        *(f"- {name.removeprefix('tuneline.')}: `{value}`" for name, value in lineage.tags().items()),
        "",
        "`params.yaml` and `dvc.lock` next to this file are those that the model was made with.",
    ]
    return "\n".join(lines) + "\n"


def made_by(p: params.Params) -> str:
    """How the model of the workspace was made, as Markdown without a full stop."""
    if p.base.source != "merge":
        return f"Fine-tuned for the task `{p.task}` on {code(p.data.raw)}, from a base of source `{p.base.source}`"
    recipe = merge_recipe.read(Path(p.base.input))
    further = f", then fine-tuned on {code(p.data.raw)}" if p.finetune.num_train_epochs else ""
    parents = "; ".join(
        f"version {one.version} (files {code(one.files_sha256[:12])}, made from commit "
        f"{code(one.source_commit[:12]) if one.source_commit else 'unknown'})"
        for one in recipe.parents
    )
    return f"For the task `{p.task}`: {escape(recipe.describe())}{further}. Parents: {parents}"


def _front_matter(p: params.Params, lineage: Lineage, evaluation: dict[str, Any]) -> ModelCardData:
    names = [Path(name).name for name in (p.data.raw, *sorted(p.data.mixture))]
    tag = _PIPELINE_TAGS[p.task]
    versus = {name: value for name, value in evaluation.items() if name.startswith(_VERSUS)}
    results = [
        EvalResult(
            task_type=tag,
            dataset_type=names[0],
            dataset_name=names[0],
            dataset_split="test",
            dataset_revision=lineage.data_sha256,
            metric_type=name,
            metric_name=METRICS[name].name if name in METRICS else name,
            metric_value=value,
            metric_args=_differences(name, versus) or None,
        )
        for name, value in evaluation["candidate"].items()
        if value is not None
    ]
    return ModelCardData(
        # A hub knows only bases that have an id there.
        base_model=_base(p).split(" at ")[0] if p.base.source == "hub" else None,
        datasets=names,
        eval_results=results or None,
        library_name="transformers",
        model_name=p.registry.model,
        pipeline_tag=tag,
        tags=["tuneline"],
        **_stated_by_base(p),
    )


def _differences(metric: str, versus: dict[str, Any]) -> dict[str, Any]:
    """versus_base and the like -> the difference of this metric with its interval."""
    return {
        name: {**one, "level": LEVEL} if one["low"] is not None else {"difference": one["difference"]}
        for name, measures in versus.items()
        if (one := measures.get(metric))
    }


def _stated_by_base(p: params.Params) -> dict[str, Any]:
    """The license and the language in the model card of a base that is a folder."""
    card = Path(p.base.input) / CARD
    if p.base.source != "path" or not card.is_file():
        return {}
    found = _FRONT_MATTER.match(card.read_text("utf-8", errors="replace"))
    try:
        stated = bounded_yaml.load(found[1], "safe") if found else None
    except YAMLError:
        return {}
    wanted = {name: stated.get(name) for name in ("license", "language")} if isinstance(stated, dict) else {}
    return {name: value for name, value in wanted.items() if isinstance(value, str | list) and value}


def _interval_table(evaluation: dict[str, Any]) -> list[str]:
    rows = [
        f"| {METRICS[metric].name} | {name.removeprefix(_VERSUS)} | {_number(one['difference'])} | "
        f"{_number(one['low'])} | {_number(one['high'])} |"
        for name, measures in evaluation.items()
        if name.startswith(_VERSUS)
        for metric, one in measures.items()
    ]
    head = [f"Differences, with their {LEVEL:.0%} intervals (paired bootstrap over groups of rows):", ""]
    head += ["| metric | candidate minus | difference | low | high |", "|---|---|---:|---:|---:|"]
    return [*head, *rows, ""] if rows else []


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
