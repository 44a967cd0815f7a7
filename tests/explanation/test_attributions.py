"""Attributions by Captum, which is an extra: these tests run where it is installed."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.errors import SetupError
from tuneline.explanation import attributions, installed, word_units
from tuneline.explanation.explained_output import AnswerOutput, ExplainedOutput, HeadOutput
from tuneline.explanation.word_units import Words

HAS_LIBRARY = importlib.util.find_spec("captum") is not None


def needs_captum(test: Callable[..., None]) -> Any:
    """Skip a test where the extra is not installed; `make test-slow` runs it."""
    return pytest.mark.slow(pytest.mark.skipif(not HAS_LIBRARY, reason="captum is not installed")(test))


@pytest.mark.skipif(HAS_LIBRARY, reason="captum is installed")
def test_without_the_library_a_sentence_says_how_to_get_it() -> None:
    with pytest.raises(SetupError, match=r"needs Captum, which is not installed; install it with: make setup EXTRAS="):
        installed.check()


def words(tokenizer: PreTrainedTokenizerBase, text: str = "alpha beta, theta 把字 kappa!") -> Words:
    ids = tokenizer(text)["input_ids"]
    assert isinstance(ids, list)
    return word_units.split(tokenizer, ids, range(len(ids)))


def check_complete(output: ExplainedOutput, text: Words, baseline: int) -> None:
    found = attributions.integrated_gradients(output, text, baseline)
    assert found.is_complete
    assert found.total == pytest.approx(found.difference, abs=1e-3)
    assert abs(found.difference) > 1e-2
    assert found.words.shape == (len(text.places),)


@needs_captum
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "qwen3"])
@pytest.mark.parametrize("kind", ["label", "several", "number"])
def test_attributions_of_a_head_are_complete(
    family: str, kind: str, heads: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    output = HeadOutput(heads[family], 1, 0, several=kind == "several", is_number=kind == "number")
    check_complete(output, words(tokenizer), 2)


@needs_captum
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_attributions_of_an_answer_are_complete(
    family: str, writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    check_complete(AnswerOutput(writers[family], [20, 21, 22], 2, 64), words(tokenizer), 2)


class Linear(nn.Module):
    """A model whose output is a weighted sum of its embeddings; the weights depend on the place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings, self.weights = nn.Embedding(30, 4), nn.Parameter(torch.randn(6, 4))
        self.device = torch.device("cpu")

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, ids: Tensor) -> Tensor:
        return (self.embeddings(ids) * self.weights).sum(dim=(1, 2))


class LinearOutput:
    kind, after = "number", ()

    def __init__(self) -> None:
        self.model = Linear()

    def scores(self, ids: Tensor) -> Tensor:
        return self.model(ids)

    def shown(self, rows: Sequence[list[int]]) -> np.ndarray:
        raise NotImplementedError

    def rows_at_once(self, tokens: int) -> int:
        return 4


@needs_captum
def test_of_a_linear_model_both_methods_give_its_weights() -> None:
    output = LinearOutput()
    text = Words((5, 6, 7, 8, 9, 10), ((0, 1), (2,), (4,), (5,)), ("a", "b", "c", "d"))
    model = output.model
    with torch.no_grad():
        moved = model.embeddings(torch.tensor(text.ids)) - model.embeddings(torch.tensor(text.replaced_by(3)))
        by_token = (moved * model.weights).sum(dim=1)
    assert by_token[3] == 0
    expected = [sum(by_token[list(places)].tolist()) for places in text.places]
    explained: ExplainedOutput = output  # type: ignore[assignment]
    found = attributions.integrated_gradients(explained, text, 3)
    assert found.words == pytest.approx(expected, abs=1e-5)
    assert found.steps == 32
    assert attributions.occlusion(explained, text, 3)[0] == pytest.approx(expected, abs=1e-5)


@needs_captum
def test_occlusion_is_the_fall_of_each_token_of_the_answer(
    writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    text, answer = words(tokenizer), [20, 21, 22]
    output = AnswerOutput(writers["llama"], answer, 2, 64)
    found = attributions.occlusion(output, text, 2)
    assert found.shape == (3, len(text.places))
    word = text.places[1]
    ids = [2 if place in word else token for place, token in enumerate(text.ids)]
    with torch.no_grad():
        whole, without = (output.scores(torch.tensor([[*one, *answer]]))[0] for one in (text.ids, ids))
    assert found[:, 1] == pytest.approx((whole - without).numpy(), abs=1e-5)


@needs_captum
def test_a_sum_that_is_not_complete_is_said(writers: dict[str, PreTrainedModel]) -> None:
    found = attributions.Gradients(np.array([1.0, 2.0]), 5.0, 1.0, 1_024)
    assert (found.total, found.difference, found.error, found.is_complete) == (3.0, 4.0, 1.0, False)
    # Of a difference above 1 the error is relative.
    assert attributions.Gradients(np.array([99.95]), 100.0, 0.0, 32).is_complete


@needs_captum
def test_the_scores_are_what_is_shown(
    heads: dict[str, PreTrainedModel], writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    text = words(tokenizer)
    ids = torch.tensor([text.ids])
    label = HeadOutput(heads["llama"], 1, 2)
    odds = label.scores(ids).double().exp()
    assert label.shown([list(text.ids)]) == pytest.approx((odds / (1 + odds)).numpy(), rel=1e-4)
    answer = AnswerOutput(writers["llama"], [20, 21, 22], 2, 64)
    scores = answer.scores(torch.tensor([[*text.ids, 20, 21, 22]])).double()
    assert answer.shown([list(text.ids)]) == pytest.approx(scores.mean(dim=1).exp().numpy(), rel=1e-4)
    # An empty prompt begins with the token that stands for it.
    assert answer.shown([[]]) == pytest.approx(answer.shown([[2]]))
