"""What is explained: the score of a label, a number, or the likelihood of an answer, as a function of the tokens."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tuneline.encoding.examples import IGNORED, Example
from tuneline.evaluation import likelihood, predictions
from tuneline.modeling import forward

Kind = Literal["label", "number", "answer"]

# Logits are the largest tensor of a batch.
_LOGITS_IN_A_BATCH = 2**25
_TOKENS_IN_A_BATCH = 2**12


class ExplainedOutput(Protocol):
    """One output of a model as a function of the tokens of a text."""

    model: PreTrainedModel
    kind: Kind
    after: tuple[int, ...]
    """Tokens that follow the text and are part of what is explained."""

    def scores(self, ids: Tensor) -> Tensor:
        """What is attributed: [rows] or, of an answer, [rows, tokens of the answer], which sum up to it.

        Args:
            ids: [rows, tokens], the text and `after`.
        """
        ...

    def shown(self, rows: Sequence[list[int]]) -> np.ndarray:
        """The output as a person reads it, of texts of any length: a probability from 0 to 1, or the number itself.

        Args:
            rows: the ids of each text, without `after`.
        """
        ...

    def rows_at_once(self, tokens: int) -> int:
        """How many texts of this length fit into a batch."""
        ...


class HeadOutput:
    """A label of a classifier, or the number of a regression.

    The score of a label is its log odds, ln p/(1 − p): one more multiplies the odds by e.

    Args:
        model: for sequence classification.
        pad: its padding token.
        output: the place of the label; 0 for a number.
        several: whether a text may have several labels.
        is_number: whether the output is a number.
    """

    after: tuple[int, ...] = ()

    def __init__(
        self, model: PreTrainedModel, pad: int, output: int, *, several: bool = False, is_number: bool = False
    ) -> None:
        self.model = model
        self.kind: Kind = "number" if is_number else "label"
        self._pad, self._output, self._several = pad, output, several

    def scores(self, ids: Tensor) -> Tensor:
        """See ExplainedOutput."""
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        own = logits[:, self._output]
        if self.kind == "number" or self._several:
            return own
        others = [place for place in range(logits.shape[1]) if place != self._output]
        return own - logits[:, others].logsumexp(dim=1)

    def shown(self, rows: Sequence[list[int]]) -> np.ndarray:
        """See ExplainedOutput."""
        encoded = [ids or [self._pad] for ids in rows]
        size = self.rows_at_once(max(map(len, encoded)))
        found = predictions.outputs(self.model, encoded, pad=self._pad, batch_size=size)
        if self.kind == "number":
            return found[:, 0]
        return predictions.probabilities(found, several=self._several)[:, self._output]

    def rows_at_once(self, tokens: int) -> int:
        """See ExplainedOutput."""
        return max(1, _TOKENS_IN_A_BATCH // tokens)


class AnswerOutput:
    """The likelihood of an answer after a prompt.

    The scores are the log probabilities of the answer's tokens; the shown output is their geometric mean.

    Args:
        model: a causal language model.
        answer: the tokens of the answer; at least one.
        start: the token that stands for an empty prompt.
        max_length: tokens that the model sees at once.
    """

    def __init__(self, model: PreTrainedModel, answer: Sequence[int], start: int, max_length: int) -> None:
        self.model, self.after = model, tuple(answer)
        self.kind: Kind = "answer"
        self._start, self._max_length = start, max_length
        example = Example([start, *answer], [IGNORED, *answer])
        self._sparse = forward.allows_sparse(model, forward.probe([example]))

    def scores(self, ids: Tensor) -> Tensor:
        """See ExplainedOutput."""
        rows, length = ids.shape
        count = len(self.after)
        predicting = torch.arange(length - count - 1, length - 1, device=ids.device)
        positions = (torch.arange(rows, device=ids.device)[:, None] * length + predicting).flatten()
        inputs = {"input_ids": ids, "use_cache": False}
        logits = forward.logits_at(positions, self.model, inputs, sparse=self._sparse)
        wanted = ids[:, length - count :].flatten()
        return logits.float().log_softmax(dim=-1).gather(1, wanted[:, None]).reshape(rows, count)

    def shown(self, rows: Sequence[list[int]]) -> np.ndarray:
        """See ExplainedOutput."""
        answer = list(self.after)
        examples = []
        for ids in rows:
            before = ids or [self._start]
            examples.append(Example([*before, *answer], [IGNORED] * len(before) + answer))
        size = self.rows_at_once(max(len(example.input_ids) for example in examples))
        scored = likelihood.score(self.model, examples, max_length=self._max_length, batch_size=size)
        return np.exp([-row.nll / row.tokens for row in scored])

    def rows_at_once(self, tokens: int) -> int:
        """See ExplainedOutput."""
        by_logits = _LOGITS_IN_A_BATCH // (len(self.after) * self.model.config.get_text_config().vocab_size)
        return max(1, min(by_logits, _TOKENS_IN_A_BATCH // tokens))
