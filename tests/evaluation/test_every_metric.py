"""Every metric of every task: it has a value, an interval, and stays in the range of the table of metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison
from tuneline.evaluation.answer_metrics import closeness
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.task_table import TASKS
from tuneline.evaluation.tasks import causal, classification, preference, regression
from tuneline.params import TASK_KEYS, Evaluate, Task
from tuneline.params.gate import METRICS_OF_TASK, metric

ROWS = 40
EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=ROWS, max_new_tokens=6, samples=ROWS, bootstrap_resamples=200)
KEYS = {
    name: [f"{name}{row // 2 if name == 'cluster' else row}" for row in range(ROWS)]
    for name in ("id", "source", "cluster")
}
RANDOM = np.random.default_rng(11)
VOCABULARY = ["return", "the", "area", "面", "积", "a", "", "b.", "🙂", "\u202e", "c d e f"]


def _texts() -> list[str]:
    return [" ".join(RANDOM.choice(VOCABULARY, RANDOM.integers(0, 9))) for _ in range(ROWS)]


def _likelihood() -> dict[str, Any]:
    return {"tokens": RANDOM.integers(1, 9, ROWS), "nll": RANDOM.exponential(9.0, ROWS)}


def _pairs(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    rows = causal.test_rows(
        pa.table(KEYS | {"prompt": _texts(), "completion": [f"the {text}" for text in _texts()]}), evaluate
    )
    answers, references = _texts(), rows["reference"].to_pylist()
    samples = [_texts()[:3] for _ in range(ROWS)] if evaluate.temperature else None
    return rows, causal.scores(
        **_likelihood(), texts=answers, samples=samples, closeness=closeness(answers, references, "13a")
    )


def _text(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    rows = causal.test_rows(pa.table(KEYS | {"text": [f"the {text} end" for text in _texts()]}), evaluate)
    return rows, causal.scores(**_likelihood(), texts=_texts())


def _labels(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    split = pa.table(KEYS | {"text": _texts(), "label": RANDOM.choice(["a", "b", "中"], ROWS).tolist()})
    rows = classification.test_rows(split, evaluate, RecordForm("classification"))
    return rows, classification.scores(RANDOM.choice(["a", "b", "中", "other"], ROWS).tolist(), RANDOM.random(ROWS))


def _label_sets(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    def drawn() -> list[str]:
        return [label_codec.encode(RANDOM.choice(["a", "b"], 2).tolist()) for _ in range(ROWS)]

    split = pa.table(KEYS | {"text": _texts(), "label": drawn()})
    rows = classification.test_rows(split, evaluate, RecordForm("classification", multi_label=True))
    return rows, classification.scores(drawn(), RANDOM.random(ROWS))


def _numbers(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    split = pa.table(KEYS | {"text": _texts(), "label": [str(number) for number in RANDOM.integers(1, 6, ROWS)]})
    return regression.test_rows(split, evaluate), regression.scores(RANDOM.normal(3, 2, ROWS))


def _preferences(evaluate: Evaluate) -> tuple[pa.Table, pa.Table]:
    split = pa.table(KEYS | {"prompt": _texts(), "chosen": [f"the {text}" for text in _texts()], "rejected": _texts()})
    base, own = (
        preference.scores(
            RANDOM.integers(1, 9, ROWS), RANDOM.exponential(9.0, ROWS), RANDOM.exponential(9.0, ROWS), base
        )
        for base in (None, None)
    )
    own = preference.scores(own["tokens"].to_numpy(), own["nll"].to_numpy(), own["rejected_nll"].to_numpy(), base)
    return preference.test_rows(split, evaluate, RecordForm("preference")), own


CASES: list[tuple[Task, Callable[[Evaluate], tuple[pa.Table, pa.Table]], Evaluate]] = [
    ("sft", _pairs, EVALUATE),
    ("sft", _pairs, EVALUATE.model_copy(update={"temperature": 1.0, "samples_per_prompt": 3})),
    ("language-modeling", _text, EVALUATE),
    ("classification", _labels, EVALUATE),
    ("classification", _label_sets, EVALUATE),
    ("regression", _numbers, EVALUATE),
    ("preference", _preferences, EVALUATE),
]


@pytest.mark.parametrize(
    ("task", "make", "evaluate"),
    CASES,
    ids=[f"{make.__name__[1:]}{evaluate.samples_per_prompt}" for _, make, evaluate in CASES],
)
def test_every_metric_has_a_value_with_its_interval_in_its_range(
    task: Task, make: Callable[[Evaluate], tuple[pa.Table, pa.Table]], evaluate: Evaluate
) -> None:
    rows, scores = make(evaluate)
    summary = comparison.summarise(rows, task, scores)
    measures = comparison.compare(rows, task, scores, None, evaluate)
    unmeasured = {"ece"} if make is _label_sets else set()
    assert set(METRICS_OF_TASK[task]) - unmeasured <= set(measures)
    for name, measured in measures.items():
        if name in unmeasured:
            assert isinstance(measured, str)
            continue
        assert isinstance(measured, Interval), name
        lowest, highest = metric(name).range
        assert measured.low is not None and measured.high is not None
        assert lowest <= measured.low <= measured.difference <= measured.high <= highest, name
        if ":" not in name:
            assert summary[name] == pytest.approx(measured.difference)
    # Measured again, and compared with itself, nothing differs.
    assert comparison.compare(rows, task, scores, None, evaluate) == measures
    same = comparison.compare(rows, task, scores, scores, evaluate)
    assert all(
        (one.difference, one.low, one.high) == (0.0, 0.0, 0.0) for one in same.values() if isinstance(one, Interval)
    )


def test_every_task_has_its_case() -> None:
    assert {task for task, _, _ in CASES} == set(TASKS) == set(TASK_KEYS)


@pytest.mark.parametrize("count", [1, 9])
def test_a_few_test_rows_have_values_and_no_intervals(count: int) -> None:
    rows, scores = _pairs(EVALUATE)
    found = comparison.compare(rows.slice(1, count), "sft", scores.slice(1, count), None, EVALUATE)
    assert set(found) == set(METRICS_OF_TASK["sft"])
    for name, measured in found.items():
        # A single answer is like no other.
        assert measured == "it is not defined on these rows" if isinstance(measured, str) else measured.low is None, (
            name
        )


def test_a_model_that_answers_nothing_and_one_that_never_stops_have_metrics() -> None:
    rows, _ = _pairs(EVALUATE)
    references = ["Return the area."] * ROWS
    silent, endless = (
        comparison.summarise(
            rows,
            "sft",
            causal.scores(**_likelihood(), texts=answers, closeness=closeness(answers, references, "13a")),
        )
        for answers in ([""] * ROWS, ["on and on " * 200] * ROWS)
    )
    assert (silent["exact_match"], silent["bleu"], silent["chrf"], silent["length_ratio"]) == (0.0, 0.0, 0.0, 0.0)
    assert not {"distinct_1", "repetition", "self_bleu"} & set(silent)
    assert endless["repetition"] > 0.99
    assert endless["self_bleu"] == pytest.approx(100.0)
    assert endless["distinct_1"] < 0.001
    assert endless["length_ratio"] > 50
