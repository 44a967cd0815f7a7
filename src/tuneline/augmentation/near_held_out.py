"""Which texts are near duplicates of held-out texts: shared character grams, counted exactly by scikit-learn."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction import FeatureHasher

from tuneline.data.records.scripts import character_class

_LONG, _SHORT = 5, 3
_UNSPACED = re.compile(character_class())
_HASHER = FeatureHasher(n_features=1 << 24, input_type="string", alternate_sign=False)


def key(text: str) -> str:
    """A key that is equal for texts that differ only in case, spaces, or the width and form of characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class HeldOut:
    """Held-out texts, to which others are compared as `prepare` compares rows.

    Args:
        texts: the keys of the texts.
        threshold: Jaccard similarity of near duplicates; None: only equal texts are found.
    """

    def __init__(self, texts: Sequence[str], threshold: float | None) -> None:
        self._equal = frozenset(texts)
        self._threshold = threshold
        self._grams = _grams(texts) if texts and threshold is not None else None

    def near(self, texts: Sequence[str]) -> np.ndarray:
        """Which texts are equal to, or near duplicates of, a held-out text: bool, [texts].

        Args:
            texts: the keys of the texts.
        """
        found = np.array([text in self._equal for text in texts], bool)
        if self._grams is None or not texts:
            return found
        grams = _grams(texts)
        shared = (grams @ self._grams.T).tocoo()
        sizes, of_held_out = (np.asarray(matrix.sum(axis=1)).ravel() for matrix in (grams, self._grams))
        union = sizes[shared.row] + of_held_out[shared.col] - shared.data
        found[shared.row[shared.data >= self._threshold * union]] = True
        return found


def _grams(texts: Sequence[str]):
    """[texts, hashes] 1.0 where a text has a gram."""
    return _HASHER.transform(map(_grams_of, texts))


def _grams_of(text: str) -> set[str]:
    """Five characters, or three if the first is of a script without spaces; a shorter text is a gram itself."""
    if text.isascii():
        return {text[at : at + _LONG] for at in range(max(1, len(text) - _LONG + 1))}
    unspaced = {match.start() for match in _UNSPACED.finditer(text)}
    sizes = ((at, _SHORT if at in unspaced else _LONG) for at in range(len(text)))
    return {text[at : at + size] for at, size in sizes if at + size <= len(text)} or {text}
