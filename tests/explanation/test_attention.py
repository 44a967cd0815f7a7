"""Attention weights of a text, and where the output is read."""

import numpy as np
import pytest
from tiny_models import tiny
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.explanation import attention, word_units
from tuneline.explanation.explained_output import AnswerOutput, HeadOutput


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "qwen3"])
def test_the_weights_of_words_and_kept_tokens_sum_up_to_one(
    family: str, heads: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    ids = [2, *tokenizer("Where is my parcel?")["input_ids"], 3]  # pyright: ignore[reportGeneralTypeIssues]
    words = word_units.split(tokenizer, ids, range(1, len(ids) - 1))
    output = HeadOutput(heads[family], 1, 0)
    reads = attention.positions_of(output, words)
    assert reads == ([0] if family == "bert" else [len(ids) - 1])
    found = attention.attention(output, words, reads)
    assert found is not None
    assert found.read.shape == (2, len(words.places))
    assert found.read.sum(axis=1) + found.kept == pytest.approx(np.ones(2))
    assert found.between.shape == (len(words.places),) * 2


def test_an_answer_is_read_before_each_of_its_tokens(
    writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    words = word_units.split(tokenizer, [5, 6, 7], range(3))
    output = AnswerOutput(writers["llama"], [8, 9], 2, 64)
    assert attention.positions_of(output, words) == [2, 3]
    found = attention.attention(output, words, [2, 3])
    assert found is not None
    assert (found.kept > 0).all()


def test_an_architecture_without_attention_has_none(tokenizer: PreTrainedTokenizerBase) -> None:
    words = word_units.split(tokenizer, [5, 6, 7], range(3))
    output = AnswerOutput(tiny("mamba"), [8, 9], 2, 64)
    assert attention.attention(output, words, [2, 3]) is None
