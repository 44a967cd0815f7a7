"""What a model expects of the tokens of rows: their likelihood, and which of them it would write itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from tuneline.encoding.examples import IGNORED, Example
from tuneline.modeling import forward
from tuneline.progress import Report, silent

# Logits are the largest tensor of a batch: this many float32 numbers take 256 MB.
_LOGITS_IN_A_BATCH = 2**26


class RowScore(NamedTuple):
    """The likelihood of one row."""

    nll: float
    """Negative log-likelihood of the row's supervised tokens, in nats, end-of-text included."""
    tokens: int
    """The number of supervised tokens."""


class _Window(NamedTuple):
    row: int
    place: int
    """Its place among the windows of the row."""
    ids: list[int]
    labels: list[int]
    """The id to predict at each position from the ids up to it; -100 where nothing is measured."""


def score(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    max_length: int,
    batch_size: int,
    progress: Report = silent,
) -> list[RowScore]:
    """Score every row. A row over `max_length` is not cut; it is read in overlapping windows.

    Args:
        model: a causal language model.
        examples: of any length.
        max_length: tokens that the model sees at once.
        batch_size: rows per batch; fewer where the vocabulary is large.
        progress: called after each batch.

    Returns:
        One score per row, in the order of `examples`.
    """
    nll = torch.zeros(len(examples), dtype=torch.float64)
    tokens = [0] * len(examples)
    for batch, logits, labels in _measured(model, examples, max_length, batch_size, progress):
        rows = torch.tensor([window.row for window in batch for label in window.labels if label != IGNORED])
        lost = functional.cross_entropy(logits.float(), labels, reduction="none")
        nll.index_add_(0, rows, lost.double().cpu())
        for window in batch:
            tokens[window.row] += sum(label != IGNORED for label in window.labels)
    return [RowScore(total, count) for total, count in zip(nll.tolist(), tokens, strict=True)]


def recall(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    max_length: int,
    batch_size: int,
    progress: Report = silent,
) -> list[np.ndarray]:
    """Which supervised tokens are the most likely token after those before them.

    Args:
        model: a causal language model.
        examples: of any length, read in windows as by `score`.
        max_length: tokens that the model sees at once.
        batch_size: rows per batch.
        progress: called after each batch.

    Returns:
        [tokens] for each row in the order of `examples`: 1.0 or 0.0; NaN where the model's output is not a number.
    """
    return per_token(model, examples, _hits, max_length=max_length, batch_size=batch_size, progress=progress)


def _hits(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    # The largest is NaN if one of them is. A token may have -inf: it has no chance.
    is_number = logits.amax(dim=-1).isfinite().cpu().numpy()
    return np.where(is_number, (logits.argmax(dim=-1) == labels).cpu().numpy().astype(float), np.nan)


def per_token(
    model: PreTrainedModel,
    examples: Sequence[Example],
    value: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    *,
    max_length: int,
    batch_size: int,
    progress: Report = silent,
) -> list[np.ndarray]:
    """A value of every supervised token, in the order of the tokens.

    Args:
        model: a causal language model.
        examples: of any length, read in windows as by `score`.
        value: the logits before each token, [tokens, vocabulary], and the tokens -> a number for each.
        max_length: tokens that the model sees at once.
        batch_size: rows per batch.
        progress: called after each batch.

    Returns:
        [tokens] for each row in the order of `examples`.
    """
    found: list[dict[int, np.ndarray]] = [{} for _ in examples]
    for batch, logits, labels in _measured(model, examples, max_length, batch_size, progress):
        values = value(logits, labels)
        start = 0
        for window in batch:
            size = sum(label != IGNORED for label in window.labels)
            found[window.row][window.place] = values[start : start + size]
            start += size
    return [np.concatenate([np.zeros(0), *(one[place] for place in sorted(one))]) for one in found]


def _measured(
    model: PreTrainedModel, examples: Sequence[Example], max_length: int, batch_size: int, progress: Report
) -> Iterator[tuple[list[_Window], torch.Tensor, torch.Tensor]]:
    """Batches of windows, with the logits at their measured positions, row after row, and the tokens to predict."""
    windows = [window for row, example in enumerate(examples) for window in _windows(row, example, max_length)]
    # The longest come first: running out of memory is noticed at once, and the rows of a batch have similar lengths.
    windows.sort(key=lambda window: (-len(window.ids), window.row))
    logits_per_token = model.config.get_text_config().vocab_size
    sparse = forward.allows_sparse(model, forward.probe(examples))
    model.eval()
    done = 0
    progress(done, len(examples))
    for batch in _batches(windows, batch_size, logits_per_token):
        yield batch, *_logits(model, batch, sparse=sparse)
        done += len(batch)
        progress(done * len(examples) // len(windows), len(examples))


def _windows(row: int, example: Example, max_length: int) -> Iterator[_Window]:
    """Windows of at most `max_length` tokens that together measure each label once."""
    ids = example.input_ids
    # Position i predicts the label at i + 1; the last position predicts nothing.
    labels = [*example.labels[1:], IGNORED]
    measured = [position for position, label in enumerate(labels) if label != IGNORED]
    if not measured:
        return
    first, end = measured[0], measured[-1] + 1
    if end - first >= max_length:
        # The labels do not fit into one window: each of them is predicted from at least half a window.
        ends = [*range(min(end, max(max_length, first + max_length // 2)), end, max(1, max_length // 2)), end]
    else:
        ends = [end]
    done = 0
    for place, stop in enumerate(ends):
        start = max(0, stop - max_length)
        kept = [labels[position] if position >= done else IGNORED for position in range(start, stop)]
        yield _Window(row, place, ids[start:stop], kept)
        done = stop


def _batches(windows: list[_Window], batch_size: int, logits_per_token: int) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    logits = 0
    for window in windows:
        more = logits_per_token * sum(label != IGNORED for label in window.labels)
        if batch and (len(batch) == batch_size or logits + more > _LOGITS_IN_A_BATCH):
            yield batch
            batch, logits = [], 0
        batch.append(window)
        logits += more
    if batch:
        yield batch


@torch.inference_mode()
def _logits(model: PreTrainedModel, batch: list[_Window], *, sparse: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits at every measured position of the batch, row after row, and the tokens to predict there."""
    width = max(len(window.ids) for window in batch)
    # Padding is on the right, where a causal model does not see it: any token will do, without a mask.
    ids = torch.tensor([window.ids + [0] * (width - len(window.ids)) for window in batch], device=model.device)
    labels = torch.tensor([window.labels + [IGNORED] * (width - len(window.ids)) for window in batch])
    labels = labels.to(model.device)
    measured = (labels.flatten() != IGNORED).nonzero().squeeze(1)
    logits = forward.logits_at(measured, model, {"input_ids": ids, "use_cache": False}, sparse=sparse)
    return logits, labels.flatten()[measured]
