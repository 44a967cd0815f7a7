"""The report's numbers: who is compared, by which metrics, with what certainty, and what to make of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuneline.evaluation import charts
from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import METRICS, metric

Evaluation = Mapping[str, Any]
"""The value of evaluation.json."""

_TERMS = (
    (
        ("bits_per_byte",),
        "Bits per byte, lower is better",
        "How many bits the model needs to write down the unseen text, per byte of it. Comparable between any two "
        "models.",
    ),
    (
        ("token_loss", "perplexity"),
        "Token loss and perplexity, lower is better",
        "The same surprise per token, in nats, and as the number of equally likely tokens it amounts to. Comparable "
        "only where the tokenizer is the same.",
    ),
    (
        ("chrf",),
        "chrF, higher is better",
        "How many character sequences an answer shares with the reference, from 0 to 100, over {answers} answered "
        "rows.",
    ),
    (
        ("accuracy",),
        "Accuracy, higher is better",
        "The share of rows that are given the right label; where a row has several, all of them and no other.",
    ),
    (
        ("macro_f1", "weighted_f1"),
        "Macro and weighted F1, higher is better",
        "F1 is the harmonic mean of precision and recall of one label. Macro counts every label the same, however "
        "rare; weighted counts each by its rows.",
    ),
    (
        ("mae", "rmse"),
        "Mean absolute and root mean squared error, lower is better",
        "How far off the numbers are, in their own unit; the second weighs a large error more.",
    ),
    (
        ("spearman",),
        "Spearman correlation, higher is better",
        "Whether the rows stand in the right order, from −1 to 1, however far off the numbers are.",
    ),
    (
        ("reward_accuracy",),
        "Reward accuracy, higher is better",
        "The share of rows whose better answer has gained more likelihood since the base than the worse one. The base "
        "itself has a half, as a coin has.",
    ),
    (
        ("reward_margin",),
        "Reward margin, higher is better",
        "By how much more, in nats of the whole answer.",
    ),
)


def shown(evaluation: Evaluation) -> list[str]:
    """The metrics that the candidate has."""
    return [name for name in METRICS if name in evaluation["candidate"]]


def table(evaluation: Evaluation, champion: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A line a model: name, what it is, its metrics, and in which of them it is the best of all."""
    rows = evaluation["rows"]
    lines = [(*named, evaluation.get(model, {})) for model, named in MODELS.items()]
    if champion is not None:
        note = f"version {champion['version']}, in use today"
        if champion.get("rows", rows) != rows:
            note += f"; on the {champion['rows']:,} rows that it was not trained on"
        lines.insert(1, ("Champion", note, champion))
    best = {}
    for name in METRICS:
        # A champion measured on fewer rows cannot be the best of all.
        values = [
            values[name] for _, _, values in lines if values.get(name) is not None and values.get("rows", rows) == rows
        ]
        best[name] = (min if METRICS[name].better == "lower" else max)(values) if values else None
    return [
        {"name": name, "note": note, "values": values, "best": [one for one in METRICS if values.get(one) == best[one]]}
        for name, note, values in lines
        if any(one in values for one in METRICS)
    ]


def differences(evaluation: Evaluation, rules: Sequence[Mapping[str, Any]]) -> list[charts.Difference]:
    """Every interval as an improvement: base and baselines from the evaluation, all else from the gate's rules."""
    margins = {(rule["metric"], rule["versus"]): rule["margin"] for rule in rules}
    asked = {versus for _, versus in margins}
    found = []
    for versus in ("base", "baseline"):
        if versus == "baseline" and "versus_base" in evaluation and versus not in asked:
            continue
        measures = evaluation.get(f"versus_{versus}", {})
        for name in sorted(measures, key=list(METRICS).index):
            measured = measures[name]
            if measured.get("low") is None:
                continue
            sign = -1.0 if METRICS[name].better == "lower" else 1.0
            low, high = sorted((sign * measured["low"], sign * measured["high"]))
            margin = margins.get((name, versus))
            found.append(charts.Difference(name, versus, sign * measured["difference"], low, high, margin))
    drawn = {(item.metric, item.versus) for item in found}
    return found + [
        charts.Difference(
            rule["metric"],
            f"value {rule['value']:g}" if rule["versus"] == "value" else rule["versus"],
            rule["improvement"],
            rule["low"],
            rule["high"],
            rule["margin"],
        )
        for rule in rules
        if (rule["metric"], rule["versus"]) not in drawn and rule.get("low") is not None
    ]


def names(items: Sequence[charts.Difference]) -> dict[str, str]:
    """Of every metric that is shown, what a person calls it."""
    return {name: metric(name).name for name in (*METRICS, *(item.metric for item in items))}


def terms(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What the metrics mean."""
    answers = f"{evaluation.get('answers', 0):,}"
    seen = set(shown(evaluation))
    return [(title, text.format(answers=answers)) for about, title, text in _TERMS if seen & set(about)]


def notes(evaluation: Evaluation) -> list[str]:
    """What the numbers do not say aloud, where a baseline that costs nothing does as well."""
    candidate = evaluation["candidate"]

    def is_no_better(name: str, baseline: str) -> bool:
        theirs, mine = evaluation.get(baseline, {}).get(name), candidate.get(name)
        if theirs is None or mine is None:
            return False
        return mine >= theirs if METRICS[name].better == "lower" else mine <= theirs

    found = []
    if is_no_better("bits_per_byte", "unigram"):
        found.append("Word frequencies alone predict the test rows as well: the candidate has learnt nothing of use.")
    if is_no_better("chrf", "copy"):
        found.append(
            "Giving the prompt back scores a chrF as high as the candidate's answers, because prompt and reference "
            "share many words: judge the answers by reading them, and the model by its bits per byte."
        )
    if is_no_better("macro_f1", "tfidf") or is_no_better("mae", "tfidf"):
        found.append(
            "A linear model of the words does as well, which is trained in seconds and runs on anything: the candidate "
            "is not worth its cost yet."
        )
    if is_no_better("reward_accuracy", "longer"):
        found.append(
            "Taking the longer answer for the better one is right as often: the candidate may have learnt length alone."
        )
    return found
