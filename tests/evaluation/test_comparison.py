import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.evaluation import answer_metrics, comparison, results, score_table
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.evaluation.tasks import causal
from tuneline.modeling import models

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)


def split(count: int = 24, **fields: Any) -> pa.Table:
    keys = {
        "id": [f"id{row}" for row in range(count)],
        "source": [f"pairs.jsonl:{row + 1}" for row in range(count)],
        "cluster": [f"module{row // 2}" for row in range(count)],
    }
    pairs = {"prompt": [f"def f{row}(x):\n" for row in range(count)], "completion": ["Return the area. 面积"] * count}
    return pa.table(keys | (fields or pairs))


def scores(nll: list[float], tokens: list[int], answers: list[str | None]) -> pa.Table:
    close = [
        None if answer is None else answer_metrics.closeness([answer], ["Return it."], "13a")[0] for answer in answers
    ]
    return causal.scores(tokens=np.array(tokens), nll=np.array(nll), texts=answers, closeness=close)


def sized(count: int) -> pa.Table:
    return pa.table(
        {"cluster": [str(row) for row in range(count)], "bytes": [10] * count, "tokenizer": ["13a"] * count}
    )


def test_a_seed_draws_the_rows_that_are_answered() -> None:
    test = causal.test_rows(split(), EVALUATE)
    assert sum(test["answered"].to_pylist()) == 5
    assert test.equals(causal.test_rows(split(), EVALUATE))
    assert not test.equals(causal.test_rows(split(), EVALUATE.model_copy(update={"seed": 2})))
    assert causal.records(test, is_text=False)[0] == {"prompt": "def f0(x):\n", "completion": "Return the area. 面积"}


def test_a_text_is_cut_in_half_for_answers_and_scored_in_full() -> None:
    test = causal.test_rows(split(1, text=["abcde"]), EVALUATE)
    columns = {name: test[name][0].as_py() for name in ("prompt", "reference", "answered", "bytes")}
    assert columns == {"prompt": "ab", "reference": "cde", "answered": True, "bytes": 5}
    assert causal.records(test, is_text=True) == [{"text": "abcde"}]


def test_metrics_are_weighted_by_tokens_and_bytes() -> None:
    found = comparison.summarise(sized(2), "sft", scores([10.0, 30.0], [2, 18], [None, "Return it."]))
    assert found == {
        "token_loss": pytest.approx(2.0),
        "bits_per_byte": pytest.approx(40 / np.log(2) / 20),
        "perplexity": pytest.approx(np.exp(2.0)),
        "exact_match": 1.0,
        "token_f1": 1.0,
        # sacrebleu: a set of answers without four words in a row has a BLEU of 0.
        "bleu": 0.0,
        "chrf": pytest.approx(100.0),
        "length_ratio": 1.0,
        "distinct_1": 1.0,
        "distinct_2": pytest.approx(2 / 3),
        "repetition": 0.0,
    }


def test_a_loss_per_token_is_not_compared_across_tokenizers() -> None:
    candidate = scores([1.0] * 20, [3] * 20, [None] * 20)
    other = scores([2.0] * 20, [4] * 20, [None] * 20)
    found = comparison.compare(sized(20), "sft", candidate, other, EVALUATE)
    assert "tokenizers cut the rows into different tokens" in str(found["token_loss"])
    bits = found["bits_per_byte"]
    assert isinstance(bits, Interval)
    assert (bits.difference, bits.low, bits.high) == pytest.approx((-0.1 / np.log(2),) * 3)
    assert found["chrf"] == "no answer was scored"
    assert set(results.differences_of(found)) == {"bits_per_byte"}


def test_without_test_rows_every_metric_has_a_reason() -> None:
    found = comparison.compare(sized(0), "sft", scores([], [], []), scores([], [], []), EVALUATE)
    assert set(found.values()) == {"no test row is left on which both may be measured"}


def test_each_metric_is_compared_with_its_best_baseline() -> None:
    labels = ["a"] * 30 + ["b"] * 10
    clusters = [str(row) for row in range(40)]
    rows = pa.table({"cluster": clusters, "text": ["t"] * 40, "label": labels, "multilabel": [False] * 40})
    given = {
        "candidate": ["a"] * 30 + ["b"] * 10,
        "majority": ["a"] * 40,
        "tfidf": ["b"] * 12 + ["a"] * 18 + ["b"] * 10,
    }
    tables = {name: pa.table({"label": labels}) for name, labels in given.items()}
    found = comparison.compare_with_best_baseline(rows, "classification", tables, EVALUATE)
    best = {name: one.other for name, one in found.items() if isinstance(one, Interval)}
    assert best == {
        "accuracy": "majority",
        "macro_f1": "tfidf",
        "weighted_f1": "tfidf",
        "matthews_corrcoef": "tfidf",
        "recall:a": "majority",
        "recall:b": "tfidf",
        "precision:a": "tfidf",
        "precision:b": "tfidf",
    }
    accuracy = found["accuracy"]
    assert isinstance(accuracy, Interval)
    assert accuracy.difference == pytest.approx(0.25)


def test_without_another_model_an_interval_is_that_of_the_candidate_s_own_metric() -> None:
    found = comparison.compare(sized(40), "sft", scores([2.0] * 40, [2] * 40, ["it"] * 40), None, EVALUATE)
    assert found["length_ratio"] == Interval(1 / 3, 1 / 3, 1 / 3, 40)


def test_another_model_can_be_scored_on_the_rows_of_rows_parquet(
    tmp_path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    models.save(model, tokenizer, tmp_path / "model")
    test = causal.test_rows(split(), EVALUATE)

    def measured(rows: pa.Table, name: str) -> pa.Table:
        return TASKS["sft"].measure(ModelToScore(tmp_path / "model", name, 64), rows, EVALUATE)

    candidate = measured(test, "candidate")
    found, of_models = score_table.split_columns(score_table.join(test, {"candidate": candidate, "base": candidate}))
    assert found.equals(test)
    assert list(of_models) == ["candidate", "base"]
    assert of_models["base"].equals(candidate)
    again = measured(found, "champion")
    assert again.equals(candidate)
    same = comparison.compare(test, "sft", of_models["candidate"], again, EVALUATE)
    assert [same[metric] for metric in ("token_loss", "bits_per_byte")] == [Interval(0.0, 0.0, 0.0, 12)] * 2


def test_a_candidate_that_has_no_number_for_a_row_is_not_compared_without_that_row() -> None:
    def loss(at: int, value: float) -> list[float]:
        return [value if row == at else 2.0 for row in range(20)]

    sound = scores([3.0] * 20, [3] * 20, [None] * 20)
    # It would be better than the other model on the other 19 rows.
    broken = scores(loss(4, math.nan), [3] * 20, [None] * 20)
    for other in (sound, None):
        found = comparison.compare(sized(20), "sft", broken, other, EVALUATE)
        assert found["bits_per_byte"] == "the candidate has no number for 1 of the test rows"
        assert found["token_loss"] == found["bits_per_byte"]
    assert isinstance(comparison.compare(sized(20), "sft", sound, broken, EVALUATE)["bits_per_byte"], Interval)
    answered = scores([2.0] * 20, [3] * 20, ["it"] * 20)
    silent = scores([2.0] * 20, [3] * 20, [None, *["it"] * 19])
    found = comparison.compare(sized(20), "sft", silent, answered, EVALUATE)
    assert found["chrf"] == "the candidate has no number for 1 of the test rows"
    assert isinstance(found["bits_per_byte"], Interval)


def test_a_regression_that_gives_no_number_is_not_measured() -> None:
    rows = pa.table({"cluster": [str(row) for row in range(20)], "label": [float(row) for row in range(20)]})
    given = pa.table({"value": [math.nan, *[float(row) for row in range(1, 20)]]})
    found = comparison.compare(rows, "regression", given, None, EVALUATE)
    assert set(found.values()) == {"the candidate has no number for 1 of the test rows"}


def test_rows_for_which_the_other_model_gives_no_number_are_not_compared() -> None:
    """NaN is not the largest number: its rank would be one."""
    true = [float(row) for row in range(20)]
    rows = pa.table({"cluster": [str(row) for row in range(20)], "label": true})
    sound = pa.table({"value": [value + row % 3 for row, value in enumerate(true)]})
    broken = pa.table({"value": [math.nan if row in (0, 7) else value for row, value in enumerate(true)]})
    found = comparison.compare(rows, "regression", sound, broken, EVALUATE)
    kept = [row for row in range(20) if row not in (0, 7)]
    on_kept = comparison.compare(rows.take(kept), "regression", sound.take(kept), broken.take(kept), EVALUATE)
    for metric in ("mae", "spearman"):
        interval = found[metric]
        assert isinstance(interval, Interval)
        assert interval.groups == 18
        assert interval == on_kept[metric]
    labels = pa.table({"cluster": rows["cluster"], "label": ["a", "b"] * 10, "multilabel": [False] * 20})
    right = pa.table({"label": ["a", "b"] * 10, "probability": [0.9] * 20})
    lucky = pa.table({"label": ["a", "b"] * 10, "probability": [math.nan if row == 4 else 0.9 for row in range(20)]})
    accuracy = comparison.compare(labels, "classification", right, lucky, EVALUATE)["accuracy"]
    assert isinstance(accuracy, Interval)
    assert accuracy.groups == 19
