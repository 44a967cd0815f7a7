"""The outputs of a model with a head for labels or numbers, for many texts."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tuneline.data.records import label_codec
from tuneline.encoding.token_ids import with_special_tokens
from tuneline.evaluation import generation
from tuneline.evaluation.score_table import ModelToScore
from tuneline.modeling import models
from tuneline.params import Evaluate
from tuneline.progress import Progress, Report, silent

EVEN = 0.5
"""Of several labels a text has those whose probability is above this."""


def measure(
    model: ModelToScore, texts: Sequence[str], evaluate: Evaluate, *, what: str
) -> tuple[PreTrainedConfig, np.ndarray]:
    """The configuration of a stored model, and its outputs for every text.

    Args:
        model: the model.
        texts: as written.
        evaluate: the section of params.
        what: what the lines of progress call the outputs.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    loaded, tokenizer = models.load_classifier(model.folder)
    length = min(model.max_length, generation.context_length(loaded, model.max_length))
    with Progress(f"{model.name}: {what}", always=True) as progress:
        progress(0, len(texts))
        encoded, _ = encode(tokenizer, texts, length)
        pad, size = models.pad_token_id(tokenizer), evaluate.batch_size
        return loaded.config, outputs(loaded, encoded, pad=pad, batch_size=size, progress=progress)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Encode texts as training does; the end of a text over `max_length` tokens is cut off.

    Args:
        tokenizer: the model's.
        texts: as written.
        max_length: tokens that the model sees at once.

    Returns:
        The ids of each text, at least one, and the indices of the texts that were cut.
    """
    if not texts:
        return [], []
    pad = models.pad_token_id(tokenizer)
    encoded = [ids or [pad] for ids in with_special_tokens(tokenizer, texts)]
    cut = [place for place, ids in enumerate(encoded) if len(ids) > max_length]
    if cut:
        shorter = with_special_tokens(tokenizer, [texts[place] for place in cut], max_length)
        for place, ids in zip(cut, shorter, strict=True):
            encoded[place] = ids
    return encoded, cut


def outputs(
    model: PreTrainedModel, encoded: Sequence[list[int]], *, pad: int, batch_size: int, progress: Report = silent
) -> np.ndarray:
    """The outputs of the head for every text, in batches of similar length.

    Args:
        model: for sequence classification.
        encoded: the ids of each text, from `encode`.
        pad: the token that fills up a batch.
        batch_size: texts per batch.
        progress: called after each batch.

    Returns:
        [texts, outputs], float64, in the order of `encoded`.
    """
    # The longest come first, so that running out of memory is noticed at once.
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
    found = np.zeros((len(encoded), model.config.num_labels or 1))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found[batch] = _logits(model, [encoded[index] for index in batch], pad)
        progress(start + len(batch), len(order))
    return found


def label_names(config: PreTrainedConfig) -> tuple[list[str], bool]:
    """The labels of a classifier in the order of its outputs, and whether a text may have several of them."""
    by_output = {int(place): str(label) for place, label in (config.id2label or {}).items()}
    several = config.problem_type == "multi_label_classification"
    return [by_output[place] for place in sorted(by_output)], several


def probabilities(found: np.ndarray, *, several: bool) -> np.ndarray:
    """The probability of each label of each text, [texts, labels].

    Args:
        found: from `outputs`.
        several: whether a text may have several labels; else its probabilities sum to 1.
    """
    if several:
        return 1 / (1 + np.exp(-np.clip(found, -700, 700)))
    # Without the largest output exp cannot overflow.
    odds = np.exp(found - found.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def labels(found: np.ndarray, names: list[str], *, several: bool) -> tuple[list[str], np.ndarray]:
    """The most probable label of each text, or a JSON list of the labels above EVEN; and the probability.

    Args:
        found: from `outputs`.
        names: the labels in the order of the outputs.
        several: whether a text may have several labels; the probability is then that of the least sure yes or no.
    """
    of_each = probabilities(found, several=several)
    if several:
        given = [label_codec.encode([names[place] for place in np.flatnonzero(row > EVEN).tolist()]) for row in of_each]
        return given, np.maximum(of_each, 1 - of_each).min(axis=1)
    return [names[place] for place in of_each.argmax(axis=1).tolist()], of_each.max(axis=1)


@torch.inference_mode()
def _logits(model: PreTrainedModel, rows: list[list[int]], pad: int) -> np.ndarray:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=model.device)
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    return model(input_ids=ids, attention_mask=attention).logits.double().cpu().numpy()
