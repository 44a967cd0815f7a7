"""The page of each task, made from score tables."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from projects import ROOT

from tuneline import params
from tuneline.core import files
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison, comparisons, results, score_table, slices
from tuneline.evaluation.tasks import classification, preference, regression
from tuneline.reporting import report
from tuneline.reporting.label_section import labels_of

EVIL = '<script>alert("x")</script>'
RANDOM = np.random.default_rng(0)
COUNT = 60


@pytest.fixture
def values(tmp_path_factory: pytest.TempPathFactory, params_text: str) -> params.Params:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(params_text, "utf-8")
    return params.load(path)


def split(**fields: list[str]) -> pa.Table:
    keys = {name: [f"{name}{row} {EVIL}" for row in range(COUNT)] for name in ("id", "source", "cluster")}
    return pa.table(keys | fields)


def page(folder: Path, values: params.Params, test: pa.Table, task: params.Task, scores: dict[str, pa.Table]) -> str:
    """The page of scores, without a gate."""
    versus = {"baseline": comparison.compare_with_best_baseline(test, task, scores, values.evaluate)}
    if "base" in scores:
        versus["base"] = comparison.compare(test, task, scores["candidate"], scores["base"], values.evaluate)
    several = "multilabel" in test.column_names and test["multilabel"][0].as_py()
    files.write_parquet(folder / "rows.parquet", score_table.join(test, scores))
    files.write_json(folder / "evaluation.json", results.evaluation_json(test, task, scores, versus))
    made = report.assemble(
        folder,
        values.model_copy(update={"task": task}),
        champion_texts={test["id"][0].as_py(): label_codec.encode([EVIL]) if several else EVIL},
        params_file=folder / "none.yaml",
    )
    html = report.render(made)
    assert "<script" not in html
    assert "<img" not in html
    HTMLParser().feed(html)
    assert html == report.render(made)
    return html


def classified(labels: list[str], values: params.Params, folder: Path, *, multi_label: bool = False) -> str:
    true = [labels[row % len(labels)] for row in range(COUNT)]
    given = [label if RANDOM.random() < 0.7 else labels[0] for label in true]
    texts = [f"{EVIL} {row}" for row in range(COUNT)]
    form = RecordForm("classification", multi_label=multi_label)
    test = classification.test_rows(split(text=texts, label=true), values.evaluate, form)
    scores = {
        "candidate": classification.scores(given, np.full(COUNT, 0.8)),
        "majority": classification.majority(test, test),
        "tfidf": classification.scores(true, np.full(COUNT, 0.6)),
    }
    return page(folder, values, test, "classification", scores)


def test_the_page_of_a_classifier_has_labels_confusion_and_mistakes(tmp_path: Path, values: params.Params) -> None:
    html = classified([EVIL, "neg", "中"], values, tmp_path)
    for words in (
        "Macro F1",
        "Majority",
        "TF-IDF",
        "against TF-IDF",
        "The surest mistakes",
        "wrong, 80 % sure",
        "Label by label",
        "How far its probabilities can be trusted",
        'class="bin"',
        "<bdi>neg</bdi> mistaken for <bdi>&lt;script&gt;",
        'class="taken',
        "TF-IDF, a linear model of the words, is better (Macro F1 1.000 against",
        "predicts the labels of unseen text no better than the trivial baselines",
    ):
        assert words in html


def test_labels_that_differ_only_in_spaces_differ_on_the_page(tmp_path: Path, values: params.Params) -> None:
    html = classified(["pos", "pos "], values, tmp_path)
    assert ">pos</th>" in html
    assert ">&#39;pos\N{NO-BREAK SPACE}&#39;</th>" in html
    assert "<bdi>&#39;pos\N{NO-BREAK SPACE}&#39;</bdi> mistaken for <bdi>pos</bdi>" in html


def test_secrets_of_test_rows_are_masked(tmp_path: Path, values: params.Params) -> None:
    secret = "jane.doe@firm.org"
    texts = [f"{secret} wrote {row}" for row in range(COUNT)]
    labels = ["neg", "pos"] * (COUNT // 2)
    test = classification.test_rows(split(text=texts, label=labels), values.evaluate, RecordForm("classification"))
    scores = {
        "candidate": classification.scores(["neg"] * COUNT, np.full(COUNT, 0.8)),
        "majority": classification.majority(test, test),
        "tfidf": classification.scores(labels, np.full(COUNT, 0.6)),
    }
    html = page(tmp_path, values, test, "classification", scores)
    assert secret not in html
    assert "&lt;EMAIL&gt; wrote" in html
    assert "What looks like a secret is masked on this page." in html


def test_the_confusion_names_rows_and_numbers_columns(tmp_path: Path, values: params.Params) -> None:
    name = "transfer_not_received_by_the_recipient_" + "x" * 90
    html = classified([name, *(f"label {place}" for place in range(9))], values, tmp_path)
    table = html[
        html.index('<table class="confusion">') : html.index("</table>", html.index('<table class="confusion">'))
    ]
    assert all(f">{place}</th>" in table for place in range(1, 11))
    # A long name may break after its words and is cut, so that it does not widen the table.
    assert "transfer_<wbr>not_<wbr>received_<wbr>by_<wbr>the_<wbr>recipient_<wbr>" in table
    assert "x" * 60 not in table.replace(f'title="{name}"', "")
    # With so many labels a phone shows a picture.
    assert 'class="scroll wide-only"' in html
    assert '<svg class="confusion phone-only"' in html
    few = classified(["neg", "pos"], values, tmp_path / "few")
    assert 'phone-only"' not in few[few.index("<body>") :]


def test_the_confusion_of_many_labels_is_a_picture(tmp_path: Path, values: params.Params) -> None:
    html = classified([f"label {place} {EVIL}" for place in range(30)], values, tmp_path)
    assert '<svg class="confusion" viewBox="0 0 30 30"' in html
    assert '<table class="confusion">' not in html


def test_the_picture_of_very_many_labels_stays_small() -> None:
    labels = [f"{place} {'x' * 300}" for place in range(90)]
    rows = len(labels) ** 2
    texts = [f"text {row}" for row in range(rows)]
    true = [labels[row % 90] for row in range(rows)]
    given = [labels[row // 90] for row in range(rows)]
    table = pa.table({"text": texts, "label": true} | dict.fromkeys(("id", "source", "cluster"), texts))
    test = classification.test_rows(table, params.load(ROOT / "params.yaml").evaluate, RecordForm("classification"))
    made = labels_of(score_table.join(test, {"candidate": classification.scores(given, np.full(rows, 0.5))}))
    assert sum(len(line.cells) for line in made.confusion) == 2_000


def test_rows_with_several_labels_have_no_confusion(tmp_path: Path, values: params.Params) -> None:
    html = classified(['["a"]', f'["a","{EVIL[1:8]}"]', "[]"], values, tmp_path, multi_label=True)
    assert "Label by label" in html
    assert "labels are confused" not in html
    assert "a, script&gt;" in html
    assert '<dd dir="auto">none</dd>' in html


def test_the_page_of_a_regression_shows_errors(tmp_path: Path, values: params.Params) -> None:
    texts = [f"{EVIL} {row}" for row in range(COUNT)]
    test = regression.test_rows(split(text=texts, label=[str(row % 5) for row in range(COUNT)]), values.evaluate)
    true = test["label"].to_numpy()
    scores = {
        "candidate": regression.scores(true + 0.25),
        "mean": regression.mean(test, test),
        "tfidf": regression.scores(true + RANDOM.normal(0, 1, COUNT)),
    }
    html = page(tmp_path, values, test, "regression", scores)
    for words in (
        "Mean absolute error",
        "Spearman correlation",
        "The largest errors",
        "off by 0.25",
        "predicts the numbers of unseen text better",
    ):
        assert words in html


def test_the_page_of_a_preference_shows_gains_of_likelihood(tmp_path: Path, values: params.Params) -> None:
    fields: dict[str, Any] = {"prompt": [EVIL] * COUNT, "chosen": [EVIL + "better"] * COUNT, "rejected": ["w"] * COUNT}
    test = preference.test_rows(split(**fields), values.evaluate, RecordForm("preference"))
    tokens, nll = np.full(COUNT, 4), np.full(COUNT, 9.0)
    base = preference.scores(tokens, nll, nll, None)
    gained = RANDOM.normal(1, 1, COUNT)
    scores = {
        "candidate": preference.scores(tokens, nll - 1.5, nll - 1.5 + gained, base),
        "base": base,
        "longer": preference.longer(test),
    }
    html = page(tmp_path, values, test, "preference", scores)
    for words in (
        "Reward accuracy",
        "likelihood +1.5",
        "Always preferring the longer answer",
        "against the base",
        "Longer",
    ):
        assert words in html


def sliced_page(folder: Path, values: params.Params, slice_rule: dict[str, Any] | None = None, **more: Any) -> str:
    """The page of a classifier on three shops, of which the last is hard."""
    shops = [("good", "fair", EVIL)[row % 3] if row else "" for row in range(COUNT)]
    test = classification.test_rows(
        split(text=[f"text {row}" for row in range(COUNT)], label=["a", "b"] * (COUNT // 2)),
        values.evaluate,
        RecordForm("classification"),
    ).append_column("slice:shop", pa.array(shops))
    given = [
        label if shop != EVIL or row % 2 else "b"
        for row, (label, shop) in enumerate(zip(test["label"].to_pylist(), shops, strict=True))
    ]
    ones = np.ones(COUNT)
    scores = {"candidate": classification.scores(given, ones), "majority": classification.majority(test, test)}
    sliced = comparisons.compare_slices(test, "classification", scores, values.evaluate)
    versus = comparisons.compare_all(test, "classification", scores, values.evaluate)
    files.write_json(folder / "slices.json", slices.as_json(sliced))
    files.write_json(folder / "intervals.json", results.intervals_json(versus))
    if slice_rule:
        rule = {"metric": "accuracy", "versus": "value", "value": 0.9, "margin": 0.0, "verdict": "failed"} | slice_rule
        rule |= {"low": None, "high": None, "improvement": None, "reason": "Because.", "direction": "higher"}
        files.write_json(folder / "gate.json", {"verdict": "failed", "rules": [rule]})
    return page(folder, values.model_copy(update=more), test, "classification", scores)


def test_the_worst_slice_comes_first_and_small_slices_last(tmp_path: Path, values: params.Params) -> None:
    html = sliced_page(tmp_path, values)
    part = html[html.index('id="slices"') : html.index('id="labels"')]
    names = ["&lt;script&gt;alert", ">fair</th>", ">good</th>", "1 other value"]
    assert sorted(names, key=part.index) == names
    assert "By <bdi>shop</bdi>" in part
    assert "The largest gap between two of them is 0.500" in part
    # 20 of 20 rows: exact, and its interval as well.
    assert "<td>1.000<small>1.000 to 1.000</small></td>" in part
    assert "How sure the differences are on each slice" in part


def test_a_slice_that_a_rule_failed_comes_first(tmp_path: Path, values: params.Params) -> None:
    html = sliced_page(tmp_path, values, {"slice": "shop=good"})
    part = html[html.index('id="slices"') : html.index('id="labels"')]
    assert part.index('good <span class="mark failed">') < part.index("&lt;script&gt;alert")


def test_the_slices_in_chinese(tmp_path: Path, values: params.Params) -> None:
    html = sliced_page(tmp_path, values, report=params.Report(language="zh"))
    part = html[html.index('id="slices"') : html.index('id="labels"')]
    for words in ("逐个切片", "按 <bdi>shop</bdi> 划分", "其余 1 个取值", "切片按准确率排序"):
        assert words in html
    assert "largest gap" not in part


def test_a_page_without_slices_has_no_part_for_them(tmp_path: Path, values: params.Params) -> None:
    assert 'id="slices"' not in classified(["a", "b"], values, tmp_path)
