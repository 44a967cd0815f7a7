import math
from typing import Any

import orjson
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from transformers import PreTrainedTokenizerFast

from tuneline.evaluation import comparison, metrics
from tuneline.evaluation.tasks import causal, classification, regression

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)


def pairs(*rows: tuple[str, str]) -> pa.Table:
    columns = {"prompt": [prompt for prompt, _ in rows], "completion": [answer for _, answer in rows]}
    keys = {name: [f"{name}{row}" for row in range(len(rows))] for name in ("id", "source", "cluster")}
    return causal.test_rows(pa.table(keys | columns), EVALUATE)


def test_the_unigram_baseline_adds_one_to_the_counts_of_the_training_completions(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    train, test = pairs(("aaaaaaaa", "zq"), ("b", "z")), pairs(("q", "zj"))
    # Counted: z twice, q once, end-of-text twice; one is added for each of the 320 tokens.
    total = 5 + 320
    nll = math.log(total / 3) + math.log(total / 1) + math.log(total / 3)
    found = causal.unigram(tokenizer, train, test, mode="plain", is_text=False)
    assert comparison.summarise(test, "sft", found) == {
        "token_loss": pytest.approx(nll / 3),
        "bits_per_byte": pytest.approx(nll / math.log(2) / 2),
        "perplexity": pytest.approx(math.exp(nll / 3)),
    }


def test_the_copy_baseline_scores_the_text_that_prompt_and_reference_share() -> None:
    test = pairs(("the same", "the same"), ("xyz", "abc"))
    found = comparison.summarise(test, "sft", causal.copy(test))
    assert list(found) == ["exact_match", "token_f1", "bleu", "chrf", "length_ratio"]
    assert (found["exact_match"], found["token_f1"], found["length_ratio"]) == (0.5, 0.5, 1.0)


def test_the_references_say_how_diverse_the_answers_of_people_are() -> None:
    test = pairs(("p", "one two"), ("q", "one three"))
    found = comparison.summarise(test, "sft", causal.references(test))
    assert list(found) == ["distinct_1", "distinct_2", "repetition", "self_bleu"]
    assert found["distinct_1"] == 0.75


def test_in_a_conversation_the_copy_baseline_answers_with_the_last_user_message() -> None:
    turns = [("system", "s"), ("user", "early"), ("assistant", "a"), ("user", "late"), ("assistant", "late")]
    messages = orjson.dumps([{"role": role, "content": content} for role, content in turns]).decode()
    keys = {name: ["x"] for name in ("id", "source", "cluster")}
    test = causal.test_rows(pa.table(keys | {"messages": [messages], "tools": [""]}), EVALUATE)
    assert causal.copy(test)["chrf"].to_pylist() == [100.0]
    assert test["prompt"].to_pylist() == ["system: s\n\nuser: early\n\nassistant: a\n\nuser: late"]
    assert (test["reference"].to_pylist(), test["bytes"].to_pylist()) == (["late"], [5])


def labelled(*rows: tuple[str, Any], multi_label: bool = False) -> pa.Table:
    texts, labels = zip(*rows, strict=True)
    return pa.table({"text": list(texts), "label": list(labels), "multilabel": [multi_label] * len(rows)})


ENGLISH = labelled(*[("good service", "pos"), ("bad service", "neg"), ("good food", "pos")] * 8)
CHINESE = labelled(*[("服务很好", "pos"), ("服务很差", "neg"), ("味道很好", "pos")] * 8)


@pytest.mark.parametrize(
    ("train", "texts"), [(ENGLISH, ["a good day", "bad service"]), (CHINESE, ["今天很好", "今天很差"])]
)
def test_tfidf_predicts_labels_by_words_or_by_chinese_characters(train: pa.Table, texts: list[str]) -> None:
    test = pa.table({"text": texts})
    found = classification.tfidf(train, test, 0)
    assert found["label"].to_pylist() == ["pos", "neg"]
    assert found.equals(classification.tfidf(train, test, 0))
    majority = classification.majority(train, test)
    assert majority["label"].to_pylist() == ["pos", "pos"]
    # It would be the best in calibration.
    assert majority.column_names == ["label"]


def test_tfidf_fits_one_regression_per_label() -> None:
    rows = [("good food", '["food","pos"]'), ("good bed", '["pos"]'), ("bad food", '["food"]'), ("bad bed", "[]")] * 8
    found = classification.tfidf(labelled(*rows, multi_label=True), pa.table({"text": ["good food", "bad bed"]}), 0)
    assert found["label"].to_pylist() == ['["food","pos"]', "[]"]
    one = classification.tfidf(
        labelled(*[("good", '["a","b"]'), ("bad", '["a"]')] * 8, multi_label=True), pa.table({"text": ["good"]}), 0
    )
    assert one["label"].to_pylist() == ['["a","b"]']


def test_numbers_have_the_baselines_tfidf_and_mean() -> None:
    train = labelled(*[("good food", 5.0), ("bad food", 1.0), ("food", 3.0)] * 8)
    test = pa.table({"text": ["good", "bad"]})
    good, bad = regression.tfidf(train, test, 0)["value"].to_pylist()
    assert good > 3.5 > 2.5 > bad
    assert regression.mean(train, test)["value"].to_pylist() == [3.0, 3.0]


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    assert math.isfinite(metrics.perplexity(1e9))
