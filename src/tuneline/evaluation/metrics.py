"""What is counted, as numbers that people compare."""

import math
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.chrf import CHRF


def measured_bytes(record: dict[str, Any]) -> int:
    """The UTF-8 bytes of what is learnt of a record: its completion, or its text."""
    return len((record["completion"] if "completion" in record else record["text"]).encode())


def likelihood_metrics(nll: float, tokens: int, size: int) -> dict[str, float]:
    """The three ways to say one sum.

    Args:
        nll: summed negative log-likelihood in nats.
        tokens: tokens it was summed over.
        size: UTF-8 bytes it was summed over.

    Returns:
        `token_loss` in nats, `bits_per_byte`, `perplexity` per token.
    """
    loss = nll / max(tokens, 1)
    # exp overflows above 709; of no such model would a digit more be of use.
    perplexity = math.exp(min(loss, 700.0))
    return {"token_loss": loss, "bits_per_byte": nll / math.log(2) / max(size, 1), "perplexity": perplexity}


def chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The chrF of every answer, 0 to 100: how many character n-grams it shares with the reference.

    Args:
        answers: what was answered.
        references: what stands in the data.
    """
    metric = CHRF()
    pairs = zip(answers, references, strict=True)
    return [metric.sentence_score(answer, [reference]).score for answer, reference in pairs]
