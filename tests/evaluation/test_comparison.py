from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.evaluation import comparison, measuring, results
from tuneline.evaluation.comparison import Rows, Scores
from tuneline.evaluation.intervals import Interval
from tuneline.params import Evaluate
from tuneline.training import models

EVALUATE = Evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)


def split(rows: int = 24) -> pa.Table:
    return pa.table(
        {
            "id": [f"id{row}" for row in range(rows)],
            "source": [f"pairs.jsonl:{row + 1}" for row in range(rows)],
            "cluster": [f"module{row // 2}" for row in range(rows)],
            "prompt": [f"def f{row}(x):\n" for row in range(rows)],
            "completion": ["Return the area. 面积"] * rows,
        }
    )


def scores(nll: list[float], tokens: list[int], chrf: list[float]) -> Scores:
    size = len(nll)
    return Scores(
        np.array(nll),
        np.array(tokens),
        np.full(size, 10),
        [None if np.isnan(mark) else "text" for mark in chrf],
        np.array(chrf),
    )


def test_a_seed_draws_the_rows_that_are_answered() -> None:
    rows = Rows.of_split(split(), "sft", EVALUATE)
    assert sum(rows.answered) == 5
    assert rows.answered == Rows.of_split(split(), "sft", EVALUATE).answered
    assert rows.answered != Rows.of_split(split(), "sft", EVALUATE.model_copy(update={"seed": 2})).answered
    assert rows.records[0] == {"prompt": "def f0(x):\n", "completion": "Return the area. 面积"}


def test_a_text_is_halved_and_still_measured_whole() -> None:
    table = pa.table({"id": ["a"], "source": ["t:1"], "cluster": ["m"], "text": ["abcde"]})
    rows = Rows.of_split(table, "language-modeling", EVALUATE)
    assert (rows.prompts, rows.references, rows.answered) == (["ab"], ["cde"], [True])
    assert rows.records == [{"text": "abcde"}]


def test_some_rows_may_be_taken() -> None:
    rows = Rows.of_split(split(6), "sft", EVALUATE).take([2, 3])
    assert rows.ids == ["id2", "id3"]
    assert rows.task == "sft"


def test_metrics_are_weighted_by_tokens_and_bytes() -> None:
    found = comparison.summarise(scores([10.0, 30.0], [2, 18], [np.nan, 40.0]))
    assert found == {
        "token_loss": pytest.approx(2.0),
        "bits_per_byte": pytest.approx(40 / np.log(2) / 20),
        "perplexity": pytest.approx(np.exp(2.0)),
        "chrf": 40.0,
    }


def test_a_loss_per_token_is_not_compared_across_tokenizers() -> None:
    candidate = scores([1.0] * 20, [3] * 20, [np.nan] * 20)
    other = scores([2.0] * 20, [4] * 20, [np.nan] * 20)
    clusters = [str(row) for row in range(20)]
    found = comparison.compare(candidate, other, clusters, EVALUATE)
    assert "tokenizers cut the rows differently" in str(found["token_loss"])
    bits = found["bits_per_byte"]
    assert isinstance(bits, Interval)
    assert (bits.difference, bits.low, bits.high) == pytest.approx((-0.1 / np.log(2),) * 3)
    assert found["chrf"] == "no answers were scored"
    assert set(results.as_numbers(found)) == {"bits_per_byte"}


def test_without_a_common_row_nothing_is_measured() -> None:
    nothing = scores([], [], [])
    found = comparison.compare(nothing, nothing, [], EVALUATE)
    assert set(found.values()) == {"no test row is left that both may be measured on"}


def test_another_model_is_measured_on_the_rows_of_the_report(
    tmp_path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    models.save(model, tokenizer, tmp_path / "model")
    rows = Rows.of_split(split(), "sft", EVALUATE)
    candidate = measuring.measure(tmp_path / "model", rows, EVALUATE, max_length=64, name="candidate")
    table = results.row_scores(rows, {"candidate": candidate, "base": candidate})
    assert Rows.of_report(table, "sft") == rows
    again = measuring.measure(
        tmp_path / "model", Rows.of_report(table, "sft"), EVALUATE, max_length=64, name="champion"
    )
    read = Scores.of_report(table, "candidate")
    for one in (again, read):
        assert one.texts == candidate.texts
        np.testing.assert_array_equal(one.nll, candidate.nll)
        np.testing.assert_array_equal(one.chrf, candidate.chrf)
    found = comparison.compare(read, again, rows.clusters, EVALUATE)
    assert [found[metric] for metric in ("token_loss", "bits_per_byte")] == [Interval(0.0, 0.0, 0.0, 12)] * 2
