"""The files that an evaluation writes."""

import json

from tuneline.evaluation import results
from tuneline.evaluation.intervals import Interval, Measures


def test_metrics_json_has_the_best_baseline_of_each_metric() -> None:
    evaluation = {
        "rows": 30,
        "bytes": 900,
        "candidate": {"token_loss": 2.0, "bits_per_byte": 1.5, "perplexity": 7.4, "chrf": 20.0},
        "base": {"token_loss": 3.0, "bits_per_byte": 2.5},
        "unigram": {"token_loss": 5.0, "bits_per_byte": 3.5},
        "copy": {"chrf": 17.0},
        "versus_base": {"token_loss": {"difference": -1.0, "low": -1.1, "high": -0.9}},
    }
    assert results.metrics_json(evaluation, "sft", train_rows=200) == {
        "rows": {"train": 200, "test": 30},
        "candidate": {"token_loss": 2.0, "bits_per_byte": 1.5, "chrf": 20.0},
        "base": {"token_loss": 3.0, "bits_per_byte": 2.5},
        "baseline": {"token_loss": 5.0, "bits_per_byte": 3.5, "chrf": 17.0},
    }


def test_metrics_json_of_a_classifier_has_no_base() -> None:
    evaluation = {
        "rows": 9,
        "candidate": {"accuracy": 0.8, "macro_f1": 0.7, "weighted_f1": 0.75},
        "majority": {"accuracy": 0.4, "macro_f1": 0.1},
        "tfidf": {"accuracy": 0.9, "macro_f1": 0.6},
        "recall": {"yes": 1.0},
    }
    value = results.metrics_json(evaluation, "classification", train_rows=90)
    assert value["baseline"] == {"accuracy": 0.9, "macro_f1": 0.6}
    assert "base" not in value


def test_intervals_json_keeps_all_digits_and_reasons() -> None:
    third = 1 / 3
    versus: dict[str, Measures] = {
        "baseline": {
            "accuracy": Interval(third, -third, 2 * third, 40, "tfidf"),
            "recall:中": "no baseline measures it",
        },
        "value": {"accuracy": Interval(0.8, None, None, 3)},
    }
    assert results.read_intervals(json.loads(json.dumps(results.intervals_json(versus)))) == versus
