"""The few numbers by which people compare trainings."""

from tuneline.evaluation import results


def test_of_the_baselines_the_best_in_each_metric_is_compared() -> None:
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


def test_without_a_base_labels_are_compared_with_the_better_of_two_baselines() -> None:
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
