"""Cleaning of texts, and the keys by which texts are equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.preparing.text import cleaning


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("a\r\nb\rc\x0bd\x0ce\x85f", "a\nb\nc\nd\ne\nf"),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        # What a repair needs.
        ("Latin\x92s \x93C1\x94 and\x85", "Latin\x92s \x93C1\x94 and\x85"),
        ("\xc3\x85ngstr\xc3\xb6m", "\xc3\x85ngstr\xc3\xb6m"),
        ("half \ud800 character", "half  character"),
        ("e\u0301", "é"),
        ("ＡＢ「劒外」ﬁ", "ＡＢ「劒外」ﬁ"),
        ("zero\u200bwidth and \u2028", "zero\u200bwidth and \u2028"),
    ],
)
def test_cleaning_changes_only_normal_form_line_ends_and_control_characters(text: str, cleaned: str) -> None:
    assert cleaning.clean(text) == cleaned
    assert cleaning.clean(cleaned) == cleaned


def test_the_key_ignores_case_spaces_and_forms_of_characters() -> None:
    assert cleaning.key("  Ａ\n b\u3000ﬁ ") == cleaning.key("a B FI") == "a b fi"
    assert cleaning.key("Straße") == "strasse"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("hello, world!", "hello world"),
        ("ice-cream", "ice cream"),
        ("icecream", "ice cream."),
        ("well… (ok)", "well ok"),
        ("你好，世界！", "你好 世界"),
        ("こんにちは。", "「こんにちは」"),
        ("سلام، كيف؟", "سلام كيف"),
        ("ＡＢ！", "a b"),
        ("zero\u200bwidth", "zero width"),
        ("room 5.", "room: 5"),
        ("item-5", "item 5"),
        ("call 555-0100!", "call: 555-0100"),
    ],
)
def test_short_texts_that_differ_in_punctuation_or_spaces_are_equal(text: str, other: str) -> None:
    one, two = cleaning.bare(cleaning.key(text)), cleaning.bare(cleaning.key(other))
    assert one == two
    assert cleaning.bares([cleaning.key(text), cleaning.key(other)]) == [one, two]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("1.5", "15"), ("1 2", "12"), ("is -5", "is 5"), ("-5", "5"), ("3-2", "3 2"), (".5", "5"), ("50%", "50"),
        ("c#", "c"), ("c++", "c"), ("a<b", "a>b"), ("!", "?"), ("...", "!"), (":)", ":("), ("good 🙂", "good 🙁"),
        ("กา", "ก่า"), ("की", "का"),
    ],
)  # fmt: skip
def test_signs_with_a_meaning_distinguish_short_texts(text: str, other: str) -> None:
    one, two = cleaning.bare(cleaning.key(text)), cleaning.bare(cleaning.key(other))
    assert one != two
    assert cleaning.bares([cleaning.key(text), cleaning.key(other)]) == [one, two]


@given(st.lists(st.text("ab1 2-.,!#\u3000é"), max_size=5))
def test_cleaning_many_texts_at_once_is_the_same_as_one_by_one(texts: list[str]) -> None:
    keys = list(map(cleaning.key, texts))
    assert cleaning.bares(keys) == list(map(cleaning.bare, keys))
