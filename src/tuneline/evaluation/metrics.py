"""What is counted, as numbers that people compare."""

import math
from collections.abc import Sequence

from sacrebleu.metrics.chrf import CHRF


def perplexity(token_loss: float) -> float:
    """The number of equally likely tokens that a loss in nats per token amounts to."""
    # exp overflows above 709; of no such model would a digit more be of use.
    return math.exp(min(token_loss, 700.0))


def chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The chrF of every answer, 0 to 100: how many character n-grams it shares with the reference.

    Args:
        answers: what was answered.
        references: what stands in the data.
    """
    metric = CHRF()
    pairs = zip(answers, references, strict=True)
    return [metric.sentence_score(answer, [reference]).score for answer, reference in pairs]
