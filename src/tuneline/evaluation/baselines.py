"""What costs nothing: a model that adds nothing to these is seen at once."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from tuneline.evaluation.metrics import chrf, likelihood_metrics, measured_bytes
from tuneline.training.tokenization import IGNORED, encode_all


def unigram(
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]],
    *,
    mode: str,
) -> dict[str, float]:
    """Every token by its frequency in the training completions, blind to what stands before it.

    Args:
        tokenizer: the candidate's tokenizer.
        train: the training records.
        test: the test records.
        mode: how a record becomes tokens, as stored with the model.

    Returns:
        `token_loss`, `bits_per_byte` and `perplexity` on the test records.
    """
    counts = Counter(_measured(tokenizer, train, mode))
    # Add one: a token that training never saw must not cost infinity.
    total = counts.total() + len(tokenizer)
    seen = Counter(_measured(tokenizer, test, mode))
    nll = math.fsum(times * math.log(total / (counts[token] + 1)) for token, times in seen.items())
    return likelihood_metrics(nll, seen.total(), sum(measured_bytes(record) for record in test))


def copy(prompts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The prompt given back as its own answer.

    Args:
        prompts: of the rows that models answer.
        references: of the same rows.

    Returns:
        `chrf`; nothing where there are no rows.
    """
    return {"chrf": float(np.mean(chrf(prompts, references)))} if prompts else {}


def _measured(tokenizer: PreTrainedTokenizerBase, records: Sequence[dict[str, Any]], mode: str) -> Iterator[int]:
    for example in encode_all(tokenizer, records, mode):
        yield from (label for label in example.labels if label != IGNORED)
