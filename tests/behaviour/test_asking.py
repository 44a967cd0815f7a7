"""What is asked of models that give labels, numbers or text, and what of their answers cannot be judged."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from chat_candidate import Folders
from evaluate_params import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.behaviour import asking, check_file
from tuneline.behaviour.asking import Limits
from tuneline.behaviour.check_results import CheckResult
from tuneline.encoding.examples import CHAT
from tuneline.evaluation import generation
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import classification
from tuneline.modeling import models
from tuneline.params import Task

LIMITS = Limits(batch_size=4, max_new_tokens=8, max_length=32)
EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=8, samples=2, bootstrap_resamples=100)
NOT_FINITE = "the model's output is not a finite number, so it gives no answer"
LABELS = ["refund", "delivery", "praise"]
SINGLE, SEVERAL, NUMBER = "single_label_classification", "multi_label_classification", "regression"


def save_head(folders: Folders, folder: Path, problem_type: str, mode: str, *, is_finite: bool) -> Path:
    """A model with a head of random weights, which are large enough for labels that are sure."""
    labels = [] if problem_type == NUMBER else LABELS
    model, tokenizer = models.new_classifier(folders.base, labels, problem_type, 0)
    changed: Any = model
    changed.score.weight.data *= 40
    if not is_finite:
        overflow(changed)
    models.save(model, tokenizer, folder, mode)
    return folder


def overflow(model: Any) -> None:
    """Make all outputs infinite or not numbers, by weights that are finite: others are not loaded."""
    model.model.norm.weight.data.fill_(3e38)


def ask(folder: Path, task: Task, checks: str) -> list[CheckResult]:
    path = folder.parent / "checks.yaml"
    path.write_text(checks, "utf-8")
    return asking.ask(folder, check_file.load(path), task, LIMITS, "candidate")


@pytest.mark.parametrize("problem_type", [SINGLE, SEVERAL])
def test_a_label_is_not_given_where_the_output_is_not_finite(
    folders: Folders, tmp_path: Path, problem_type: str
) -> None:
    folder = save_head(folders, tmp_path / "model", problem_type, "classification", is_finite=False)
    results = ask(
        folder,
        "classification",
        "classification:\n"
        "  - {text: Where is my parcel?, label: refund}\n"
        "  - {text: Where is my parcel?, same_as: Where is it?}\n",
    )
    assert [result.problem for result in results] == [NOT_FINITE] * 2
    assert not any(result.passed or result.answer for result in results)


def test_a_number_is_not_given_where_the_output_is_not_finite(folders: Folders, tmp_path: Path) -> None:
    folder = save_head(folders, tmp_path / "model", NUMBER, "regression", is_finite=False)
    [result] = ask(folder, "regression", "regression:\n  - {text: Where is my parcel?, between: [0, 1]}\n")
    assert result.problem == NOT_FINITE


def test_an_answer_is_not_judged_where_the_output_is_not_finite(folders: Folders, tmp_path: Path) -> None:
    """Its tokens are the first ones of the vocabulary, which hold none of the forbidden words."""
    model, tokenizer = models.load(folders.merged)
    overflow(model)
    models.save(model, tokenizer, tmp_path / "model", CHAT)
    checks = "sft:\n  - {prompt: Who are you?, not_contains: fool, regex: '^'}\n"
    [result] = ask(tmp_path / "model", "sft", checks)
    assert (result.problem, result.answer) == (NOT_FINITE, None)


@pytest.mark.parametrize("problem_type", [SINGLE, SEVERAL])
def test_a_check_sees_the_labels_and_the_probability_of_the_evaluation(
    folders: Folders, tmp_path: Path, problem_type: str
) -> None:
    folder = save_head(folders, tmp_path / "model", problem_type, "classification", is_finite=True)
    texts = ["Where is my parcel?", "Who are you?", "It is in Ghent.", "parcels parcels"]
    rows = pa.table({"text": texts, "label": ["refund"] * 4})
    found = classification.measure(ModelToScore(folder, "candidate", LIMITS.max_length), rows, EVALUATE)
    lines = "".join(f"  - {{text: {text}, one_of: [refund, delivery, praise]}}\n" for text in texts)
    results = ask(folder, "classification", f"classification:\n{lines}")
    for result, label, sure in zip(results, found["label"].to_pylist(), found["probability"].to_pylist(), strict=True):
        given = label.strip("[]").replace('"', "").replace(",", ", ") or "no label"
        assert result.answer == f"{given} ({100 * sure:.0f} % sure)"


def test_only_the_answers_of_rows_with_numbers_are_defined(folders: Folders) -> None:
    model, tokenizer = models.load(folders.merged)
    assert all(answer.is_defined for answer in answer_all(model, tokenizer))
    # The embedding of one token: only the prompt that holds it has no numbers.
    token = tokenizer.convert_tokens_to_ids("W")
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = math.nan  # pyright: ignore
    assert [answer.is_defined for answer in answer_all(model, tokenizer)] == [True, False, True]


def answer_all(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[generation.Answer]:
    prompts = ["my parcel", "W", "you are"]
    encoded = [tokenizer.convert_tokens_to_ids(list(prompt.replace(" ", "Ġ"))) for prompt in prompts]
    return generation.answer_encoded(model, tokenizer, encoded, mode=CHAT, max_new_tokens=1, batch_size=3)  # pyright: ignore
