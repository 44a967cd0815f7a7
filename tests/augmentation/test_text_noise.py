"""Noise of texts; what glitchlings and rjieba do runs where these extras are installed."""

import importlib.util

import pytest

from tuneline.augmentation import text_noise
from tuneline.params import NOISE

needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("glitchlings", "rjieba")),
    reason="needs make setup EXTRAS=augment",
)
TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds.\n\nIt will modify 100 lines."
CHINESE = "房间很干净，服务也不错，就是早餐太差。"


def test_each_kind_of_params_has_its_noise() -> None:
    assert set(text_noise.NOISES) == set(NOISE)


def test_every_word_is_left_out_as_often_as_p_says_and_line_breaks_stay() -> None:
    words = TEXT.replace(",", "").replace(".", "").split()
    left = dict.fromkeys(words, 0)
    for seed in range(2_000):
        shorter = text_noise.drop_words(TEXT, 0.3, seed)
        assert "\n\n" in shorter or "It" not in shorter
        assert "  " not in shorter
        for word in set(words) - set(shorter.replace(",", "").replace(".", "").split()):
            left[word] += 1
    assert all(0.26 < count / 2_000 < 0.34 for word, count in left.items()), left


def test_the_same_seed_leaves_out_the_same_words() -> None:
    assert text_noise.drop_words(TEXT, 0.3, 7) == text_noise.drop_words(TEXT, 0.3, 7)
    assert text_noise.drop_words(TEXT, 0.3, 7) != text_noise.drop_words(TEXT, 0.3, 8)


@pytest.mark.parametrize(("text", "end"), [("a b", ""), ("word", ""), ("", "")])
def test_nothing_is_left_of_a_text_whose_words_are_all_left_out(text: str, end: str) -> None:
    assert text_noise.drop_words(text, 1.0 - 1e-12, 0) == end


@pytest.mark.slow
@needs_extra
@pytest.mark.parametrize("kind", ["word_swap", "keyboard_noise", "ocr_noise"])
def test_a_glitchling_changes_a_text_by_its_seed(kind: str) -> None:
    noise = text_noise.NOISES[kind]
    changed = [noise(TEXT, 0.3, seed) for seed in range(20)]
    assert changed == [noise(TEXT, 0.3, seed) for seed in range(20)]
    assert len(set(changed)) > 10
    assert noise(TEXT, 0.3, 2**63 - 1) != TEXT


@pytest.mark.slow
@needs_extra
def test_swapped_words_are_the_same_words_in_chinese_too() -> None:
    for text in (TEXT, CHINESE):
        swapped = [text_noise.swap_words(text, 0.5, seed) for seed in range(20)]
        assert len(set(swapped)) > 3
        assert all(sorted(one) == sorted(text) for one in swapped)


@pytest.mark.slow
@needs_extra
def test_chinese_words_are_left_out_whole() -> None:
    shorter = {text_noise.drop_words(CHINESE, 0.3, seed) for seed in range(200)}
    assert all(("干" in one) == ("净" in one) == ("干净" in one) for one in shorter)


@pytest.mark.slow
@needs_extra
def test_a_misread_text_has_the_confusions_of_scans_and_chinese_has_none() -> None:
    assert "modify 1OO lines" in {text_noise.misread("modify 100 lines", 0.4, seed) for seed in range(200)}
    assert text_noise.misread(CHINESE, 0.9, 1) == CHINESE
