import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from sklearn.metrics import accuracy_score

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison, comparisons, score_table, slices
from tuneline.evaluation.answer_metrics import closeness
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.tasks import causal, classification, regression

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=400)
LABELLED = RecordForm("classification")
TEXTS = {"zh": "物流很快，质量很好。", "latin": "The parcel came late.", "ru": "Посылка пришла поздно."}


def split(texts: list[str], labels: list[str], **kept: list[str]) -> pa.Table:
    keys = {
        "id": [f"id{row}" for row in range(len(texts))],
        "source": [f"month-{row % 2}.csv:{row}" for row in range(len(texts))],
        "cluster": [f"group{row}" for row in range(len(texts))],
    }
    return pa.table(keys | {"text": texts, "label": labels} | kept)


def sliced_rows(columns: list[str], table: pa.Table, form: RecordForm = LABELLED, **kept: str) -> pa.Table:
    rows = classification.test_rows(table, EVALUATE, form)
    return slices.add_columns(rows, table, columns, form, kept)


def given(labels: list[str]) -> pa.Table:
    return classification.scores(labels, np.ones(len(labels)))


def compared(rows: pa.Table, mine: list[str], theirs: list[str]) -> Any:
    scores = {"candidate": given(mine), "base": given(theirs), "majority": given(["good"] * rows.num_rows)}
    return comparisons.compare_slices(rows, "classification", scores, EVALUATE)


def test_rows_are_cut_by_language_source_length_label_and_kept_columns() -> None:
    table = split([*TEXTS.values(), "x" * 300], ["good", "bad", "bad", "good"], shop_=["a", "b"] * 2)
    rows = sliced_rows(["language", "source", "length", "label", "shop"], table, shop="shop_")
    found = {name: rows[score_table.SLICE + name].to_pylist() for name in slices.columns_of(rows)}
    assert found == {
        "language": ["zh", "latin", "cyrillic", "latin"],
        "source": ["month-0.csv", "month-1.csv", "month-0.csv", "month-1.csv"],
        "length": ["0-63", "0-63", "0-63", "256-1023"],
        "label": ["good", "bad", "bad", "good"],
        "shop": ["a", "b", "a", "b"],
    }


def test_columns_of_slices_are_columns_of_the_test_rows_in_rows_parquet() -> None:
    rows = sliced_rows(["my_shop"], split(["a"], ["good"], my_shop=["b_c"]), my_shop="my_shop")
    joined = score_table.join(rows, {"candidate": given(["good"])})
    own, scores = score_table.split_columns(joined)
    assert own["slice:my_shop"].to_pylist() == ["b_c"]
    assert scores["candidate"].column_names == ["label", "probability"]


def test_a_row_with_several_labels_is_in_the_slice_of_each() -> None:
    table = split(["a", "b"], ['["bad","late"]', '["bad"]'])
    rows = sliced_rows(["label"], table, RecordForm("classification", multi_label=True))
    assert rows["slice:label"].to_pylist() == [["bad", "late"], ["bad"]]


@pytest.mark.parametrize(
    ("form", "fields", "language", "length"),
    [
        (RecordForm("prompt-completion"), {"prompt": ["Translate:"], "completion": ["你好"]}, "zh", "0-63"),
        (RecordForm("text"), {"text": ["я" * 64]}, "cyrillic", "64-255"),
        (
            RecordForm("messages"),
            {"messages": [json.dumps([{"role": "user", "content": "안녕하세요"}])], "tools": [""]},
            "ko",
            "0-63",
        ),
        (RecordForm("preference"), {"prompt": ["Ask"], "chosen": ["ありがとう"], "rejected": ["no"]}, "ja", "0-63"),
    ],
)
def test_the_language_is_that_of_what_the_model_writes(
    form: RecordForm, fields: dict[str, list[str]], language: str, length: str
) -> None:
    table = pa.table({"id": ["1"], "source": ["a:1"], "cluster": ["1"], **fields})
    rows = slices.add_columns(table.select(["id"]), table, ["language", "length"], form, {})
    assert rows["slice:language"].to_pylist() == [language]
    assert rows["slice:length"].to_pylist() == [length]


def test_the_metrics_of_a_slice_are_those_of_its_rows_alone() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(["good", "bad"], 90).tolist()
    mine = [one if random.random() < 0.8 else "bad" for one in labels]
    theirs = random.choice(["good", "bad"], 90).tolist()
    rows = sliced_rows(["language"], split(list(TEXTS.values()) * 30, labels))
    found = compared(rows, mine, theirs)["language"]
    assert [one.value for one in found.slices] == ["cyrillic", "latin", "zh"]
    own = slice(0, 90, 3)
    zh = found.slices[2]
    assert (zh.rows, zh.groups) == (30, 30)
    assert zh.metrics["candidate"]["accuracy"] == accuracy_score(labels[own], mine[own])
    alone = rows.take(list(range(0, 90, 3)))
    expected = comparison.compare(alone, "classification", given(mine[own]), given(theirs[own]), EVALUATE)
    assert zh.versus["base"]["accuracy"] == expected["accuracy"]
    assert zh.versus["base"]["accuracy"].low is not None


def test_a_column_of_thousands_of_values_has_twenty_slices_and_the_rest() -> None:
    customers = [f"big{row % 25}" for row in range(300)] + [f"c{row}" for row in range(3_000)] + ["x" * 201] * 12
    count = len(customers)
    rows = sliced_rows(["customer"], split(["a"] * count, ["good"] * count, customer=customers), customer="customer")
    found = compared(rows, ["good"] * count, ["bad"] * count)["customer"]
    assert [one.value for one in found.slices[:-1]] == sorted(f"big{at}" for at in range(25))[:20]
    rest = found.slices[-1]
    assert rest.value is None
    assert sum(one.rows for one in found.slices) == count
    assert found.values == 3_026
    assert len(found.few) == 1_000
    assert found.few["big9"] == (12, 12)


def test_a_value_with_few_rows_is_in_the_rest() -> None:
    rows = sliced_rows(["shop"], split(["a"] * 12, ["good"] * 12, shop=["one"] + ["many"] * 11), shop="shop")
    found = compared(rows, ["good"] * 12, ["bad"] * 12)["shop"]
    assert [(one.value, one.rows) for one in found.slices] == [("many", 11), (None, 1)]
    assert found.few == {"one": (1, 1)}
    assert found.slices[1].versus["base"]["accuracy"] == Interval(1.0, None, None, 1)


def test_slices_survive_their_file() -> None:
    rows = sliced_rows(["length"], split(["a"] * 12 + ["b" * 100] * 2, ["good"] * 14))
    found = compared(rows, ["good"] * 14, ["bad"] * 14)
    assert slices.read(json.loads(json.dumps(slices.as_json(found)))) == found


def gaps_of(rows: pa.Table, mine: list[str], theirs: list[str] | None = None) -> Any:
    other = None if theirs is None else given(theirs)
    return slices.gaps(rows, "classification", given(mine), other, EVALUATE)


def test_a_gap_is_the_largest_difference_between_two_slices() -> None:
    labels = ["good"] * 90
    rows = sliced_rows(["language"], split(list(TEXTS.values()) * 30, labels))
    # zh: 30 of 30, latin: 24 of 30, cyrillic: 18 of 30.
    mine = ["good" if row % 3 == 0 or row // 3 >= {1: 6, 2: 12}[row % 3] else "bad" for row in range(90)]
    own = gaps_of(rows, mine)["gap:accuracy:language"]
    assert own.difference == pytest.approx(0.4)
    assert own.low < 0.4 < own.high
    assert own.groups == 90
    assert gaps_of(rows, mine, labels)["gap:accuracy:language"].difference == pytest.approx(0.4)
    assert gaps_of(rows, mine, mine)["gap:accuracy:language"] == Interval(0.0, 0.0, 0.0, 90)


def test_a_gap_leaves_out_slices_that_are_too_small() -> None:
    rows = sliced_rows(["shop"], split(["a"] * 12, ["good"] * 12, shop=["one"] + ["many"] * 11), shop="shop")
    assert gaps_of(rows, ["good"] * 12)["gap:accuracy:shop"] == "fewer than two slices are large enough"


def test_a_gap_of_answers_counts_only_rows_that_are_answered() -> None:
    table = pa.table(
        {
            "id": [str(row) for row in range(60)],
            "source": ["a:1"] * 60,
            "cluster": [str(row) for row in range(60)],
            "prompt": ["p"] * 60,
            "completion": ["好", "good"] * 30,
        }
    )
    rows = causal.test_rows(table, EVALUATE)
    rows = slices.add_columns(rows, table, ["language"], RecordForm("prompt-completion"), {})
    answers = [("x" if row % 2 else "好") if row < 40 else None for row in range(60)]
    close = [
        None if answer is None else closeness([answer], [table["completion"][row].as_py()], "zh")[0]
        for row, answer in enumerate(answers)
    ]
    mine = causal.scores(tokens=np.ones(60), nll=np.arange(60.0) % 2 + 1, texts=answers, closeness=close)
    found = slices.gaps(rows, "sft", mine, None, EVALUATE)
    assert found["gap:chrf:language"] == Interval(100.0, 100.0, 100.0, 40)
    assert found["gap:token_loss:language"] == Interval(1.0, 1.0, 1.0, 60)


def test_a_gap_is_not_smaller_because_the_candidate_has_no_number_for_its_worst_rows() -> None:
    table = split(["很好", "good"] * 20, ["a"] * 40).rename_columns(["id", "source", "cluster", "completion", "label"])
    table = table.append_column("prompt", pa.array(["p"] * 40))
    rows = slices.add_columns(
        causal.test_rows(table, EVALUATE), table, ["language"], RecordForm("prompt-completion"), {}
    )
    nll = np.ones(40)
    nll[1] = np.nan
    other = causal.scores(tokens=np.ones(40), nll=np.arange(40.0) % 2)
    for one in (other, None):
        found = slices.gaps(rows, "sft", causal.scores(tokens=np.ones(40), nll=nll), one, EVALUATE)
        assert found["gap:token_loss:language"] == "the candidate has no number for 1 of the test rows"


def test_a_gap_of_ranks_is_that_of_each_slice_alone() -> None:
    table = split(["a", "b" * 100] * 20, [str(row) for row in range(40)])
    rows = regression.test_rows(table, EVALUATE)
    rows = slices.add_columns(rows, table, ["length"], RecordForm("regression"), {})
    values = np.arange(40.0)
    values[1::2] = values[1::2][::-1]
    found = slices.gaps(rows, "regression", regression.scores(values), None, EVALUATE)
    measured = found["gap:spearman:length"]
    assert isinstance(measured, Interval)
    assert measured.difference == pytest.approx(2.0)


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_or_one_row_test_set_has_slices_without_intervals(count: int) -> None:
    rows = sliced_rows(["language", "label", "length", "source"], split(["a"] * count, ["good"] * count))
    found = compared(rows, ["good"] * count, ["bad"] * count)
    for of in found.values():
        assert (of.values, [(one.value, one.rows, one.groups) for one in of.slices]) == (count, [(None, 1, 1)][:count])
    assert set(gaps_of(rows, ["good"] * count).values()) == {"fewer than two slices are large enough"}
