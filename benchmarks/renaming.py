"""Renames all words of a text consistently: equal parts stay equal, and nothing else becomes similar."""

import random
import re
import string

WORD = re.compile(r"[^\W_]+")


class Renaming:
    """Every word becomes a word of random letters, the same word always the same one."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, text: str) -> str:
        return WORD.sub(self._rename, text)

    def _rename(self, match: re.Match[str]) -> str:
        word = match[0]
        name = self._names.get(word)
        if name is None:
            plain = word.casefold()
            name = self._names.get(plain) or self._fresh(len(plain))
            self._names[plain] = name
            name = name.upper() if word.isupper() else name.capitalize() if word[0].isupper() else name
            self._names[word] = name
        return name

    def _fresh(self, length: int) -> str:
        while (name := fresh(self._random, length)) in self._taken:
            pass
        self._taken.add(name)
        return name


def fresh(rng: random.Random, length: int) -> str:
    """A word of random letters; shorter than three there are too few."""
    return "".join(rng.choices(string.ascii_lowercase, k=min(max(length, 3), 12)))
