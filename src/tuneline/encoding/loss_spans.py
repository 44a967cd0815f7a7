"""A text in pieces, each learnt as a whole or not at all, as token ids."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from tuneline.encoding import token_ids

BREAK = "\ufdd0"
"""Breaks a special token that a message spells until the template's own are told apart; no character of any text."""


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    is_learnt: bool
    after: str
    """The special token right before it, or nothing."""
    goes_on: bool
    """Whether anything stands before it."""


def ids_of(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[Piece], special: re.Pattern[str]) -> list[list[int]]:
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
    begun = token_ids.ids(tokenizer, [pieces[place].text for place in first], special=True)
    gone_on = token_ids.continued(
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


def _of_broken(tokenizer: PreTrainedTokenizerBase, piece: Piece, special: re.Pattern[str]) -> list[int]:
    """The ids of a piece in which a message spells special tokens: only the template's own are meant."""
    made: list[int] = []
    for place, part in enumerate(re.split(f"({special.pattern})", piece.text)):
        text = part.replace(BREAK, "")
        if not text:
            continue
        if place % 2:
            made += token_ids.ids(tokenizer, [text], special=True)[0]
        elif piece.goes_on or made:
            made += token_ids.continued(tokenizer, [text])[0]
        else:
            made += token_ids.ids(tokenizer, [text])[0]
    return made
