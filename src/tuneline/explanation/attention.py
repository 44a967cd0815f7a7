"""Where a model looks: the attention that its output gives each word, by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from tuneline.explanation.explained_output import ExplainedOutput
from tuneline.explanation.word_units import Words


@dataclass(frozen=True)
class Attention:
    """Attention weights, as means over the heads of each layer."""

    read: np.ndarray
    """[layers, words]: what the positions that give the output take from each word."""
    between: np.ndarray
    """[words, words]: what each word takes from each word, in the last layer."""
    kept: np.ndarray
    """[layers]: what these positions take from tokens of no word: special tokens, the template, the answer."""

    @property
    def words(self) -> np.ndarray:
        """[words]: `read` as a mean over the layers."""
        return self.read.mean(axis=0)


def use_eager(model: PreTrainedModel) -> bool:
    """Choose the implementation of attention that returns its weights; False if the model has none."""
    try:
        model.set_attn_implementation("eager")
    except (ValueError, AttributeError, NotImplementedError):
        return False
    return True


@torch.inference_mode()
def attention(output: ExplainedOutput, words: Words, reads: Sequence[int]) -> Attention | None:
    """The attention of one text.

    Args:
        output: what is explained; its model uses eager attention.
        words: the text.
        reads: the positions whose hidden states give the output.

    Returns:
        None for a model without attention weights, or with layers of another kind.
    """
    ids = torch.tensor([[*words.ids, *output.after]], device=output.model.device)
    found = output.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    weights = [layer for layer in getattr(found, "attentions", None) or () if layer is not None and layer.dim() == 4]
    if not weights or any(layer.shape[-2:] != (ids.shape[1], ids.shape[1]) for layer in weights):
        return None
    means = torch.stack([layer[0].double().mean(dim=0) for layer in weights]).cpu().numpy()
    of_words = np.stack([means[:, :, list(places)].sum(axis=2) for places in words.places], axis=2)
    read = of_words[:, list(reads)].mean(axis=1)
    between = np.stack([of_words[-1, list(places)].mean(axis=0) for places in words.places])
    return Attention(read, between, 1 - read.sum(axis=1))


def positions_of(output: ExplainedOutput, words: Words) -> list[int]:
    """The positions whose hidden states give the output.

    Of an answer those before each of its tokens; of a head on a causal model the last one; of a head on an encoder the
    first one, or all where the model averages.
    """
    length = len(words.ids)
    if output.kind == "answer":
        return list(range(length - 1, length - 1 + len(output.after)))
    config = output.model.config
    if getattr(config, "classifier_pooling", None) == "mean":
        return list(range(length))
    # Heads of causal models are a linear layer `score` without a bias; those of encoders are called classifier.
    return [length - 1] if hasattr(output.model, "score") else [0]
