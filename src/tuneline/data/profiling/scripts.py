"""Which scripts texts are written in, by their letters."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
_LATIN = "Latin"


class ScriptCounts:
    """Counts the letters of each script."""

    def __init__(self) -> None:
        self._letters: Counter[str] = Counter()

    def add(self, texts: Sequence[str]) -> None:
        """Count the letters of some texts."""
        ascii_letters = 0
        wide: list[str] = []
        for text in texts:
            if text.isascii():
                ascii_letters += _ascii_letters(text.encode())
            else:
                wide.append(text)
        if ascii_letters:
            self._letters[_LATIN] += ascii_letters
        if wide:
            codes = np.frombuffer("".join(wide).encode("utf-32-le", "surrogatepass"), np.uint32)
            found, counts = np.unique(codes, return_counts=True)
            for code, count in zip(found.tolist(), counts.tolist(), strict=True):
                if script := _script(code):
                    self._letters[script] += count

    def shares(self) -> dict[str, float]:
        """Script -> share of all letters, the most frequent first."""
        total = self._letters.total()
        return {script: count / total for script, count in self._letters.most_common()} if total else {}


_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())


def _ascii_letters(text: bytes) -> int:
    return len(text.translate(None, _NO_LETTERS))


@cache
def _script(code: int) -> str:
    """The script of a letter, by the first word of its name in Unicode; empty where it is no letter."""
    char = chr(code)
    if not char.isalpha():
        return ""
    words = unicodedata.name(char, "").split()
    word = next((word for word in words if word not in _WIDTHS), "")
    return _NAMES.get(word, word.capitalize())
