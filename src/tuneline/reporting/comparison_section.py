"""The report's numbers: who is compared, by which metrics, with what certainty, and what to make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import METRICS, metric
from tuneline.reporting import charts

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
        "Token loss: how much a token of the unseen text surprises the model, in nats (the natural logarithm). "
        "Perplexity: among how many equally likely tokens it would have to guess. Comparable only between models with "
        "the same tokenizer.",
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
        "F1 is one number for the precision and the recall of a label, their harmonic mean. Macro F1 counts every "
        "label the same, however rare; weighted F1 counts each label by its rows.",
    ),
    (
        ("matthews_corrcoef",),
        "Matthews correlation, higher is better",
        "Whether labels go with the texts that have them: 1 is all right, 0 is what always giving the same label, or "
        "giving labels by chance, comes to.",
    ),
    (
        ("mae", "rmse"),
        "Mean absolute and root mean squared error, lower is better",
        "How far the model's numbers are from the true ones, in the same unit; large errors weigh more in the second.",
    ),
    (
        ("spearman",),
        "Spearman correlation, higher is better",
        "Whether the model puts the rows into the right order: 1 is the right order, 0 is chance, −1 is the reverse.",
    ),
    (
        ("reward_accuracy",),
        "Reward accuracy, higher is better",
        "The share of rows whose better answer gained more likelihood in training than the worse one. The base counts "
        "as 0.5, like a coin.",
    ),
    (
        ("reward_margin",),
        "Reward margin, higher is better",
        "How much more likelihood the better answer gained than the worse one, over the whole answer, in nats (the "
        "natural logarithm: +1 is 2.7 times as likely).",
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
    found = [
        replace(item, versus=best)
        if item.versus == "baseline" and (best := _best_baseline(evaluation, item.metric))
        else item
        for item in found
    ]
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


def _best_baseline(evaluation: Evaluation, name: str) -> str | None:
    """The trivial baseline that is best in a metric, as a person calls it."""
    values = {
        model: evaluation[model][name]
        for model in MODELS
        if model not in ("candidate", "base") and evaluation.get(model, {}).get(name) is not None
    }
    if not values:
        return None
    best = min if METRICS[name].better == "lower" else max
    return MODELS[best(values, key=lambda model: values[model])][0]


def names(items: Sequence[charts.Difference]) -> dict[str, str]:
    """Of every metric that is shown, what a person calls it."""
    return {name: metric(name).name for name in (*METRICS, *(item.metric for item in items))}


def terms(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What the metrics mean."""
    answers = f"{evaluation.get('answers', 0):,}"
    seen = set(shown(evaluation))
    return [(title, text.format(answers=answers)) for about, title, text in _TERMS if seen & set(about)]


def notes(evaluation: Evaluation) -> list[str]:
    """What the numbers do not say aloud: that a trivial baseline is better than the candidate, or as good."""
    found = []
    if versus := _compared(evaluation, "bits_per_byte", "unigram"):
        how, numbers = versus
        found.append(
            f"Word frequencies alone predict the test rows {'better' if how == 'better' else 'as well'} ({numbers}): "
            "the candidate has learnt nothing useful about the order of words."
        )
    if versus := _compared(evaluation, "chrf", "copy"):
        how, numbers = versus
        found.append(
            f"Giving the prompt back as the answer scores {'a higher' if how == 'better' else 'as high a'} chrF "
            f"({numbers}), because prompts and references share many words: read the answers to judge them, and "
            "compare models by bits per byte."
        )
    for name in ("macro_f1", "mae"):
        if versus := _compared(evaluation, name, "tfidf"):
            how, numbers = versus
            found.append(
                f"TF-IDF, a linear model of the words, {'is better' if how == 'better' else 'does as well'} "
                f"({numbers}). It is trained in seconds and runs on anything, so the candidate is not worth its cost "
                "yet."
            )
    if versus := _compared(evaluation, "reward_accuracy", "longer"):
        how, numbers = versus
        found.append(
            f"Always choosing the longer answer is right {'more' if how == 'better' else 'as'} often ({numbers}): the "
            "candidate may have learnt nothing but length."
        )
    return found


def _compared(evaluation: Evaluation, name: str, baseline: str) -> tuple[str, str] | None:
    """Whether a baseline is `better` than the candidate or `as good`, and both numbers; None where it is worse.

    It is as good where the interval of the difference holds zero, or where the numbers are the same as they are shown.
    """
    theirs, mine = evaluation.get(baseline, {}).get(name), evaluation["candidate"].get(name)
    if theirs is None or mine is None:
        return None
    is_lower_better = METRICS[name].better == "lower"
    if theirs != mine and (theirs > mine) == is_lower_better:
        return None
    measured = evaluation.get("versus_baseline", {}).get(name, {})
    is_the_best = _best_baseline(evaluation, name) == MODELS[baseline][0]
    low, high = (measured.get(end) if is_the_best else None for end in ("low", "high"))
    spans_zero = low is not None and high is not None and low <= 0 <= high
    digits = 1 if name == "chrf" else 3
    shown_theirs, shown_mine = f"{theirs:.{digits}f}", f"{mine:.{digits}f}"
    how = "as good" if spans_zero or shown_theirs == shown_mine else "better"
    return how, f"{metric(name).name} {shown_theirs} against {shown_mine}"
