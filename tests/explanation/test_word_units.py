"""Words are what spaces, punctuation and, in Chinese, tokens separate; none is lost."""

import pytest
from transformers import PreTrainedTokenizerBase

from tuneline.explanation import word_units
from tuneline.explanation.word_units import Words


def words(tokenizer: PreTrainedTokenizerBase, text: str) -> Words:
    ids = tokenizer(text)["input_ids"]
    assert isinstance(ids, list)
    return word_units.split(tokenizer, ids, range(len(ids)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha, don't stop_now!", ["alpha", ",", "don't", "stop_now", "!"]),
        ("把字符 ok", ["把", "字", "符", "ok"]),
        ("one\n\n two", ["one", "two"]),
        ("  lead", ["lead"]),
        ("🙂 naïve", ["🙂", "naïve"]),
    ],
)
def test_a_text_is_split_into_words(tokenizer: PreTrainedTokenizerBase, text: str, expected: list[str]) -> None:
    found = words(tokenizer, text)
    assert [word.strip() for word in found.texts] == expected
    assert "".join(found.texts) == text


def test_each_token_is_in_one_word_and_special_tokens_in_none(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = [*tokenizer("把 alpha!")["input_ids"], tokenizer.eos_token_id]  # pyright: ignore[reportGeneralTypeIssues]
    found = word_units.split(tokenizer, ids, range(len(ids)))
    assert sorted(place for places in found.places for place in places) == list(range(len(ids) - 1))
    assert found.without(range(len(found.places))) == [tokenizer.eos_token_id]
    assert found.without([]) == ids
    assert found.replaced_by(7) == [7] * (len(ids) - 1) + [tokenizer.eos_token_id]


def test_tokens_outside_the_places_stay(tokenizer: PreTrainedTokenizerBase) -> None:
    found = word_units.split(tokenizer, [5, 6, 7], [1])
    assert found.places == ((1,),)
    assert found.replaced_by(9) == [5, 9, 7]
