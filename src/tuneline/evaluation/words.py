"""How texts are divided into words. Scripts without spaces, such as Chinese, are divided into characters."""

import itertools
import re
import string
import unicodedata
from collections.abc import Iterable
from functools import cache

from tuneline.data.records.scripts import WITHOUT_SPACES, character_class

_UNSPACED_SHARE = 0.2
_MOST_SAMPLED = 2000
_HAN = tuple(scope for scope in WITHOUT_SPACES if scope[0] >= 0x3400)
_HAN_SHARE = 0.9
_WITHOUT_SPACES = re.compile(character_class())
_WITH_HAN = re.compile(character_class(_HAN))
_LETTER = re.compile(r"\w")
_WORD = re.compile(rf"{character_class()}|(?:(?!{character_class()})\S)+")
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether the texts do not set spaces between words, as in Chinese."""
    sample = list(itertools.islice(texts, _MOST_SAMPLED))
    letters = sum(len(_LETTER.findall(text)) for text in sample)
    return _count(_WITHOUT_SPACES, sample) > _UNSPACED_SHARE * letters


def tokenizer_for(texts: Iterable[str]) -> str:
    """The name of sacrebleu's tokenizer for texts like these.

    `zh` for Chinese; `char`, each character is a word, for Japanese, Thai and other scripts without spaces; else `13a`,
    which separates punctuation.
    """
    sample = list(itertools.islice(texts, _MOST_SAMPLED))
    if not is_unspaced(sample):
        return "13a"
    return "zh" if _count(_WITH_HAN, sample) >= _HAN_SHARE * _count(_WITHOUT_SPACES, sample) else "char"


def answer_words(text: str) -> list[str]:
    """The words of an answer in lower case, without punctuation and English articles, as SQuAD compares them.

    Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250) define it for English. As in MLQA (Lewis et al. 2020,
    https://arxiv.org/abs/1910.07475), punctuation is that of Unicode, and each character of a script without spaces is
    a word.
    """
    lowered = "".join(character for character in text.lower() if not _is_punctuation(character))
    return _WORD.findall(_ARTICLE.sub(" ", lowered))


@cache
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _count(pattern: re.Pattern[str], texts: Iterable[str]) -> int:
    return sum(len(pattern.findall(text)) for text in texts)
