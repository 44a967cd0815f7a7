"""How long an evaluation will take, said before it begins, and how many answers fit into a few minutes.

A few forward passes and a few tokens of answers are timed on the model that is measured. That only observes: it draws
no random numbers and changes no score, and what it finds is printed and kept nowhere.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.encoding.encode import Example
from tuneline.encoding.examples import lengths
from tuneline.evaluation import generation, likelihood
from tuneline.evaluation.generation import Prompt
from tuneline.modeling import models
from tuneline.params import Evaluate
from tuneline.progress import duration

LONG = 2e12
"""Operations of an evaluation above which it is timed beforehand: a minute or so of one core. A shorter one is over
before anybody asks."""
FIT = 180.0
"""Seconds that all answers may take so that a person waits for them."""

_OPERATIONS = 2
"""Of a weight and a token, forward."""
_ROWS = 2
"""Whose likelihood is timed."""
_PROMPT = 16
"""Tokens of a prompt, of which the end is taken, where the tokens of an answer are timed."""
_TOKENS = 4


@dataclass(frozen=True)
class Speed:
    """Of one model on this machine."""

    token: float
    """Seconds to read a token."""
    step: float
    """Seconds in which all rows of a batch get one token of an answer."""


@dataclass(frozen=True)
class Work:
    """What is asked of a model."""

    read: int
    """Tokens of all rows whose likelihood is measured."""
    prompts: int
    """Tokens of all prompts that are answered."""
    rows: int
    """That are answered."""
    batch_size: int
    max_new_tokens: int
    models: int = 1
    """Of about this size, that are measured one after the other."""

    @property
    def batches(self) -> int:
        """Batches of answers."""
        return -(-self.rows // self.batch_size)

    def operations(self, parameters: int) -> float:
        """Of all models together."""
        tokens = self.read + self.prompts + self.rows * self.max_new_tokens
        return float(_OPERATIONS * parameters * tokens * self.models)


@dataclass(frozen=True)
class Foreseen:
    """Seconds of all models together."""

    likelihood: float
    answers: float
    """At most: an answer may end early."""
    generation_rows: int
    """Whose answers take no longer than FIT; whole batches, at least one."""


def foreseen(work: Work, speed: Speed) -> Foreseen:
    """What an evaluation will take.

    Args:
        work: what is asked.
        speed: of the model.
    """
    batch = work.max_new_tokens * speed.step
    if work.rows:
        batch += work.prompts / work.batches * speed.token
    return Foreseen(
        likelihood=work.models * work.read * speed.token,
        answers=work.models * work.batches * batch,
        generation_rows=work.batch_size * max(1, int(FIT / max(work.models * batch, 1e-9))),
    )


def lines(work: Work, found: Foreseen, *, can_choose: bool) -> list[str]:
    """What a person should know before it begins.

    Args:
        work: what is asked.
        found: what it will take.
        can_choose: whether `evaluate.generation_rows` says how many rows are answered.
    """
    parts = [f"likelihood {duration(found.likelihood)}"]
    if work.rows:
        parts.append(f"answers to {work.rows:,} rows at most {duration(found.answers)}")
    several = f" of {work.models} models" if work.models > 1 else ""
    said = [
        f"this evaluation{several} will take about {duration(found.likelihood + found.answers)}: {', '.join(parts)}"
    ]
    if can_choose and found.answers > FIT and found.generation_rows < work.rows:
        said.append(
            f"evaluate.generation_rows: {found.generation_rows} would take {duration(FIT)} or less for the answers"
            if found.generation_rows > work.batch_size
            else f"evaluate.generation_rows: {found.generation_rows}, one batch, is the least for the answers"
        )
    return said


def speed_of(
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
        examples: from which a few of middling length are read.
        prompts: from which a batch is answered by a few tokens; none: answers are not timed.
        mode: how a prompt becomes tokens, as stored with the model.
        max_length: tokens that the model sees at once.
        batch_size: rows in a batch.
    """
    tokens = lengths(examples)
    order = sorted(range(len(examples)), key=lambda place: tokens[place])
    middling = [examples[place] for place in order[len(order) // 2 :][:_ROWS]]
    likelihood.score(model, middling[:1], max_length=min(max_length, _PROMPT), batch_size=1)
    began = time.monotonic()
    likelihood.score(model, middling, max_length=max_length, batch_size=_ROWS)
    token = (time.monotonic() - began) / max(sum(len(example.input_ids) for example in middling), 1)
    if not prompts:
        return Speed(token, 0.0)
    room = max(1, generation.context_length(model, 1 + _PROMPT + _TOKENS) - 1 - _TOKENS)
    ends = [ids[-min(_PROMPT, room) :] for ids in prompts[:batch_size]]

    def seconds(tokens: int) -> float:
        begun = time.monotonic()
        generation.answers_to(
            model, tokenizer, ends, mode=mode, max_new_tokens=tokens, batch_size=batch_size, least=tokens
        )
        return time.monotonic() - begun

    first = seconds(1)
    return Speed(token, max(seconds(1 + _TOKENS) - min(first, seconds(1)), 0.0) / _TOKENS)


def of(
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
) -> tuple[Work, Foreseen]:
    """What an evaluation will take, timed on a few rows.

    Args:
        model: a causal language model, the first that is measured.
        tokenizer: its tokenizer.
        examples: whose likelihood is measured.
        prompts: that are answered.
        mode: how a prompt becomes tokens, as stored with the model.
        max_length: tokens that the model sees at once.
        evaluate: the section of params.
        count: models of this size that are measured.
        least: operations below which nothing is timed, and no time is foreseen.
    """
    ids = []
    if prompts:
        ids, _ = generation.encode(model, tokenizer, prompts, mode=mode, max_new_tokens=evaluate.max_new_tokens)
    work = Work(
        int(sum(lengths(examples))), sum(map(len, ids)), len(ids), evaluate.batch_size, evaluate.max_new_tokens, count
    )
    if not len(examples) or work.operations(models.count_parameters(model)) < least:
        return work, Foreseen(0.0, 0.0, work.rows)
    speed = speed_of(model, tokenizer, examples, ids, mode=mode, max_length=max_length, batch_size=evaluate.batch_size)
    return work, foreseen(work, speed)


def announce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    *,
    can_choose: bool,
    **more: Any,
) -> None:
    """Print how long an evaluation will take, if that is long enough for anybody to ask.

    Args:
        model: as for `of`, like all others.
        tokenizer: its tokenizer.
        examples: whose likelihood is measured.
        prompts: that are answered.
        can_choose: whether `evaluate.generation_rows` says how many rows are answered.
        more: of `of`.
    """
    work, found = of(model, tokenizer, examples, prompts, least=LONG, **more)
    if found.likelihood + found.answers > 0:
        for line in lines(work, found, can_choose=can_choose):
            print(line, flush=True)
