"""What a model with a head for labels or numbers says of texts, many at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tuneline.encoding.label_targets import with_own_special
from tuneline.evaluation.tasks import classification
from tuneline.modeling import models
from tuneline.progress import Report, silent

EVEN = 0.5
"""Of several labels a text has those that are more probable than this."""


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
    encoded, _ = encode(tokenizer, texts, max_length)
    return outputs_of(model, encoded, pad=models.pad(tokenizer), batch_size=batch_size, progress=progress)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Every text as the model sees it.

    Args:
        tokenizer: the model's tokenizer.
        texts: as written.
        max_length: tokens that the model sees at once.

    Returns:
        The ids of each text, at least one and at most `max_length`; and the places of the texts whose end was cut off.
    """
    if not texts:
        return [], []
    pad = models.pad(tokenizer)
    encoded = [ids or [pad] for ids in with_own_special(tokenizer, texts)]
    cut = [place for place, ids in enumerate(encoded) if len(ids) > max_length]
    if cut:
        shorter = with_own_special(tokenizer, [texts[place] for place in cut], max_length)
        for place, ids in zip(cut, shorter, strict=True):
            encoded[place] = ids
    return encoded, cut


def outputs_of(
    model: PreTrainedModel, encoded: Sequence[list[int]], *, pad: int, batch_size: int, progress: Report = silent
) -> np.ndarray:
    """As `outputs`, of texts that are ids already; `pad` is the token that fills a batch up."""
    # The longest first: what does not fit into memory fails at once.
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
    found = np.zeros((len(encoded), model.config.num_labels or 1))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found[batch] = _logits(model, [encoded[index] for index in batch], pad)
        progress(start + len(batch), len(order))
    return found


def names_of(config: PreTrainedConfig) -> tuple[list[str], bool]:
    """The labels of a classifier in the order of its outputs, and whether a text may have any number of them."""
    by_output = {int(place): str(label) for place, label in (config.id2label or {}).items()}
    several = config.problem_type == "multi_label_classification"
    return [by_output[place] for place in sorted(by_output)], several


def chances(found: np.ndarray, *, several: bool) -> np.ndarray:
    """How probable the model finds each label of each row.

    Args:
        found: as `outputs` returns it.
        several: whether a row may have any number of them; else those of a row sum to 1.

    Returns:
        [texts, labels], 0 to 1.
    """
    if several:
        return 1 / (1 + np.exp(-np.clip(found, -700, 700)))
    # The largest output less: exp cannot overflow.
    odds = np.exp(found - found.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def labels(found: np.ndarray, names: list[str], *, several: bool) -> tuple[list[str], np.ndarray]:
    """The label that each row's outputs give, or the labels above even odds as a JSON list.

    Args:
        found: as `outputs` returns it.
        names: the labels in the order of the outputs.
        several: whether a row may have any number of them.

    Returns:
        The labels, and how probable the model finds them; of several labels, its least sure yes or no.
    """
    of_each = chances(found, several=several)
    if several:
        given = [
            classification.written([names[place] for place in np.flatnonzero(row > EVEN).tolist()]) for row in of_each
        ]
        return given, np.maximum(of_each, 1 - of_each).min(axis=1)
    return [names[place] for place in of_each.argmax(axis=1).tolist()], of_each.max(axis=1)


@torch.inference_mode()
def _logits(model: PreTrainedModel, rows: list[list[int]], pad: int) -> np.ndarray:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=model.device)
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    return model(input_ids=ids, attention_mask=attention).logits.double().cpu().numpy()
