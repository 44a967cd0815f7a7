from typing import Any

import pytest
import torch
from chats import encode
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.encoding.encode import encode_records
from tuneline.encoding.examples import IGNORED, Example
from tuneline.evaluation import likelihood

PAIRS = [
    {"prompt": "def area(width, height):\n", "completion": "Return the area of a rectangle."},
    {"prompt": "x", "completion": "y"},
    {"prompt": "", "completion": "从空白开始。"},
    {"prompt": "def flip(text):\n", "completion": "把一个字符串倒过来。"},
    {"prompt": "def area(width, height):\n" * 2, "completion": "Open."},
]
TEXTS = [{"text": pair["prompt"] + pair["completion"]} for pair in PAIRS]


def encoded(tokenizer: PreTrainedTokenizerFast, records: list[dict[str, Any]]) -> list[Example]:
    return [example for [example] in encode_records(tokenizer, records)]


def plainly(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]) -> tuple[float, int]:
    """The likelihood of one row by the forward pass of transformers."""
    [(ids, labels, _)] = encode(tokenizer, record)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    nll = functional.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=IGNORED, reduction="sum")
    return nll.item(), sum(label != IGNORED for label in labels[1:])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("records", [PAIRS, TEXTS])
def test_batches_score_as_each_row_alone(
    family: str,
    records: list[dict[str, Any]],
    families: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = families[family]
    scores = likelihood.score(model, encoded(tokenizer, records), max_length=64, batch_size=3)
    for score, record in zip(scores, records, strict=True):
        nll, tokens = plainly(model, tokenizer, record)
        assert score.nll == pytest.approx(nll, rel=1e-5)
        assert score.tokens == tokens


def test_a_long_prompt_loses_its_beginning_but_every_label_is_scored(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    record = PAIRS[0]
    [(ids, labels, _)] = encode(tokenizer, record)
    supervised = sum(label != IGNORED for label in labels)
    window = supervised + 5
    assert window < len(ids)
    [score] = likelihood.score(model, encoded(tokenizer, [record]), max_length=window, batch_size=1)
    with torch.no_grad():
        # The last position predicts nothing, so a window ends one before it.
        logits = model(input_ids=torch.tensor([ids[-1 - window : -1]])).logits[0]
    expected = functional.cross_entropy(logits[-supervised:], torch.tensor(labels[-supervised:]), reduction="sum")
    assert score.tokens == supervised
    assert score.nll == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "record", [{"text": "Return the area of a rectangle. " * 30}, {**PAIRS[0], "prompt": "a b " * 99}]
)
@pytest.mark.parametrize("max_length", [8, 13, 64])
def test_every_token_of_a_row_over_the_window_is_measured_once(
    record: dict[str, Any], max_length: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    [score] = likelihood.score(model, encoded(tokenizer, [record]), max_length=max_length, batch_size=4)
    assert score.tokens == sum(label != IGNORED for label in encode(tokenizer, record)[0].labels)


def test_the_order_of_rows_changes_no_score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    forward = likelihood.score(model, encoded(tokenizer, PAIRS), max_length=64, batch_size=2)
    backward = likelihood.score(model, encoded(tokenizer, PAIRS[::-1]), max_length=64, batch_size=2)
    for one, other in zip(forward, backward[::-1], strict=True):
        assert one.nll == pytest.approx(other.nll, rel=1e-6)
        assert one[1:] == other[1:]


def test_progress_ends_at_all_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    seen: list[tuple[float, float]] = []
    likelihood.score(
        model,
        encoded(tokenizer, PAIRS),
        max_length=64,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
