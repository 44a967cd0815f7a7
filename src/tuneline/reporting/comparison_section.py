"""The numbers of the report: metrics of each model, intervals, what the metrics mean, and warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneline.evaluation.comparison import MODELS
from tuneline.gate import spending
from tuneline.params.gate import METRICS, PROBED, metric
from tuneline.reporting import charts

Evaluation = Mapping[str, Any]
"""The value of evaluation.json."""

_EXPLANATIONS = {
    ("bits_per_byte",): "How many bits the model needs to encode the unseen text, per byte of the text. Comparable "
    "between any two models.",
    ("token_loss", "perplexity"): "Token loss: how much a token of the unseen text surprises the model, in nats (the "
    "natural logarithm). Perplexity: the number of equally likely tokens that it would have to choose from. Comparable "
    "only between models with the same tokenizer.",
    ("exact_match", "token_f1"): "Exact match: the share of the {answers} answers that have the same words as the "
    "reference, without case, punctuation and English articles. Token F1: how many words an answer and its reference "
    "share. Where words have no spaces between them, as in Chinese, each character counts as a word.",
    ("bleu", "chrf"): "How many sequences of words (BLEU) or of characters (chrF) the answers share with their "
    "references, from 0 to 100.",
    ("length_ratio",): "The words of the answers per word of their references: far below 1 they are cut short, far "
    "above 1 they do not end.",
    ("distinct_1", "distinct_2"): "Diversity: the different words and the different pairs of neighbouring words of all "
    "answers, per word.",
    ("repetition", "self_bleu"): "Repetition: the share of sequences of four words that the same answer already had. "
    "Self-BLEU: how many sequences of words an answer shares with other answers, from 0 to 100; 100 means that all are "
    "alike.",
    ("accuracy",): "The share of rows to which the model gives the right label. A row with several labels counts only "
    "if the model gives all of them and no other label.",
    ("macro_f1", "weighted_f1"): "F1 is the harmonic mean of the precision and the recall of a label. Macro F1 weighs "
    "all labels alike, however rare; weighted F1 weighs each label by its rows.",
    ("matthews_corrcoef",): "How well the model's labels correlate with the true labels: 1 means that all are right, "
    "0 that they are as good as guesses, or as one label for all rows.",
    (
        "ece",
    ): "How far the probability that the model gives its label is from how often the label is right, on average. "
    "0: of the rows with 80 % probability, 80 % are right.",
    ("mae", "rmse"): "How far the model's numbers are from the true numbers, in the same unit. Large errors weigh "
    "more in the second.",
    ("spearman",): "Whether the model puts the rows into the right order: 1 is the right order, 0 is chance, −1 is the "
    "reverse.",
    ("reward_accuracy",): "The share of rows whose chosen answer gained more likelihood in training than the rejected "
    "answer. The base counts as 0.5, like a coin.",
    ("reward_margin",): "How much more likelihood the chosen answer gained than the rejected answer, over the whole "
    "answer, in nats (the natural logarithm: +1 is 2.7 times as likely).",
}
"""Metrics -> what they mean."""


def shown(evaluation: Evaluation) -> list[str]:
    """The metrics that the candidate has, in the order of the page."""
    return [name for name in METRICS if name in evaluation["candidate"] and name not in PROBED]


def table(evaluation: Evaluation, champion: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row per model: name, note, metrics, and the metrics in which it is the best."""
    rows = evaluation["rows"]
    lines = [(*named, evaluation.get(model, {})) for model, named in MODELS.items()]
    if champion is not None:
        # As in evaluation.json, or equal models would differ in a digit that is not shown.
        champion = {name: round(value, 6) if isinstance(value, float) else value for name, value in champion.items()}
        note = f"version {champion['version']}, the current champion"
        if champion.get("rows", rows) != rows:
            note += f"; on the {champion['rows']:,} rows that it was not trained on"
        lines.insert(1, ("Champion", note, champion))
    best = {}
    for name in METRICS:
        # A champion that was scored on fewer rows is not compared here.
        values = [
            values[name] for _, _, values in lines if values.get(name) is not None and values.get("rows", rows) == rows
        ]
        best[name] = METRICS[name].best(values) if values else None
    return [
        {"name": name, "note": note, "values": values, "best": [one for one in METRICS if values.get(one) == best[one]]}
        for name, note, values in lines
        if any(one in values for one in METRICS)
    ]


def differences(evaluation: Evaluation, rules: Sequence[Mapping[str, Any]]) -> list[charts.Difference]:
    """Every interval as an improvement: of base and baselines from the evaluation, the others from the gate's rules."""
    of_rules = {(rule["metric"], rule["versus"]): rule for rule in rules if not rule.get("slice")}
    asked = {versus for _, versus in of_rules}
    found = []
    for versus in ("base", "baseline"):
        if versus == "baseline" and "versus_base" in evaluation and versus not in asked:
            continue
        measures = evaluation.get(f"versus_{versus}", {})
        for name in sorted(measures.keys() - set(PROBED), key=list(METRICS).index):
            measured = measures[name]
            if measured.get("low") is None:
                continue
            sign = METRICS[name].sign
            if not sign:
                continue
            low, high = sorted((sign * measured["low"], sign * measured["high"]))
            rule = of_rules.get((name, versus), {})
            found.append(
                charts.Difference(
                    name,
                    (_best_baseline(evaluation, name) if versus == "baseline" else None) or versus,
                    sign * measured["difference"],
                    low,
                    high,
                    _required(rule) if rule else None,
                    versus,
                    rule.get("verdict", ""),
                )
            )
    drawn = {(item.metric, item.kind) for item in found}
    return found + [
        charts.Difference(
            rule["metric"],
            f"value {rule['value']:g}" if rule["versus"] == "value" else rule["versus"],
            rule["improvement"],
            rule["low"],
            rule["high"],
            _required(rule),
            rule["versus"],
            rule["verdict"],
            rule.get("slice") or "",
            spending.confidence(rule["level"]) if rule.get("level") else "",
        )
        for rule in rules
        if (rule.get("slice") or (rule["metric"], rule["versus"]) not in drawn) and rule.get("low") is not None
    ]


def _required(rule: Mapping[str, Any]) -> float:
    """The improvement that a rule asks for; gate.json of an earlier version has no noise floor."""
    return rule["margin"] + rule.get("noise_floor", 0.0)


def _best_baseline(evaluation: Evaluation, name: str) -> str | None:
    """The name of the trivial baseline that is best in a metric."""
    values = {
        model: evaluation[model][name]
        for model in MODELS
        if model not in ("candidate", "base") and evaluation.get(model, {}).get(name) is not None
    }
    best = METRICS[name].best(values.values()) if values else None
    if best is None:
        return None
    return MODELS[next(model for model in values if values[model] == best)][0]


def names(items: Sequence[charts.Difference]) -> dict[str, str]:
    """Metric -> its name for a person."""
    return {name: metric(name).name for name in (*METRICS, *(item.metric for item in items))}


@dataclass(frozen=True)
class Term:
    """What some metrics mean."""

    names: tuple[str, ...]
    better: str
    """lower, higher or neither."""
    text: str


def terms(evaluation: Evaluation) -> list[Term]:
    """What the metrics of the candidate mean."""
    answers = f"{evaluation.get('answers', 0):,}"
    seen = set(shown(evaluation))
    return [
        Term(tuple(METRICS[name].name for name in about), METRICS[about[0]].better, text.format(answers=answers))
        for about, text in _EXPLANATIONS.items()
        if seen & set(about)
    ]


def notes(evaluation: Evaluation) -> list[str]:
    """Warnings: a trivial baseline is better than the candidate, or as good."""
    found = []
    if versus := _compared(evaluation, "bits_per_byte", "unigram"):
        how, numbers = versus
        found.append(
            f"Word frequencies alone predict the test rows {'better' if how == 'better' else 'as well'} ({numbers}): "
            "the candidate has learned nothing useful about the order of words."
        )
    if versus := _compared(evaluation, "chrf", "copy"):
        how, numbers = versus
        found.append(
            f"Copying the prompt scores {'a higher' if how == 'better' else 'as high a'} chrF ({numbers}), because "
            "prompts and references share many words. Read the answers, and compare models by bits per byte."
        )
    for name in ("macro_f1", "mae"):
        if versus := _compared(evaluation, name, "tfidf"):
            how, numbers = versus
            found.append(
                f"TF-IDF, a linear model of the words, {'is better' if how == 'better' else 'does as well'} "
                f"({numbers}). It is trained in seconds and runs on any machine, so the candidate is not yet worth its "
                "cost."
            )
    if versus := _compared(evaluation, "reward_accuracy", "longer"):
        how, numbers = versus
        found.append(
            f"Always preferring the longer answer is right {'more' if how == 'better' else 'as'} often ({numbers}): "
            "the candidate may have learned only the length."
        )
    return found


def _compared(evaluation: Evaluation, name: str, baseline: str) -> tuple[str, str] | None:
    """Whether a baseline is `better` than the candidate or `as good`, and both values; None where it is worse.

    It is as good if the interval of the difference contains zero, or if both values look the same on the page.
    """
    theirs, mine = evaluation.get(baseline, {}).get(name), evaluation["candidate"].get(name)
    if theirs is None or mine is None:
        return None
    if METRICS[name].sign * theirs < METRICS[name].sign * mine:
        return None
    measured = evaluation.get("versus_baseline", {}).get(name, {})
    is_best = _best_baseline(evaluation, name) == MODELS[baseline][0]
    low, high = (measured.get(end) if is_best else None for end in ("low", "high"))
    spans_zero = low is not None and high is not None and low <= 0 <= high
    digits = METRICS[name].report_digits
    shown_theirs, shown_mine = f"{theirs:.{digits}f}", f"{mine:.{digits}f}"
    how = "as good" if spans_zero or shown_theirs == shown_mine else "better"
    return how, f"{metric(name).name} {shown_theirs} against {shown_mine}"
