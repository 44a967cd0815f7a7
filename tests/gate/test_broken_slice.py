"""A planted fault: the candidate is better on all test rows together and broken on one slice."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison, slices
from tuneline.evaluation.tasks import classification
from tuneline.gate.decision import Verdict, decide
from tuneline.params import Rule

EVALUATE = evaluate(seed=0, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=1000)
TEXTS = ["Wo ist mein Paket?", "Где моя посылка?", "택배는 어디에 있습니까?", "我的包裹在哪里？"]
BROKEN = 3


def rows() -> pa.Table:
    """800 texts in four languages, the last of which has 80."""
    language = np.repeat(range(4), [300, 240, 180, 80])
    table = pa.table(
        {
            "id": [f"id{row}" for row in range(800)],
            "source": [f"a.csv:{row}" for row in range(800)],
            "cluster": [f"c{row}" for row in range(800)],
            "text": [TEXTS[at] for at in language],
            "label": ["late", "lost"] * 400,
        }
    )
    form = RecordForm("classification")
    found = classification.test_rows(table, EVALUATE, form)
    return slices.add_columns(found, table, ["language"], form, {})


def given(rows: pa.Table, right: dict[str, float], seed: int) -> pa.Table:
    """A model that is right on a share of the rows of each language."""
    random = np.random.default_rng(seed)
    labels = [
        label if random.random() < right[language] else ("lost" if label == "late" else "late")
        for label, language in zip(rows["label"].to_pylist(), rows["slice:language"].to_pylist(), strict=True)
    ]
    return classification.scores(labels, np.ones(len(labels)))


def decided(right: dict[str, float], *rules: dict[str, Any], seed: int = 1) -> Verdict:
    test = rows()
    before = given(test, dict.fromkeys(right, 0.8), seed=1000 + seed)
    scores = {"candidate": given(test, right, seed), "champion": before}
    whole = {
        **comparison.compare(test, "classification", scores["candidate"], before, EVALUATE),
        **slices.gaps(test, "classification", scores["candidate"], before, EVALUATE),
    }
    asked = [
        Rule.model_validate({"metric": "accuracy", "direction": "higher", "versus": "champion", "margin": 0.0} | rule)
        for rule in rules
    ]

    def compare(own: pa.Table, tables: slices.Scores) -> Any:
        return {
            "champion": comparison.compare(own, "classification", tables["candidate"], tables["champion"], EVALUATE)
        }

    sliced = slices.measure(test, "classification", scores, compare)
    return decide(asked, {"champion": whole}, slices={"champion": sliced})


BROKEN_ON_CHINESE = {"latin": 0.95, "cyrillic": 0.95, "ko": 0.95, "zh": 0.3}


@pytest.mark.parametrize("slice_", ["language", "language=zh"])
def test_a_candidate_that_is_better_but_broken_on_one_slice_is_stopped(slice_: str) -> None:
    assert decided(BROKEN_ON_CHINESE, {}).verdict == "passed"
    found = decided(BROKEN_ON_CHINESE, {}, {"slice": slice_, "margin": -0.05})
    assert [rule.verdict for rule in found.rules] == ["passed", "failed"]
    assert found.verdict == "failed"
    assert found.rules[1].reason.startswith("Accuracy on language=zh is worse than the champion's by ")


def test_a_gap_that_has_grown_is_stopped() -> None:
    rule = {"metric": "gap:accuracy:language", "direction": "lower", "margin": -0.05}
    found = decided(BROKEN_ON_CHINESE, rule)
    assert found.verdict == "failed"
    assert found.rules[0].reason.startswith("Gap in Accuracy between slices of language is worse than the champion's")
    assert decided(dict.fromkeys(BROKEN_ON_CHINESE, 0.95), rule).verdict == "passed"


@pytest.mark.slow
def test_equal_models_are_rarely_stopped_because_of_a_slice() -> None:
    same = dict.fromkeys(BROKEN_ON_CHINESE, 0.8)
    verdicts = [decided(same, {"slice": "language"}, seed=seed).verdict for seed in range(400)]
    assert verdicts.count("failed") / 400 <= 0.05
