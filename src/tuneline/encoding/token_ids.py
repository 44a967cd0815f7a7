"""Texts as token ids: special tokens that a text spells are text, and a continuation gets no blank of its own."""

from collections.abc import Sequence
from typing import Any

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


def tokenised(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **how: Any) -> list[list[int]]:
    """The ids of every text. Where its tokenizer may never end, this process does, with a line about it.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts, tokenised together on the tokenizer's own threads.
        how: what else the tokenizer is told.
    """
    seconds = _SECONDS + sum(map(len, texts)) // _CHARACTERS_A_SECOND
    with limits.exit_after(seconds, _NEVER_ENDS):
        return tokenizer(list(texts), verbose=False, **how)["input_ids"]  # pyright: ignore[reportReturnType]


def ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """The ids of every text by itself, nothing added around it.

    Args:
        tokenizer: the model's tokenizer.
        texts: any number of texts, tokenised together on the tokenizer's own threads.
        special: whether special tokens that are spelt in a text are meant; else they are text, or a text could end a
            document or change a role.
    """
    if not texts:
        return []
    return tokenised(tokenizer, texts, add_special_tokens=False, split_special_tokens=not special)


def continued(
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
    made = ids(tokenizer, texts, special=special)
    if not puts_blank_before(tokenizer):
        return made
    waiting = [place for place, text in enumerate(texts) if text]
    for guard in _GUARDS:
        before = {place: (after[place] if after else "") or guard for place in waiting}
        guards = sorted(set(before.values()))
        guard_ids = dict(zip(guards, ids(tokenizer, guards, special=True), strict=True))
        together = ids(tokenizer, [before[place] + texts[place] for place in waiting], special=special or bool(after))
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


def puts_blank_before(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins a text in another way than it goes on in it."""
    for guard in _GUARDS:
        before, together, alone = ids(tokenizer, [guard, guard + "a", "a"])
        if together[: len(before)] == before:
            return together[len(before) :] != alone
    return False


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token of a tokenizer that writes one before every text, as its model has always seen."""
    written: list[int] = tokenizer("")["input_ids"]  # pyright: ignore[reportAssignmentType]
    return written[:1] if written and written[0] == tokenizer.bos_token_id else []


def end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-text token."""
    token = tokenizer.eos_token_id
    assert isinstance(token, int)
    return token


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every special token as it is spelt, the longest first."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted({*added, *map(str, tokenizer.all_special_tokens)} - {""}, key=lambda token: (-len(token), token))
