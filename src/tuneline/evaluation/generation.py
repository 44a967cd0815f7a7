"""Causal language models and their answers: to many prompts in batches, or to one prompt as a stream of text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, NamedTuple

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from tuneline.core import limits
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation
from tuneline.encoding.encode import encode_records
from tuneline.encoding.examples import CHAT, IGNORED
from tuneline.errors import ModelError
from tuneline.evaluation.score_table import ModelToScore
from tuneline.modeling import models
from tuneline.modeling.model_folder import stored_mode
from tuneline.progress import Report, silent

Prompt = str | dict[str, Any]
"""A prompt as written. For a chat model: one turn of the user, or a record with `messages` and `tools`, of which the
model sees all that precedes the assistant's last turn."""

# A tokenizer's decoder is one call into native code that an alarm cannot interrupt.
_SECONDS = 60
NOT_FINITE = "the model's output is not a finite number, so it gives no answer"
"""Why a model has no answer, label or number; in words."""
_NEVER_ENDS = f"the tokenizer needs more than {_SECONDS} s to decode answers and may never end; use another model"


class Answer(NamedTuple):
    """What a model has written."""

    text: str
    """Without the prompt and special tokens."""
    tokens: int
    """Before the token that ends the answer."""
    has_ended: bool
    """False: the answer was cut at the most tokens."""
    is_defined: bool = True
    """False: the largest output for one of its tokens was not a finite number, so the tokens mean nothing."""


class LoadedModel(NamedTuple):
    """A causal language model in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    mode: str
    """How a record becomes tokens."""
    max_length: int
    """Tokens that it sees at once."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, with transformers' names."""

    temperature: float
    """Below 1 likely tokens become likelier."""
    top_p: float | None
    """The likeliest tokens with this probability together are drawn from; None: all tokens."""
    seed: int


def load(model: ModelToScore) -> LoadedModel:
    """Load a model as it is scored.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    loaded, tokenizer = models.load(model.folder)
    if model.encoded_as is not None:
        tokenizer = models.load_tokenizer(model.encoded_as)
    length = min(model.max_length, context_length(loaded, model.max_length))
    return LoadedModel(loaded, tokenizer, stored_mode(model.encoded_as or model.folder), length)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    mode: str,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
    progress: Report = silent,
) -> list[str]:
    """Answer every prompt, in batches that are padded on the left.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: the prompts as written, or conversations.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of an answer at most.
        batch_size: prompts per batch.
        sampling: how tokens are drawn; None: the likeliest token is taken at each step.
        progress: called after each batch.

    Returns:
        The answers, without the prompt and special tokens, in the order of `prompts`.
    """
    progress(0, len(prompts))
    encoded, _ = encode_prompts(model, tokenizer, prompts, mode=mode, max_new_tokens=max_new_tokens)
    return generate_encoded(
        model,
        tokenizer,
        encoded,
        mode=mode,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        sampling=sampling,
        progress=progress,
    )


def generate_encoded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[list[int]],
    *,
    mode: str,
    max_new_tokens: int,
    batch_size: int,
    min_new_tokens: int = 0,
    sampling: Sampling | None = None,
    progress: Report = silent,
) -> list[str]:
    """As `generate`, for prompts from `encode_prompts`; an answer has at least `min_new_tokens` tokens."""
    answers = answer_encoded(
        model,
        tokenizer,
        encoded,
        mode=mode,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        min_new_tokens=min_new_tokens,
        sampling=sampling,
        progress=progress,
    )
    return [answer.text for answer in answers]


def answer_encoded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[list[int]],
    *,
    mode: str,
    max_new_tokens: int,
    batch_size: int,
    min_new_tokens: int = 0,
    sampling: Sampling | None = None,
    progress: Report = silent,
) -> list[Answer]:
    """As `generate_encoded`, with the number of tokens of each answer."""
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
    config = _settings(model, tokenizer, mode, max_new_tokens, sampling)
    config.min_new_tokens = min_new_tokens or None
    model.eval()
    if sampling is not None:
        torch.manual_seed(sampling.seed)
    answers = [Answer("", 0, False)] * len(encoded)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = len(encoded[batch[0]])
        rows = [encoded[index] for index in batch]
        ids = torch.tensor([[config.pad_token_id] * (width - len(row)) + row for row in rows])
        attention = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        watch = _TokenProgress(
            lambda share, start=start, batch=batch: progress(start + share * len(batch), len(order)), config
        )
        defined = _FiniteCheck()
        output = _generate(
            model,
            ids,
            attention,
            config,
            stopping_criteria=StoppingCriteriaList([watch]),
            logits_processor=LogitsProcessorList([defined]),
        )
        written = output[:, width:].tolist()
        found = zip(batch, written, _texts(tokenizer, written), defined.rows(), strict=True)
        for index, tokens, text, is_defined in found:
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            count = len(tokens) if end is None else end
            answers[index] = Answer(text, count, end is not None, is_defined)
        progress(start + len(batch), len(order))
    return answers


def stream(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, mode: str, max_new_tokens: int
) -> Iterator[str]:
    """Answer one prompt greedily and yield the answer while it is generated.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompt: the prompt as written, or a conversation.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of the answer at most.

    Yields:
        Pieces of text; joined, they are what `generate` returns for the prompt.

    Raises:
        ModelError: after the last piece, where the model's output was not a finite number.
    """
    model.eval()
    encoded, _ = encode_prompts(model, tokenizer, [prompt], mode=mode, max_new_tokens=max_new_tokens)
    ids = torch.tensor(encoded)
    config = _settings(model, tokenizer, mode, max_new_tokens)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore[reportArgumentType]
    failure: list[BaseException] = []
    defined = _FiniteCheck()

    def answer() -> None:
        try:
            checks = LogitsProcessorList([defined])
            _generate(model, ids, torch.ones_like(ids), config, streamer=streamer, logits_processor=checks)
        except BaseException as error:
            # Without this the reader would wait for ever: a thread's exception does not reach it.
            failure.append(error)
            streamer.end()

    thread = Thread(target=answer, daemon=True)
    thread.start()
    yield from (piece for piece in streamer if piece)
    thread.join()
    if failure:
        raise failure[0]
    if not all(defined.rows()):
        raise ModelError(NOT_FINITE)


class _TokenProgress(StoppingCriteria):
    """Reports progress after each token. It never stops an answer.

    Args:
        report: called with the share of `max_new_tokens` that the batch has, below 1.
        config: of the answers.
    """

    def __init__(self, report: Callable[[float], None], config: GenerationConfig) -> None:
        self._report, self._tokens, self._most = report, 0, config.max_new_tokens or 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """False for every row."""
        self._tokens += 1
        if self._tokens < self._most:
            self._report(self._tokens / self._most)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _FiniteCheck(LogitsProcessor):
    """Notes the rows of a batch whose largest output is not a finite number. It changes no output."""

    def __init__(self) -> None:
        self._wrong: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The same scores."""
        # The largest is NaN if one of them is. A token may have -inf: it has no chance.
        wrong = ~scores.amax(dim=-1).isfinite()
        self._wrong = wrong if self._wrong is None else self._wrong | wrong
        return scores

    def rows(self) -> list[bool]:
        """Whether the largest output of each row was finite at every token."""
        assert self._wrong is not None
        return (~self._wrong).tolist()


def context_length(model: PreTrainedModel, otherwise: int) -> int:
    """Tokens that the model can see at once; `otherwise` where its configuration does not hold this number."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or otherwise


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, ids: torch.Tensor, attention: torch.Tensor, config: GenerationConfig, **more: Any
) -> torch.Tensor:
    output = model.generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids.to(model.device), attention_mask=attention.to(model.device), generation_config=config, **more
    )
    assert isinstance(output, torch.Tensor)
    return output


def _texts(tokenizer: PreTrainedTokenizerBase, answers: list[list[int]]) -> list[str]:
    """The texts of a batch of answers. One limit for all: to set and to clear a limit takes as long as to decode."""
    with limits.exit_after(_SECONDS, _NEVER_ENDS):
        return tokenizer.batch_decode(answers, skip_special_tokens=True)


def encode_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    mode: str,
    max_new_tokens: int,
) -> tuple[list[list[int]], list[int]]:
    """Encode prompts as training encodes what precedes a completion.

    A prompt that is too long loses its beginning, and a conversation its early turns.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: the prompts as written, or conversations.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of an answer at most; the context keeps room for them.

    Returns:
        The ids of each prompt, and the indices of the prompts that were cut.

    Raises:
        ModelError: the context has no room for a prompt, or the chat template refuses a conversation.
    """
    check_room(model, max_new_tokens)
    room = context_length(model, 0) - max_new_tokens
    if mode == CHAT:
        template, asked = ChatTemplate(tokenizer), [_conversation(prompt) for prompt in prompts]
        encoded = template.prompts(asked)
        cut = [place for place, ids in enumerate(encoded) if 0 < room < len(ids)]
        for place, ids in zip(cut, template.prompts([asked[place] for place in cut], room), strict=True):
            encoded[place] = ids
        return encoded, cut
    assert all(isinstance(prompt, str) for prompt in prompts)
    records = [{"prompt": prompt, "completion": ""} for prompt in prompts]
    encoded = [
        [token for token, label in zip(ids, labels, strict=True) if label == IGNORED]
        for [(ids, labels, _)] in encode_records(tokenizer, records)
    ]
    cut = [place for place, ids in enumerate(encoded) if 0 < room < len(ids)]
    for place in cut:
        encoded[place] = encoded[place][-room:]
    return encoded, cut


def check_room(model: PreTrainedModel, max_new_tokens: int) -> None:
    """Raise ModelError where answers of this length leave no room for a prompt in the model's context."""
    context = context_length(model, max_new_tokens + 1)
    if max_new_tokens >= context:
        raise ModelError(
            f"max_new_tokens {max_new_tokens}: leaves no room for a prompt, because the model sees {context} tokens at "
            "once; ask for fewer"
        )


def _conversation(prompt: Prompt) -> Conversation:
    if isinstance(prompt, str):
        return Conversation([{"role": "user", "content": prompt}], [])
    return Conversation.from_record(prompt).prompt


def _settings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    mode: str,
    max_new_tokens: int,
    sampling: Sampling | None = None,
) -> GenerationConfig:
    """Every value is set, because the model's own settings would replace a missing one."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    end_of_turn = ChatTemplate(tokenizer).end_of_turn() if mode == CHAT else None
    stops = [tokenizer.eos_token_id, end_of_turn, *(own if isinstance(own, list) else [own])]
    stops = sorted({token for token in stops if isinstance(token, int)})
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=sampling is not None,
        num_beams=1,
        # Trainers save false, with which each new token would compute all tokens before it again.
        use_cache=True,
        temperature=sampling.temperature if sampling else 1.0,
        top_p=sampling.top_p if sampling and sampling.top_p is not None else 1.0,
        # 0: tokens are drawn from all of them.
        top_k=0 if sampling else 50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=stops,
        # Any token will do: the attention mask hides it before the prompt, and decoding skips it after the end.
        pad_token_id=stops[0],
    )
