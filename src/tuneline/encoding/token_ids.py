"""Texts, and the loss spans of a rendered conversation, as token ids.

A special token that a text spells stays text, and a continuation gets no space of its own.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from tuneline.core import limits

# A tokenizer brings its own rules, and Python cannot interrupt its library. An ordinary one does a megabyte per second.
_SECONDS = 60
_CHARACTERS_PER_SECOND = 20_000
_NEVER_ENDS = (
    f"the tokenizer takes more than {_SECONDS} s plus a second for each {_CHARACTERS_PER_SECOND:,} characters, so it "
    "may never end; use another base"
)
# Texts to put before a continuation while it is tokenized. The first that does not merge with it is used.
_GUARDS = ("\n", "|", "。", "0")

BREAK = "\ufdd0"
"""A character that no text contains. It breaks a special token that a message spells until the text is tokenized."""


class LossSpan(NamedTuple):
    """A part of a rendered conversation whose tokens are all supervised, or all not."""

    text: str
    is_supervised: bool
    after: str
    """The special token directly before the span, or ""."""
    is_continuation: bool
    """Whether the conversation has text before the span."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """The token ids of each text. A tokenizer that may never end is an error message and exit code 1.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts; the tokenizer uses its own threads for them.
        options: further arguments of the tokenizer's call.
    """
    seconds = _SECONDS + sum(map(len, texts)) // _CHARACTERS_PER_SECOND
    with limits.exit_after(seconds, _NEVER_ENDS):
        return tokenizer(list(texts), verbose=False, **options)["input_ids"]  # pyright: ignore[reportReturnType]


def with_special_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """The token ids of each text with the special tokens that the tokenizer puts around a text.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts.
        max_length: tokens; the end of a longer text is cut off. None: texts stay complete.
    """
    truncation: dict[str, Any] = {} if max_length is None else {"truncation": True, "max_length": max_length}
    return tokenize(tokenizer, texts, split_special_tokens=True, **truncation)


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """The token ids of each text alone, without tokens around it.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts.
        special: whether a special token that a text spells becomes that token. By default it stays text, so that a
            text cannot end a document or change a role.
    """
    if not texts:
        return []
    return tokenize(tokenizer, texts, add_special_tokens=False, split_special_tokens=not special)


def continuation_ids(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    special: bool = False,
    after: Sequence[str] | None = None,
) -> list[list[int]]:
    """The token ids of each text as the continuation of another text.

    Some tokenizers (Llama 2's, Mistral's) put a space before each text. A model that writes its answer in the middle of
    a document does not see that space.

    Args:
        tokenizer: the model's tokenizer.
        texts: the continuations.
        special: as for `text_ids`.
        after: the special token directly before each text, or "".
    """
    found = text_ids(tokenizer, texts, special=special)
    if not adds_leading_space(tokenizer):
        return found
    waiting = [index for index, text in enumerate(texts) if text]
    for guard in _GUARDS:
        before = {index: (after[index] if after else "") or guard for index in waiting}
        guards = sorted(set(before.values()))
        guard_ids = dict(zip(guards, text_ids(tokenizer, guards, special=True), strict=True))
        together = [before[index] + texts[index] for index in waiting]
        merged = []
        for index, ids in zip(waiting, text_ids(tokenizer, together, special=special or bool(after)), strict=True):
            start = guard_ids[before[index]]
            if ids[: len(start)] == start:
                found[index] = ids[len(start) :]
            else:
                merged.append(index)
        waiting = merged
        if not waiting:
            break
    return found


def adds_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer gives a text other ids at the beginning of a document than in the middle."""
    for guard in _GUARDS:
        before, together, alone = text_ids(tokenizer, [guard, guard + "a", "a"])
        if together[: len(before)] == before:
            return together[len(before) :] != alone
    return False


def bos_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token if the tokenizer puts it before every text, else nothing."""
    written: list[int] = tokenizer("")["input_ids"]  # pyright: ignore[reportAssignmentType]
    return written[:1] if written and written[0] == tokenizer.bos_token_id else []


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-text token."""
    token = tokenizer.eos_token_id
    assert isinstance(token, int)
    return token


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The spelling of every special token, the longest first."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted({*added, *map(str, tokenizer.all_special_tokens)} - {""}, key=lambda token: (-len(token), token))


def span_ids(
    tokenizer: PreTrainedTokenizerBase, spans: Sequence[LossSpan], special: re.Pattern[str]
) -> list[list[int]]:
    """The token ids of each span at its place in its conversation.

    Args:
        tokenizer: the model's tokenizer.
        spans: of any number of conversations.
        special: matches every special token. A special token with a BREAK in it is text.
    """
    ids: list[list[int]] = [[]] * len(spans)
    unbroken = [index for index, span in enumerate(spans) if BREAK not in span.text]
    first = [index for index in unbroken if not spans[index].is_continuation]
    later = [index for index in unbroken if spans[index].is_continuation]
    first_ids = text_ids(tokenizer, [spans[index].text for index in first], special=True)
    later_ids = continuation_ids(
        tokenizer,
        [spans[index].text for index in later],
        special=True,
        after=[spans[index].after for index in later],
    )
    for index, found in zip([*first, *later], [*first_ids, *later_ids], strict=True):
        ids[index] = found
    for index, span in enumerate(spans):
        if BREAK in span.text:
            ids[index] = _broken_span_ids(tokenizer, span, special)
    return ids


def _broken_span_ids(tokenizer: PreTrainedTokenizerBase, span: LossSpan, special: re.Pattern[str]) -> list[int]:
    """The token ids of a span with special tokens of the template and special tokens that a message spells."""
    ids: list[int] = []
    for number, part in enumerate(re.split(f"({special.pattern})", span.text)):
        text, is_special = part.replace(BREAK, ""), number % 2 == 1
        if not text:
            continue
        if is_special:
            ids += text_ids(tokenizer, [text], special=True)[0]
        elif span.is_continuation or ids:
            ids += continuation_ids(tokenizer, [text])[0]
        else:
            ids += text_ids(tokenizer, [text])[0]
    return ids
