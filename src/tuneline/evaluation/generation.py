"""Greedy answers: many prompts in batches for the evaluation, one prompt as a stream for a person."""

from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from tuneline.core import limits
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation
from tuneline.encoding.encode import IGNORED, encode_all
from tuneline.encoding.mode import CHAT
from tuneline.errors import ModelError
from tuneline.progress import Report, silent

Prompt = str | dict[str, Any]
"""A prompt as written; of a chat model one turn of the user, or a record of `messages` and `tools`, of which the model
is shown all before the assistant's last turn."""

# To put an answer together; no clock is heard meanwhile.
_SECONDS = 60
_NEVER_ENDS = f"the tokenizer takes more than {_SECONDS} s to write an answer: it may never end; use another model"


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    mode: str,
    max_new_tokens: int,
    batch_size: int,
    progress: Report = silent,
) -> list[str]:
    """Answer every prompt greedily; batches are padded on the left, which changes no answer.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: the prompts as written, or conversations.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of an answer at most.
        batch_size: prompts in a batch.
        progress: called after each batch.

    Returns:
        The answers, without the prompt and special tokens, in the order of `prompts`.
    """
    progress(0, len(prompts))
    encoded, _ = encode(model, tokenizer, prompts, mode=mode, max_new_tokens=max_new_tokens)
    return answers_to(
        model,
        tokenizer,
        encoded,
        mode=mode,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )


def answers_to(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[list[int]],
    *,
    mode: str,
    max_new_tokens: int,
    batch_size: int,
    least: int = 0,
    progress: Report = silent,
) -> list[str]:
    """As `generate`, of prompts that are ids already, as `encode` makes them; `least`: tokens of an answer at least."""
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
    config = _greedy(model, tokenizer, mode, max_new_tokens)
    config.min_new_tokens = least or None
    model.eval()
    answers = [""] * len(encoded)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = len(encoded[batch[0]])
        rows = [encoded[index] for index in batch]
        ids = torch.tensor([[config.pad_token_id] * (width - len(row)) + row for row in rows])
        attention = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        watch = _Watch(lambda share, start=start, batch=batch: progress(start + share * len(batch), len(order)), config)
        output = _generate(model, ids, attention, config, stopping_criteria=StoppingCriteriaList([watch]))
        for index, tokens in zip(batch, output[:, width:].tolist(), strict=True):
            answers[index] = _text(tokenizer, tokens)
        progress(start + len(batch), len(order))
    return answers


def stream(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, mode: str, max_new_tokens: int
) -> Iterator[str]:
    """Answer one prompt greedily, piece by piece as it is made.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompt: the prompt as written, or a conversation.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of the answer at most.

    Yields:
        Pieces of text that together are what `generate` returns for the prompt.
    """
    model.eval()
    encoded, _ = encode(model, tokenizer, [prompt], mode=mode, max_new_tokens=max_new_tokens)
    ids = torch.tensor(encoded)
    config = _greedy(model, tokenizer, mode, max_new_tokens)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore[reportArgumentType]
    failure: list[BaseException] = []

    def answer() -> None:
        try:
            _generate(model, ids, torch.ones_like(ids), config, streamer=streamer)
        except BaseException as error:
            # A thread's exception reaches nobody, and the reader would wait for ever.
            failure.append(error)
            streamer.end()

    thread = Thread(target=answer, daemon=True)
    thread.start()
    yield from (piece for piece in streamer if piece)
    thread.join()
    if failure:
        raise failure[0]


class _Watch(StoppingCriteria):
    """Tells after each token which share of its batch's time has passed at least, and stops nothing.

    Args:
        tell: takes the share, below 1.
        config: of the answers.
    """

    def __init__(self, tell: Callable[[float], None], config: GenerationConfig) -> None:
        self._tell, self._tokens, self._most = tell, 0, config.max_new_tokens or 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Of no row that it is done."""
        self._tokens += 1
        if self._tokens < self._most:
            self._tell(self._tokens / self._most)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def context_length(model: PreTrainedModel, otherwise: int) -> int:
    """Tokens that the model can see at once, or `otherwise` where its configuration does not say."""
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


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    with limits.exit_after(_SECONDS, _NEVER_ENDS):
        text = tokenizer.decode(tokens, skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    mode: str,
    max_new_tokens: int,
) -> tuple[list[list[int]], list[int]]:
    """The prompts exactly as they stand before a completion in training; the end is kept where all does not fit.

    Of a conversation early turns go first.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: the prompts as written, or conversations.
        mode: how a prompt becomes tokens, as stored with the model.
        max_new_tokens: tokens of an answer at most, for which room is left.

    Returns:
        The ids of each prompt, and the places of the prompts of which a part was left out.

    Raises:
        ModelError: there is no room for a prompt, or the chat template refuses a conversation.
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
        for [(ids, labels, _)] in encode_all(tokenizer, records, mode)
    ]
    cut = [place for place, ids in enumerate(encoded) if 0 < room < len(ids)]
    for place in cut:
        encoded[place] = encoded[place][-room:]
    return encoded, cut


def check_room(model: PreTrainedModel, max_new_tokens: int) -> None:
    """Refuse answers that leave no room for a prompt.

    Raises:
        ModelError: naming how many tokens the model sees at once.
    """
    context = context_length(model, max_new_tokens + 1)
    if max_new_tokens >= context:
        raise ModelError(
            f"max_new_tokens {max_new_tokens}: leaves no room for a prompt in the {context} tokens that the model sees "
            "at once; ask for fewer"
        )


def _conversation(prompt: Prompt) -> Conversation:
    if isinstance(prompt, str):
        return Conversation([{"role": "user", "content": prompt}], [])
    return Conversation.of(prompt).prompt


def _greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, mode: str, max_new_tokens: int
) -> GenerationConfig:
    """Plain greedy search, every value said, or the model's own settings would fill what is left out."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    end_of_turn = ChatTemplate(tokenizer).end_of_turn() if mode == CHAT else None
    stops = [tokenizer.eos_token_id, end_of_turn, *(own if isinstance(own, list) else [own])]
    stops = sorted({token for token in stops if isinstance(token, int)})
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        # Trainers save folders with false, and each token of an answer would then cost all tokens before it.
        use_cache=True,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=stops,
        # Behind an attention mask any token will do; after the end the answer is cut off by special tokens.
        pad_token_id=stops[0],
    )
