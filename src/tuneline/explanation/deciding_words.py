"""The words that decide each label over many texts: attributions per word, with the number of texts that have it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_FEWEST_TEXTS = 3
_WORDS = 12


@dataclass(frozen=True)
class WordEffect:
    """A word over all texts that were given a label."""

    word: str
    """In lower case, without the spaces around it."""
    texts: int
    """Texts that have it."""
    mean: float
    """By how much it raises the score of the label in such a text, on average."""
    error: float
    """The standard error of the mean over texts; 0 where all are equal."""

    @property
    def total(self) -> float:
        """The sum over all texts."""
        return self.mean * self.texts


@dataclass(frozen=True)
class LabelWords:
    """The words that decide a label."""

    label: str
    """Empty for a number."""
    texts: int
    """Texts that were given the label."""
    raising: tuple[WordEffect, ...]
    """The words with the largest sums first."""
    lowering: tuple[WordEffect, ...]
    """The words with the smallest sums first."""
    rare: int
    """Words that too few texts have, which are left out."""
    fewest: int
    """Fewest texts that have a word that is shown."""


def add_up(label: str, texts: Sequence[tuple[Sequence[str], np.ndarray]]) -> LabelWords:
    """The words that decide a label.

    Args:
        label: the label.
        texts: of each text that was given the label: its words, and their attributions.
    """
    effects: dict[str, list[float]] = defaultdict(list)
    for words, attribution in texts:
        in_text: dict[str, float] = defaultdict(float)
        for word, value in zip(words, attribution.tolist(), strict=True):
            if name := word.strip().lower():
                in_text[name] += value
        for name, value in in_text.items():
            effects[name].append(value)
    fewest = min(_FEWEST_TEXTS, max(1, len(texts)))
    found = [_effect(name, values) for name, values in effects.items() if len(values) >= fewest]
    found.sort(key=lambda one: (-one.total, one.word))
    return LabelWords(
        label,
        len(texts),
        tuple(one for one in found if one.mean > 0)[:_WORDS],
        tuple(one for one in reversed(found) if one.mean < 0)[:_WORDS],
        sum(len(values) < fewest for values in effects.values()),
        fewest,
    )


def _effect(word: str, values: list[float]) -> WordEffect:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return WordEffect(word, len(values), float(np.mean(values)), error)


def by_label(
    labels: Sequence[str], given: Sequence[str], texts: Sequence[tuple[Sequence[str], np.ndarray]]
) -> list[LabelWords]:
    """The words that decide each label, for the labels in their order that at least one text was given.

    Args:
        labels: all labels.
        given: the label of each text.
        texts: as for `add_up`.
    """
    of_label: Mapping[str, list[tuple[Sequence[str], np.ndarray]]] = {label: [] for label in labels}
    for label, text in zip(given, texts, strict=True):
        of_label[label].append(text)
    return [add_up(label, own) for label, own in of_label.items() if own]
