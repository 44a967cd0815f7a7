"""Words of a text in every script; Chinese needs rjieba, an extra, so these tests run where it is installed."""

import importlib.util

import pytest

from tuneline.augmentation import segmentation

needs_rjieba = pytest.mark.skipif(importlib.util.find_spec("rjieba") is None, reason="needs make setup EXTRAS=augment")

TEXTS = ["The quick brown fox isn't\n\nhere.", "ภาษาไทย", "これはペン", "", "  (well-known)  ", "x\u2005y"]


def words(text: str) -> list[str]:
    return [piece.text for piece in segmentation.pieces(text) if piece.is_word]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(piece.text for piece in segmentation.pieces(text)) == text
    spaced, mark = segmentation.spaced(text)
    assert spaced.replace(mark, "") == text if mark else spaced == text


def test_words_are_what_spaces_and_punctuation_separate() -> None:
    assert words("The fox isn't well-known: 3.5!") == ["The", "fox", "isn't", "well-known", "3", "5"]


def test_a_script_without_spaces_is_divided_into_characters_and_gets_a_mark_between_them() -> None:
    assert words("これは") == ["こ", "れ", "は"]
    assert segmentation.spaced("これ。は")[0] == "こ\u2005れ。\u2005は"


@pytest.mark.slow
@needs_rjieba
def test_chinese_is_divided_into_words() -> None:
    assert words("房间很干净，I love it。") == ["房间", "很", "干净", "I", "love", "it"]
    assert segmentation.spaced("房间很干净，早餐。I") == (
        "房间\u2005很\u2005干净，\u2005早餐。\u2005I",
        "\u2005",
    )
