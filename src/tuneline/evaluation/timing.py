"""An estimate of how long an evaluation will take, and of how many answers fit into a few minutes.

A few forward passes and a few tokens of answers are timed on the model that is scored. This draws no random numbers and
changes no score; the estimate is printed and is not stored.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.encoding.examples import Example, lengths
from tuneline.evaluation import generation, likelihood
from tuneline.evaluation.generation import Prompt
from tuneline.modeling import models
from tuneline.params import Evaluate
from tuneline.progress import duration

LONG = 2e12
"""Operations above which an evaluation is timed beforehand: about a minute of one core."""
FIT = 180.0
"""Seconds that all answers may take without a recommendation to generate fewer."""

# Operations per weight and token of a forward pass.
_OPERATIONS = 2
# Rows whose likelihood is timed.
_ROWS = 2
# Tokens that are kept of the end of a prompt when answers are timed.
_PROMPT = 16
# Tokens of an answer that are timed.
_TOKENS = 4


@dataclass(frozen=True)
class Speed:
    """The speed of one model on this machine."""

    token: float
    """Seconds to read a token."""
    step: float
    """Seconds to generate one token for all rows of a batch."""


@dataclass(frozen=True)
class Work:
    """What an evaluation has to compute."""

    read: int
    """Tokens of all rows whose likelihood is measured."""
    prompts: int
    """Tokens of all prompts that are answered."""
    rows: int
    """Rows that are answered."""
    batch_size: int
    max_new_tokens: int
    models: int = 1
    """Models of about this size that are scored one after the other."""
    answers: int = 1
    """Answers per row."""

    @property
    def batches(self) -> int:
        """The number of batches of answers."""
        return -(-self.rows * self.answers // self.batch_size)

    def operations(self, parameters: int) -> float:
        """The operations of all models together."""
        tokens = self.read + self.answers * (self.prompts + self.rows * self.max_new_tokens)
        return float(_OPERATIONS * parameters * tokens * self.models)


@dataclass(frozen=True)
class Estimate:
    """Seconds of all models together."""

    likelihood: float
    answers: float
    """An upper bound, because an answer may end early."""
    generation_rows: int
    """The rows whose answers take at most FIT seconds, in full batches, at least one batch."""


def estimate_seconds(work: Work, speed: Speed) -> Estimate:
    """How long this work takes at this speed."""
    batch = work.max_new_tokens * speed.step
    if work.rows:
        batch += work.answers * work.prompts / work.batches * speed.token
    return Estimate(
        likelihood=work.models * work.read * speed.token,
        answers=work.models * work.batches * batch,
        generation_rows=max(1, work.batch_size * max(1, int(FIT / max(work.models * batch, 1e-9))) // work.answers),
    )


def messages(work: Work, found: Estimate, *, can_choose: bool) -> list[str]:
    """The estimate in lines for a person.

    Args:
        work: what the evaluation has to compute.
        found: its estimate.
        can_choose: whether `evaluate.generation_rows` sets how many rows are answered.
    """
    parts = [f"likelihood {duration(found.likelihood)}"]
    if work.rows:
        each = f" ({work.answers} each)" if work.answers > 1 else ""
        parts.append(f"answers to {work.rows:,} rows{each} at most {duration(found.answers)}")
    several = f" of {work.models} models" if work.models > 1 else ""
    lines = [
        f"this evaluation{several} will take about {duration(found.likelihood + found.answers)}: {', '.join(parts)}"
    ]
    if can_choose and found.answers > FIT and found.generation_rows < work.rows:
        how_long = (
            f"{duration(FIT)} or less"
            if found.generation_rows * work.answers > work.batch_size
            else "the least time (one batch)"
        )
        lines.append(f"with evaluate.generation_rows: {found.generation_rows} the answers would take {how_long}")
    return lines


def measure_speed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[list[int]],
    *,
    mode: str,
    max_length: int,
    batch_size: int,
) -> Speed:
    """Time a model on a few rows.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        examples: a few of medium length are read.
        prompts: one batch is answered with a few tokens; none: answers are not timed.
        mode: how a prompt becomes tokens, as stored with the model.
        max_length: tokens that the model sees at once.
        batch_size: rows per batch.
    """
    tokens = lengths(examples)
    order = sorted(range(len(examples)), key=lambda place: tokens[place])
    medium = [examples[place] for place in order[len(order) // 2 :][:_ROWS]]
    likelihood.score(model, medium[:1], max_length=min(max_length, _PROMPT), batch_size=1)
    began = time.monotonic()
    likelihood.score(model, medium, max_length=max_length, batch_size=_ROWS)
    token = (time.monotonic() - began) / max(sum(len(example.input_ids) for example in medium), 1)
    if not prompts:
        return Speed(token, 0.0)
    room = max(1, generation.context_length(model, 1 + _PROMPT + _TOKENS) - 1 - _TOKENS)
    ends = [ids[-min(_PROMPT, room) :] for ids in prompts[:batch_size]]

    def seconds(tokens: int) -> float:
        begun = time.monotonic()
        generation.generate_encoded(
            model, tokenizer, ends, mode=mode, max_new_tokens=tokens, batch_size=batch_size, min_new_tokens=tokens
        )
        return time.monotonic() - begun

    first = seconds(1)
    return Speed(token, max(seconds(1 + _TOKENS) - min(first, seconds(1)), 0.0) / _TOKENS)


def estimate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    *,
    mode: str,
    max_length: int,
    evaluate: Evaluate,
    count: int,
    least: float = 0.0,
) -> tuple[Work, Estimate]:
    """Estimate how long an evaluation will take, from the time of a few rows.

    Args:
        model: a causal language model, the first that is scored.
        tokenizer: its tokenizer.
        examples: their likelihood is measured.
        prompts: they are answered.
        mode: how a prompt becomes tokens, as stored with the model.
        max_length: tokens that the model sees at once.
        evaluate: the section of params.
        count: models of this size that are scored.
        least: operations below which nothing is timed and the estimate is zero.
    """
    ids = []
    if prompts:
        ids, _ = generation.encode_prompts(model, tokenizer, prompts, mode=mode, max_new_tokens=evaluate.max_new_tokens)
    work = Work(
        read=int(sum(lengths(examples))),
        prompts=sum(map(len, ids)),
        rows=len(ids),
        batch_size=evaluate.batch_size,
        max_new_tokens=evaluate.max_new_tokens,
        models=count,
        answers=evaluate.answers_per_row,
    )
    if not len(examples) or work.operations(models.count_parameters(model)) < least:
        return work, Estimate(0.0, 0.0, work.rows)
    speed = measure_speed(
        model, tokenizer, examples, ids, mode=mode, max_length=max_length, batch_size=evaluate.batch_size
    )
    return work, estimate_seconds(work, speed)


def announce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    *,
    can_choose: bool,
    **more: Any,
) -> None:
    """Print the estimate of an evaluation that takes about a minute or longer.

    Args:
        model: the model, as for `estimate`.
        tokenizer: its tokenizer.
        examples: their likelihood is measured.
        prompts: they are answered.
        can_choose: whether `evaluate.generation_rows` sets how many rows are answered.
        more: the other arguments of `estimate`.
    """
    work, found = estimate(model, tokenizer, examples, prompts, least=LONG, **more)
    if found.likelihood + found.answers > 0:
        for line in messages(work, found, can_choose=can_choose):
            print(line, flush=True)
