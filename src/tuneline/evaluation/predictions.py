"""What a model with a head for labels or numbers says of texts, many at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.evaluation import classification
from tuneline.progress import Report, silent
from tuneline.training import models
from tuneline.training.labelling import with_own_special


def outputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int,
    batch_size: int,
    progress: Report = silent,
) -> np.ndarray:
    """The head's output for every text, in batches of nearly one length.

    Args:
        model: for sequence classification.
        tokenizer: its tokenizer.
        texts: as written; the end of one over `max_length` tokens is cut off, as in training.
        max_length: tokens that the model sees at once.
        batch_size: texts in a batch.
        progress: called after each batch.

    Returns:
        [texts, outputs], float64, in the order of `texts`.
    """
    progress(0, len(texts))
    pad = models.pad(tokenizer)
    encoded = [ids or [pad] for ids in with_own_special(tokenizer, texts, max_length)] if texts else []
    # The longest first: what does not fit into memory fails at once.
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
    found = np.zeros((len(encoded), model.config.num_labels or 1))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found[batch] = _logits(model, [encoded[index] for index in batch], pad)
        progress(start + len(batch), len(order))
    return found


def labels(found: np.ndarray, names: list[str], *, several: bool) -> tuple[list[str], np.ndarray]:
    """The label that each row's outputs give, or the labels above even odds as a JSON list.

    Args:
        found: as `outputs` returns it.
        names: the labels in the order of the outputs.
        several: whether a row may have any number of them.

    Returns:
        The labels, and how probable the model finds them; of several labels, its least sure yes or no.
    """
    if several:
        chances = 1 / (1 + np.exp(-np.clip(found, -700, 700)))
        given = [
            classification.written([names[place] for place in np.flatnonzero(row > 0.5).tolist()]) for row in chances
        ]
        return given, np.maximum(chances, 1 - chances).min(axis=1)
    # The largest output less: exp cannot overflow.
    odds = np.exp(found - found.max(axis=1, keepdims=True))
    chances = odds / odds.sum(axis=1, keepdims=True)
    return [names[place] for place in chances.argmax(axis=1).tolist()], chances.max(axis=1)


@torch.inference_mode()
def _logits(model: PreTrainedModel, rows: list[list[int]], pad: int) -> np.ndarray:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=model.device)
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    return model(input_ids=ids, attention_mask=attention).logits.double().cpu().numpy()
