"""Noise of texts: words that are left out or change places, and the errors of typing and of reading a scan.

glitchlings changes words' places and characters. Leaving out words is our own: that of glitchlings 1.0 never leaves out
the first word, prefers those near the beginning, makes every line break a space, and changes nothing in short texts.
"""

import random
from collections.abc import Callable
from typing import Any

from tuneline.augmentation import segmentation

Noise = Callable[[str, float, int], str]
"""Text, probability and seed -> another text."""


def drop_words(text: str, p: float, seed: int) -> str:
    """The text without some of its words, each of which is left out with probability `p`."""
    draw = random.Random(seed)
    kept: list[str] = []
    is_after_gap = False
    for piece in segmentation.pieces(text):
        if piece.is_word and draw.random() < p:
            is_after_gap = True
            continue
        # Of the two spaces around a word that is left out, one stays.
        is_doubled = is_after_gap and piece.text[0] == " " and (not kept or kept[-1][-1].isspace())
        kept += [part] if (part := piece.text[is_doubled:]) else []
        is_after_gap = is_after_gap and not part
    joined = "".join(kept)
    return joined if text[-1:].isspace() else joined.rstrip()


def swap_words(text: str, p: float, seed: int) -> str:
    """The text with neighbouring words in each other's place; of each pair of words with probability `p`."""
    marked, mark = segmentation.spaced(text)
    swapped = _glitchling("Rushmore", modes="swap", rate=p, seed=seed)(marked)
    return swapped.replace(mark, "") if mark else swapped


def mistype(text: str, p: float, seed: int) -> str:
    """The text with typing errors: keys next to each other, doubled, left out or in the wrong order."""
    return _glitchling("Typogre", rate=p, seed=seed)(text)


def misread(text: str, p: float, seed: int) -> str:
    """The text as a program may read it from a scan, `rn` for `m`; only Latin letters and digits change."""
    return _glitchling("Scannequin", rate=p, seed=seed)(text)


def _glitchling(name: str, **settings: Any) -> Callable[[str], str]:
    # It is an extra.
    import glitchlings  # pyright: ignore[reportMissingImports]

    return getattr(glitchlings, name)(**settings)


NOISES: dict[str, Noise] = {
    "word_dropout": drop_words,
    "word_swap": swap_words,
    "keyboard_noise": mistype,
    "ocr_noise": misread,
}
"""The kinds of `data.augment.noise`."""
