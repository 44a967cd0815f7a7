"""A planted fault: a candidate with exactly the scores of the champion, which no rule may pass as better."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import answer_metrics, comparison, slices
from tuneline.evaluation.tasks import causal, classification, regression
from tuneline.gate.decision import Decision, Verdict, decide
from tuneline.gate.spending import level_of
from tuneline.params import Rule
from tuneline.params.gate import METRICS, metric
from tuneline.params.task_keys import Task

ROWS = 60
EVALUATE = evaluate(seed=0, batch_size=4, generation_rows=ROWS, max_new_tokens=6, samples=2, bootstrap_resamples=200)
ANSWERS = [f"Return the area of {row} and the {'width' if row % 3 else 'height'} of it." for row in range(ROWS)]
REFERENCES = [f"Return the area of {row % 7} and the width." for row in range(ROWS)]


def keys() -> dict[str, list[str]]:
    return {
        "id": [f"id{row}" for row in range(ROWS)],
        "source": [f"a.jsonl:{row}" for row in range(ROWS)],
        "cluster": [f"c{row}" for row in range(ROWS)],
    }


def written() -> tuple[pa.Table, pa.Table]:
    split = pa.table(keys() | {"prompt": [f"def f{row}(x):\n" for row in range(ROWS)], "completion": REFERENCES})
    rows = causal.test_rows(split, EVALUATE)
    rows = slices.add_columns(rows, split, ["length"], RecordForm("prompt-completion"), {})
    random = np.random.default_rng(1)
    tokens = random.integers(5, 60, ROWS)
    close = answer_metrics.closeness(ANSWERS, REFERENCES, "13a")
    texts: list[str | None] = [*ANSWERS]
    return rows, causal.scores(
        tokens=tokens, nll=random.gamma(2.0, 1.0, ROWS) * tokens, texts=texts, closeness=[*close]
    )


def labelled() -> tuple[pa.Table, pa.Table]:
    split = pa.table(keys() | {"text": ANSWERS, "label": ["late", "lost", "found"] * (ROWS // 3)})
    form = RecordForm("classification")
    rows = slices.add_columns(classification.test_rows(split, EVALUATE, form), split, ["label"], form, {})
    random = np.random.default_rng(2)
    given = [str(one) for one in random.choice(["late", "lost", "found"], ROWS)]
    return rows, classification.scores(given, random.uniform(0.4, 1.0, ROWS))


def numbered() -> tuple[pa.Table, pa.Table]:
    random = np.random.default_rng(3)
    split = pa.table(keys() | {"text": ANSWERS, "label": random.normal(size=ROWS)})
    form = RecordForm("regression")
    rows = slices.add_columns(regression.test_rows(split, EVALUATE, form), split, ["length"], form, {})
    return rows, regression.scores(random.normal(size=ROWS))


def tie(task: Task, found: tuple[pa.Table, pa.Table], *, level: float, **more: Any) -> Verdict:
    """The verdict about a candidate that equals the champion: one rule "better than it" for each metric it has."""
    rows, scores = found
    whole = {
        **comparison.compare(rows, task, scores, scores, EVALUATE),
        **slices.gaps(rows, task, scores, scores, EVALUATE),
    }
    sliced = slices.measure(
        rows,
        task,
        {"candidate": scores},
        lambda own, of: {"champion": comparison.compare(own, task, of["candidate"], of["candidate"], EVALUATE)},
    )
    [column] = slices.columns_of(rows)
    names = [name for name, one in whole.items() if not isinstance(one, str)]
    known = [name for name in names if name in METRICS]
    both = [(name, None) for name in names] + [(name, column) for name in known]
    asked = [
        Rule.model_validate(
            {"metric": name, "direction": direction, "versus": "champion", "margin": 0.0, "slice": of} | more
        )
        for name, of in both
        for direction in (["lower", "higher"] if metric(name).better == "neither" else [metric(name).better])
    ]
    return decide(asked, {"champion": whole}, slices={"champion": sliced}, level=level)


def not_stopped(found: Verdict) -> list[Decision]:
    return [one for one in found.rules if one.verdict != "failed" or "the same as the champion's" not in one.reason]


@pytest.mark.parametrize(("task", "made"), [("sft", written), ("classification", labelled), ("regression", numbered)])
def test_a_tie_is_not_better_than_the_champion_and_is_told_as_a_tie(task: Task, made: Any) -> None:
    decided = tie(task, made(), level=level_of(30))
    assert len(decided.rules) >= 6
    assert decided.verdict == "failed"
    assert not_stopped(decided) == []
    assert "(95 % interval of the improvement exactly 0); the interval is not above zero." in decided.rules[0].reason


def test_a_tie_is_undecided_where_a_rule_fails_only_below_zero_and_passes_as_not_worse() -> None:
    found = written()
    undecided = tie("sft", found, level=level_of(1), fails_below=-0.05)
    assert undecided.verdict == "undecided"
    assert {one.verdict for one in undecided.rules} == {"undecided"}
    assert tie("sft", found, level=level_of(30), margin=-0.01).verdict == "passed"
