"""A tokenizer, and tiny models with larger weights than random ones, so that words make a difference."""

import pytest
import torch
from tiny_models import TEXTS, VOCABULARY, classifier, tiny
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.explanation import attention
from tuneline.pretraining import pretrain


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return pretrain.train_tokenizer([*TEXTS, "Where is my parcel, and who has it?"], VOCABULARY, 128)


def loud(model: PreTrainedModel, factor: float = 4.0) -> PreTrainedModel:
    """The model with larger matrices and eager attention."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)
    assert attention.use_eager(model)
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def heads() -> dict[str, PreTrainedModel]:
    return {family: loud(classifier(family)) for family in ("llama", "gpt2", "bert", "qwen3")}


@pytest.fixture(scope="session")
def writers() -> dict[str, PreTrainedModel]:
    return {family: loud(tiny(family)) for family in ("llama", "gpt2", "qwen3")}
