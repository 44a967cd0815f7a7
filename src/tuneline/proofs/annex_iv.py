"""annex_iv.md: the technical documentation that Annex IV of the EU AI Act (Regulation (EU) 2024/1689) asks for.

The known facts are filled in. What only people know stays open, marked as a task.
"""

from collections.abc import Callable, Iterator, Mapping

import tuneline
from tuneline.data.records.record_form import SPLITS
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.intervals import Interval
from tuneline.params.gate import METRICS, METRICS_OF_TASK, OF_LABEL, metric
from tuneline.params.slices import split_gap
from tuneline.proofs.facts import Facts, MetricFact, inputs_and_outputs, metrics
from tuneline.reporting.markdown import code, escape

FILE = "annex_iv.md"
"""The file's name in the folder of a version."""
OPEN = "- [ ] **To answer:**"
"""The beginning of a point that people must answer."""
_PROTOCOL = {"report": "counted and kept", "mask": "masked", "drop": "rows dropped"}


def document(facts: Facts) -> str:
    """The technical documentation as Markdown; the same facts give the same text.

    Args:
        facts: about the version.
    """
    sections = (
        _general, _development, _data, _validation, _security, _monitoring, _appropriateness, _risks, _changes,
        _standards, _declaration, _after_market,
    )  # fmt: skip
    body = [line for section in sections for line in section(facts)]
    points = sum(line.startswith(OPEN) for line in body)
    head = [
        f"# Technical documentation of {escape(facts.p.registry.model)}",
        "",
        "After Annex IV of Regulation (EU) 2024/1689 (the AI Act); the numbers are those of the Annex. tuneline "
        f"{tuneline.__version__} has filled in what it knows of this version. **{points} points are open:** only "
        "people can answer them. They begin with an empty box. The Annex asks for this documentation for high-risk "
        "systems; whether the system is one is the first open point.",
        "",
        f"- model: sha256 {code(facts.lineage.model_sha256)}",
        f"- clean data: sha256 {code(facts.lineage.data_sha256)}",
        f"- verdict of the gate: {facts.gate['verdict']}",
        "",
    ]
    return "\n".join([*head, *body]).rstrip("\n") + "\n"


def _open(*questions: str) -> list[str]:
    return [*(f"{OPEN} {question}" for question in questions), ""]


def _general(facts: Facts) -> Iterator[str]:
    p = facts.p
    given, answered = inputs_and_outputs(facts)
    yield from ("## 1. General description", "", "### 1(a) Purpose, provider, version", "")
    yield f"- name: {code(p.registry.model)}; the registry numbers its versions"
    yield f"- task: {p.task}"
    champion = facts.gate.get("champion")
    yield (
        f"- compared with version {escape(str(champion['version']))}, the champion at the time of the gate"
        if champion
        else "- not compared with an earlier version: the registry had no champion"
    )
    yield ""
    yield from _open(
        "Is the system a high-risk system (Article 6)? Why, or why not?",
        "What is the intended purpose, for whom, and what must the system not be used for?",
        "Who is the provider (name, address, contact)?",
    )
    yield from ("### 1(b) and 1(d) Interaction with other systems; forms of delivery", "")
    yield (
        "The version is a folder of safetensors, a tokenizer and JSON files. It holds no code. transformers' "
        "`from_pretrained` and MLflow load it."
    )
    yield ""
    yield from _open("With which hardware, software or other AI systems does it interact? How is it delivered?")
    yield from ("### 1(c) Versions of software", "")
    yield from _table(["package", "version"], [[code(name), code(version)] for name, version in facts.packages])
    yield "### 1(e) Hardware"
    yield ""
    weights = sum(file.bytes for file in facts.model_files if file.path.endswith(".safetensors"))
    parameters = facts.training.get("parameters")
    yield f"- {f'{parameters:,} parameters, ' if isinstance(parameters, int) else ''}{weights:,} bytes of weights"
    yield (
        "- needed to answer: memory for the weights in float32 and for texts of "
        f"at most {p.finetune.max_length:,} tokens; no GPU"
    )
    yield (
        f"- trained on: {p.compute.device}, {p.compute.precision}, {p.finetune.nproc_per_node} process(es) of "
        f"{p.compute.threads} thread(s)"
    )
    yield ""
    yield from _open("On which hardware is the system intended to run?")
    yield from ("### 1(f) to 1(h) Product, user interface, instructions", "")
    yield f"- input: {given}"
    yield f"- output: {answered}"
    yield ""
    yield from _open(
        "Is it a part of a product? Then add photographs or illustrations.",
        "What does the deployer see and operate? Add the instructions for use (Article 13).",
    )


def _development(facts: Facts) -> Iterator[str]:
    p, training = facts.p, facts.training
    yield from ("## 2. Elements and development", "", "### 2(a) Methods and steps; systems of third parties", "")
    yield (
        "The stages sample, validate_raw, prepare, validate_clean, base, finetune and evaluate are in dvc.yaml; "
        "params.yaml and dvc.lock beside this file hold every value and the digest of every input and output."
    )
    yield ""
    yield f"- base: {escape(facts.base_name)}; sha256 {code(facts.lineage.base_sha256)}"
    if isinstance(parameters := facts.base.get("parameters"), int):
        yield f"- parameters of the base: {parameters:,}"
    yield ""
    if p.base.source != "builtin":
        yield from _open("Who made the base, under which licence, and what is known of its training data?")
    yield from ("### 2(b) Design", "")
    adapters = "low-rank adapters, merged into the weights" if p.finetune.lora else "all weights"
    learning = {"supervised": "Supervised", "self-supervised": "Self-supervised"}[facts.approach]
    yield f"- {learning} fine-tuning of {adapters}; architecture {code(facts.architecture)}"
    yield f"- optimized for: {_objective(facts)}"
    if facts.merge:
        yield f"- {escape(facts.merge.describe())}; each of these versions has a document of its own"
    if p.finetune.num_train_epochs:
        yield (
            f"- {p.finetune.num_train_epochs:g} epochs at most, learning rate {p.finetune.learning_rate:g}, "
            f"seed {p.finetune.seed}"
        )
    else:
        yield "- not trained after the merge"
    yield f"- steps: {training.get('steps', 'unknown')}; tokens read: {training.get('tokens', 'unknown')}"
    yield ""
    yield from _open(
        "Why this approach? Which assumptions were made about the persons on whom the system is used?",
        "Which trade-offs were made to meet the requirements of Chapter III, Section 2?",
    )
    yield from ("### 2(c) Architecture and computation", "")
    wanted = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    yield from _table(
        ["key of config.json", "value"],
        [[code(name), code(str(facts.config[name]))] for name in wanted if name in facts.config],
    )
    yield from _open("How does the software around the model use it?")


def _objective(facts: Facts) -> str:
    return {
        "sft": "the likelihood of the completions of the training rows",
        "language-modeling": "the likelihood of the training texts",
        "classification": "the likelihood of the labels of the training rows",
        "regression": "the squared error of the numbers of the training rows",
        "preference": "preferring the chosen to the rejected answers of the training rows (DPO)",
    }[facts.p.task]


def _data(facts: Facts) -> Iterator[str]:
    policies = facts.p.data.secrets.model_dump()
    yield from ("### 2(d) Data", "", "Every dropped row is stored with its reason (quarantine.jsonl).", "")
    rows = [
        [
            code(one.path),
            f"{one.purpose}, {escape(str(one.labelled_by))}" if one.labelled_by else one.purpose,
            _count(one.counts.get("rows_in")),
            _dropped(one.counts),
            _count(one.counts.get("rows_out")),
        ]
        for one in facts.raw_sets
    ]
    yield from _table(["raw set", "for", "rows in", "dropped", "rows out"], rows)
    splits = facts.dataset["rows"]
    yield f"Records: {facts.form}. Rows of a group are in one split; the split is by {_split_by(facts)}."
    yield ""
    yield from _table(["split", "rows"], [[split, _count(splits[split])] for split in SPLITS])
    if mixture := facts.p.data.mixture:
        yield from _table(
            ["mixed in", "weight"], [[code(name), f"{one.weight:g}"] for name, one in sorted(mixture.items())]
        )
    if variants := list(facts.p.data.augment.variants()):
        rows = [[code(name), code(key), f"{settings.weight:g}"] for name, key, settings in variants]
        yield from _table(["variants of training rows", "in params.yaml", "weight"], rows)
    if isinstance(labels := facts.dataset.get("labels"), dict):
        yield from _table(["label", "rows"], [[code(name), _count(count)] for name, count in labels.items()])
    found = [
        f"- {code(one.path)}: {count:,} rows with a value that looks like {kind}; {_PROTOCOL[policies[kind]]}"
        for one in facts.raw_sets
        for kind, count in one.counts.get("secrets", {}).items()
        if count
    ]
    yield from found or ["- no secrets or personal data were found by the screening for secrets"]
    for name, result in facts.expectations.items():
        held = [one["success"] for part in result["sets"] for one in part["expectations"]]
        yield f"- expectations on the {name} rows (Great Expectations): {sum(held)} of {len(held)} hold"
    cut = facts.training.get("data", {})
    yield (
        f"- training rows: {_count(cut.get('rows'))}; cut because they were too long: "
        f"{_count(cut.get('rows_truncated'))}; dropped by the training: {_count(cut.get('rows_dropped'))}"
    )
    yield ""
    yield from _open(
        "Where do the raw rows come from, how were they selected, and on which legal basis?",
        "How were labels or answers made, and by whom?",
        "For whom are the data representative? Which groups are missing? (Article 10)",
    )
    yield from ("### 2(e) Human oversight", "")
    yield "A person makes a version the champion; no version becomes champion by itself."
    yield ""
    yield from _open("Which measures of human oversight (Article 14) are in place where the system is used?")
    yield from ("### 2(f) Pre-determined changes", "")
    yield (
        "The model is trained again on new rows by the same pipeline; each version is measured by the rules below "
        "before it is registered."
    )
    yield ""
    yield from _open("Which later changes are pre-determined, and how does the system stay compliant after them?")


def _split_by(facts: Facts) -> str:
    split = facts.p.data.split
    if split.order_by is not None:
        return f"the column {code(split.order_by)}: the newest rows are held out"
    return f"the hash of {f'the column {code(split.group_by)}' if split.group_by else 'the prompt or text'}"


def _dropped(counts: Mapping[str, object]) -> str:
    dropped = counts.get("dropped")
    found = dropped if isinstance(dropped, dict) else {}
    return escape(", ".join(f"{count:,} {reason}" for reason, count in found.items()) or "0")


def _validation(facts: Facts) -> Iterator[str]:
    evaluation = facts.evaluation
    yield from ("### 2(g) Validation and testing", "")
    yield (
        f"Measured on {evaluation['rows']:,} test rows in {evaluation['groups']:,} groups, which were not trained on. "
        "Intervals: 95 %, bootstrap over groups."
    )
    yield ""
    yield from _table(
        ["metric", "value", "95 % interval", "better"],
        [[_name(one), f"{one.value:.4g}", _interval(one.low, one.high), _better(one)] for one in metrics(facts)],
    )
    names = {"base": "the base", "baseline": "the best trivial baseline"}
    rows = [
        [METRICS[name].name, _other(names[versus], one), f"{one.difference:+.4g}", _interval(one.low, one.high)]
        for versus in names
        for name in METRICS_OF_TASK[facts.p.task]
        if isinstance(one := facts.measures.get(versus, {}).get(name), Interval)
    ]
    yield from _table(["metric", "compared with", "difference", "95 % interval"], rows)
    gaps = [
        [escape(metric(name).name), f"{one.difference:.4g}", _interval(one.low, one.high)]
        for name, one in facts.measures.get("value", {}).items()
        if split_gap(name) and isinstance(one, Interval)
    ]
    if gaps:
        yield "The largest difference between two groups of test rows (slices), for each metric and column:"
        yield ""
        yield from _table(["gap", "value", "95 % interval"], gaps)
    yield f"Rules of the gate, with the verdict {facts.gate['verdict']}:"
    yield ""
    yield from (f"- {rule['verdict']}: {escape(rule['reason'])}" for rule in facts.gate["rules"])
    yield ""
    yield "The complete report is report.html beside this file."
    yield ""
    yield from _open(
        "Which metrics show possible discrimination, and how were they measured?",
        "Who is responsible for the test reports? Add date and signature.",
    )


def _other(name: str, one: Interval) -> str:
    return f"{name} ({MODELS[one.other][0]})" if one.other in MODELS else name


def _name(one: MetricFact) -> str:
    return METRICS[one.name].name if one.slice is None else f"{OF_LABEL[one.name].name} of {code(one.slice)}"


def _better(one: MetricFact) -> str:
    return (METRICS | OF_LABEL)[one.name].better


def _interval(low: float | None, high: float | None) -> str:
    return "not known" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _security(_: Facts) -> Iterator[str]:
    yield from ("### 2(h) Cybersecurity", "")
    yield (
        "- weights are safetensors; pickles and Python files are refused when a model is loaded and when it is "
        "registered; code of a model is never run"
    )
    yield "- the sha256 of every file of the version is in the registry and is checked before the version answers"
    yield "- bom.cdx.json beside this file names the packages that decide over the weights"
    yield ""
    yield from _open("Which further measures protect the system where it runs (Article 15)?")


def _monitoring(facts: Facts) -> Iterator[str]:
    yield from ("## 3. Monitoring, functioning and control", "")
    yield (
        f"The model reads at most {facts.p.finetune.max_length:,} tokens. Its accuracy on text that is unlike the test "
        "rows is not known. The accuracy is in 2(g)."
    )
    yield ""
    yield from _open(
        "What is the accuracy for the persons or groups on whom the system is used?",
        "Which unintended outcomes and risks to health, safety and fundamental rights are foreseeable?",
        "Which input may be given, and how do people interpret and override the output?",
    )


def _appropriateness(facts: Facts) -> Iterator[str]:
    yield from ("## 4. Appropriateness of the metrics", "")
    names = ", ".join(METRICS[name].name for name in METRICS_OF_TASK[facts.p.task])
    yield f"For the task {facts.p.task} these metrics have intervals and may be named in rules: {names}."
    yield ""
    yield from _open("Why are these metrics and these rules right for the intended purpose?")


def _section(title: str, text: str, *questions: str) -> Callable[[Facts], Iterator[str]]:
    """A section without facts of its own."""

    def lines(_: Facts) -> Iterator[str]:
        yield from (f"## {title}", "", *([text, ""] if text else []))
        yield from _open(*questions)

    return lines


_risks = _section(
    "5. Risk management", "", "Describe the risk management system (Article 9), or name the document that does."
)
_changes = _section(
    "6. Changes through the lifecycle",
    "Every version keeps its params, data digests, code revision and report; the registry shows who made which version "
    "the champion.",
    "Which relevant changes were made to the system since it was placed on the market?",
)
_standards = _section(
    "7. Standards",
    "",
    "Which harmonised standards were applied? Where none: how are the requirements of Chapter III, Section 2 met?",
)
_declaration = _section("8. EU declaration of conformity", "", "Add a copy of the declaration (Article 47).")
_after_market = _section(
    "9. Post-market monitoring",
    "",
    "Describe how the performance is evaluated after the system is on the market, and the plan (Article 72).",
)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"
