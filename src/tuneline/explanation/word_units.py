"""The words of a tokenized text: the units that are attributed, left out and shown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tuneline.core import limits
from tuneline.data.records.scripts import character_class

# A character of several tokens has at most this many bytes, and so tokens.
_MOST_TOKENS = 8
_INCOMPLETE = "\ufffd"
# Python cannot interrupt a tokenizer's library.
_SECONDS = 120
_NEVER_ENDS = f"the tokenizer needs more than {_SECONDS} s to decode a text and may never end; use another model"
_UNSPACED = re.compile(character_class())


@dataclass(frozen=True)
class Words:
    """The words of a text as token ids."""

    ids: tuple[int, ...]
    """All tokens that the model sees of the text, special tokens and the chat template included."""
    places: tuple[tuple[int, ...], ...]
    """Of each word: the places of its tokens in `ids`. Tokens of no word are always kept."""
    texts: tuple[str, ...]
    """Of each word: its text, with the space before it."""

    def without(self, removed: Sequence[int]) -> list[int]:
        """The ids without the tokens of some words."""
        gone = {place for word in removed for place in self.places[word]}
        return [token for place, token in enumerate(self.ids) if place not in gone]

    def replaced_by(self, token: int) -> list[int]:
        """The ids with one token in the place of each token of a word."""
        own = {place for places in self.places for place in places}
        return [token if place in own else kept for place, kept in enumerate(self.ids)]


def split(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], places: Sequence[int]) -> Words:
    """The words of a text.

    A word is what spaces and punctuation separate; a punctuation mark is a word of its own. In scripts without spaces,
    such as Chinese, a token is a word, or several tokens if only together they are whole characters.

    Args:
        tokenizer: the model's.
        ids: all tokens.
        places: of the tokens that belong to the text, in ascending order; special tokens are left out.
    """
    special = set(tokenizer.all_special_ids)
    own = [place for place in places if ids[place] not in special]
    with limits.exit_after(_SECONDS, _NEVER_ENDS):
        pieces = _pieces(tokenizer, ids, own)
    found: list[tuple[list[int], str]] = []
    for piece, text in pieces:
        # A space alone is not a word.
        if found and (not text.strip() or not found[-1][1].strip() or _continues(found[-1][1], text)):
            found[-1] = ([*found[-1][0], *piece], found[-1][1] + text)
        else:
            found.append((piece, text))
    return Words(tuple(ids), tuple(tuple(word) for word, _ in found), tuple(text for _, text in found))


def _continues(before: str, text: str) -> bool:
    last, first = before[-1], text[0]
    is_inside = all(one.isalnum() or one in "_'’" for one in (last, first))
    return is_inside and not (_UNSPACED.match(last) or _UNSPACED.match(first))


def _pieces(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], places: Sequence[int]
) -> list[tuple[list[int], str]]:
    """The fewest tokens in a row that are whole characters, with their text."""
    found: list[tuple[list[int], str]] = []
    piece: list[int] = []
    for number, place in enumerate(places):
        piece.append(place)
        text = _text_after(tokenizer, ids, piece)
        is_last = number + 1 == len(places)
        if text.endswith(_INCOMPLETE) and not is_last and len(piece) < _MOST_TOKENS:
            continue
        if text or not found:
            found.append((piece, text))
        else:
            # A token without a text belongs to the one before it.
            found[-1][0].extend(piece)
        piece = []
    return found


def _text_after(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], piece: Sequence[int]) -> str:
    """The text of a piece in the middle of its text: some tokenizers drop the space before a first token."""
    own = [ids[place] for place in piece]
    before = list(ids[max(0, piece[0] - 1) : piece[0]])
    context = _decode(tokenizer, before)
    together = _decode(tokenizer, [*before, *own])
    return together[len(context) :] if together.startswith(context) else _decode(tokenizer, own)


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""
