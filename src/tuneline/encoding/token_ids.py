"""Texts as token ids: special tokens that a text spells are text, and a continuation gets no blank of its own."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from tuneline.core import limits

# A tokenizer's rules come with it, and no clock is heard while its library runs. Ordinary ones do a megabyte a second.
_SECONDS = 60
_CHARACTERS_A_SECOND = 20_000
_NEVER_ENDS = (
    f"the tokenizer takes more than {_SECONDS} s, and a second more for each {_CHARACTERS_A_SECOND:,} characters: it "
    "may never end; use another base"
)
# What may stand before a continuation while it is tokenised: the first that does not melt into it is used.
_GUARDS = ("\n", "|", "。", "0")


BREAK = "\ufdd0"
"""Breaks a special token that a message spells until the template's own are told apart; no character of any text."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **how: Any) -> list[list[int]]:
    """The ids of every text. Where its tokenizer may never end, this process does, with a line about it.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts, tokenised together on the tokenizer's own threads.
        how: what else the tokenizer is told.
    """
    seconds = _SECONDS + sum(map(len, texts)) // _CHARACTERS_A_SECOND
    with limits.exit_after(seconds, _NEVER_ENDS):
        return tokenizer(list(texts), verbose=False, **how)["input_ids"]  # pyright: ignore[reportReturnType]


def with_special_tokens(
    tokenizer: PreTrainedTokenizerBase, whole: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """The ids of every text with the special tokens that the tokenizer puts around it, its end cut off if need be."""
    cut: dict[str, Any] = {} if max_length is None else {"truncation": True, "max_length": max_length}
    return tokenize(tokenizer, whole, split_special_tokens=True, **cut)


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """The ids of every text by itself, nothing added around it.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts, tokenised together on the tokenizer's own threads.
        special: whether special tokens that are spelt in a text are meant; else they are text, or a text could end a
            document or change a role.
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
    """The ids of every text as it goes on after another.

    Some tokenizers put a blank before a text that has none (Llama 2's, Mistral's). In the middle of a document, where
    a model writes its answer, there is no such blank.

    Args:
        tokenizer: the model's tokenizer.
        texts: the continuations.
        special: as for `ids`.
        after: the special token right before each text, or "" where there is none.
    """
    made = text_ids(tokenizer, texts, special=special)
    if not adds_leading_space(tokenizer):
        return made
    waiting = [place for place, text in enumerate(texts) if text]
    for guard in _GUARDS:
        before = {place: (after[place] if after else "") or guard for place in waiting}
        guards = sorted(set(before.values()))
        guard_ids = dict(zip(guards, text_ids(tokenizer, guards, special=True), strict=True))
        together = text_ids(
            tokenizer, [before[place] + texts[place] for place in waiting], special=special or bool(after)
        )
        melted = []
        for place, joined in zip(waiting, together, strict=True):
            start = guard_ids[before[place]]
            if joined[: len(start)] == start:
                made[place] = joined[len(start) :]
            else:
                melted.append(place)
        waiting = melted
        if not waiting:
            break
    return made


def adds_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins a text in another way than it goes on in it."""
    for guard in _GUARDS:
        before, together, alone = text_ids(tokenizer, [guard, guard + "a", "a"])
        if together[: len(before)] == before:
            return together[len(before) :] != alone
    return False


def bos_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token of a tokenizer that writes one before every text, as its model has always seen."""
    written: list[int] = tokenizer("")["input_ids"]  # pyright: ignore[reportAssignmentType]
    return written[:1] if written and written[0] == tokenizer.bos_token_id else []


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-text token."""
    token = tokenizer.eos_token_id
    assert isinstance(token, int)
    return token


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every special token as it is spelt, the longest first."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted({*added, *map(str, tokenizer.all_special_tokens)} - {""}, key=lambda token: (-len(token), token))


class LossSpan(NamedTuple):
    """A part of a text."""

    text: str
    is_learnt: bool
    after: str
    """The special token right before it, or nothing."""
    goes_on: bool
    """Whether anything stands before it."""


def span_ids(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[LossSpan], special: re.Pattern[str]
) -> list[list[int]]:
    """The ids of every piece as it stands in its text.

    Args:
        tokenizer: the model's tokenizer.
        pieces: of any number of texts.
        special: any special token as it is spelt; a BREAK in one means that it is text.
    """
    ids: list[list[int]] = [[]] * len(pieces)
    whole = [place for place, piece in enumerate(pieces) if BREAK not in piece.text]
    first = [place for place in whole if not pieces[place].goes_on]
    later = [place for place in whole if pieces[place].goes_on]
    begun = text_ids(tokenizer, [pieces[place].text for place in first], special=True)
    gone_on = continuation_ids(
        tokenizer,
        [pieces[place].text for place in later],
        special=True,
        after=[pieces[place].after for place in later],
    )
    for place, made in zip([*first, *later], [*begun, *gone_on], strict=True):
        ids[place] = made
    for place, piece in enumerate(pieces):
        if BREAK in piece.text:
            ids[place] = _of_broken(tokenizer, piece, special)
    return ids


def _of_broken(tokenizer: PreTrainedTokenizerBase, piece: LossSpan, special: re.Pattern[str]) -> list[int]:
    """The ids of a piece in which a message spells special tokens: only the template's own are meant."""
    made: list[int] = []
    for place, part in enumerate(re.split(f"({special.pattern})", piece.text)):
        text = part.replace(BREAK, "")
        if not text:
            continue
        if place % 2:
            made += text_ids(tokenizer, [text], special=True)[0]
        elif piece.goes_on or made:
            made += continuation_ids(tokenizer, [text])[0]
        else:
            made += text_ids(tokenizer, [text])[0]
    return made
