"""The estimate of how long an evaluation will take."""

from pathlib import Path

import pyarrow as pa
import pytest
from evaluate_params import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.evaluation import timing
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import causal
from tuneline.evaluation.timing import Estimate, Speed, Work
from tuneline.modeling import models

EVALUATE = evaluate(seed=0, batch_size=3, generation_rows=8, max_new_tokens=6, samples=2, bootstrap_resamples=100)


def test_the_estimate_counts_batches_of_answers_and_tokens_of_likelihood() -> None:
    work = Work(read=10_000, prompts=4_000, rows=200, batch_size=32, max_new_tokens=50, models=2)
    found = timing.estimate_seconds(work, Speed(token=0.001, step=0.5))
    assert work.batches == 7
    assert found.likelihood == pytest.approx(20)
    batch = 50 * 0.5 + 4_000 / 7 * 0.001
    assert found.answers == pytest.approx(2 * 7 * batch)
    # Two models with three batches each take 153 s, with four 205 s.
    assert found.generation_rows == 3 * 32


def test_drawn_answers_are_counted() -> None:
    greedy = Work(read=10, prompts=4_000, rows=200, batch_size=50, max_new_tokens=50)
    drawn = Work(read=10, prompts=4_000, rows=200, batch_size=50, max_new_tokens=50, answers=5)
    speed = Speed(token=0.001, step=0.5)
    assert timing.estimate_seconds(drawn, speed).answers == pytest.approx(
        5 * timing.estimate_seconds(greedy, speed).answers
    )
    assert timing.estimate_seconds(drawn, speed).generation_rows == 60
    assert "answers to 200 rows (5 each)" in timing.messages(drawn, Estimate(1.0, 1.0, 60), can_choose=True)[0]
    sampled = EVALUATE.model_copy(update={"samples_per_prompt": 4, "temperature": 0.8})
    assert (EVALUATE.answers_per_row, sampled.answers_per_row) == (1, 5)


def test_at_least_one_batch_of_answers_is_recommended() -> None:
    work = Work(read=1, prompts=1, rows=200, batch_size=32, max_new_tokens=500)
    assert timing.estimate_seconds(work, Speed(token=1.0, step=10.0)).generation_rows == 32


@pytest.mark.parametrize(
    ("found", "can_choose", "wanted"),
    [
        (
            Estimate(60.0, 3_600.0, 64),
            True,
            [
                "this evaluation of 2 models will take about 1 h 1 min: likelihood 1 min 0 s, answers to 200 rows at "
                "most 1 h 0 min",
                "with evaluate.generation_rows: 64 the answers would take 3 min 0 s or less",
            ],
        ),
        (
            Estimate(60.0, 36_000.0, 32),
            True,
            [
                "this evaluation of 2 models will take about 10 h 1 min: likelihood 1 min 0 s, answers to 200 rows at "
                "most 10 h 0 min",
                "with evaluate.generation_rows: 32 the answers would take the least time (one batch)",
            ],
        ),
        (
            Estimate(5.0, 20.0, 2_000),
            True,
            ["this evaluation of 2 models will take about 25 s: likelihood 5.0 s, answers to 200 rows at most 20 s"],
        ),
    ],
)
def test_the_estimate_in_words(found: Estimate, can_choose: bool, wanted: list[str]) -> None:
    work = Work(read=1, prompts=1, rows=200, batch_size=32, max_new_tokens=50, models=2)
    assert timing.messages(work, found, can_choose=can_choose) == wanted


def test_timing_changes_no_score_and_short_evaluations_are_not_timed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models.save(model, tokenizer, tmp_path)
    pairs = [(f"def f{number}(x):", "Open a file. " * (number % 3 + 1)) for number in range(10)]
    split = pa.table(
        {
            "id": [str(number) for number in range(10)],
            "cluster": [str(number) for number in range(10)],
            "source": ["a.jsonl:1"] * 10,
            "prompt": [prompt for prompt, _ in pairs],
            "completion": [completion for _, completion in pairs],
        }
    )
    rows = causal.test_rows(split, EVALUATE)

    def measured() -> tuple[pa.Table, str]:
        found = causal.measure(ModelToScore(tmp_path, "base", 64, models=2), rows, EVALUATE, is_text=False)
        return found, capsys.readouterr().out

    plain, said = measured()
    assert "this evaluation" not in said
    monkeypatch.setattr(timing, "LONG", 0.0)
    timed, said = measured()
    assert timed.equals(plain)
    assert said.startswith("this evaluation of 2 models will take about ")
