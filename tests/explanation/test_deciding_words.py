"""The attributions of a word are added up over texts."""

import numpy as np
import pytest

from tuneline.explanation import deciding_words

TEXTS = [
    (["Good", " good", " day"], np.array([1.0, 1.0, 0.5])),
    ([" good"], np.array([4.0])),
    (["good ", "bad"], np.array([0.0, -2.0])),
    (["bad", "rare"], np.array([-4.0, 9.0])),
    (["Bad", "day"], np.array([0.0, -0.5])),
    ([" ", "day"], np.array([1.0, 0.0])),
]


def test_words_of_all_texts_are_added_up() -> None:
    found = deciding_words.add_up("x", TEXTS)
    assert [(one.word, one.texts, one.mean, one.total) for one in found.raising] == [("good", 3, 2.0, 6.0)]
    assert [(one.word, one.texts, one.mean) for one in found.lowering] == [("bad", 3, -2.0)]
    assert found.raising[0].error == pytest.approx(np.std([2.0, 4.0, 0.0], ddof=1) / 3**0.5)
    assert (found.rare, found.fewest, found.texts) == (1, 3, 6)


def test_labels_without_a_text_are_left_out() -> None:
    given = ["b", "a", "b", "b", "a", "b"]
    found = deciding_words.by_label(["a", "b", "c"], given, TEXTS)
    assert [(one.label, one.texts) for one in found] == [("a", 2), ("b", 4)]
    # Of two texts, a word of two is shown.
    assert found[0].fewest == 2
