"""The table of scripts without spaces, and the tokens of near duplicates and decontamination that depend on it."""

import re
from itertools import pairwise

import numpy as np
import pytest

from tuneline.data.preparing.text import tokens
from tuneline.data.records import scripts


@pytest.mark.parametrize("text", ["中", "の", "カ", "ไ", "ລ", "མ", "မ", "ខ", "𠀀"])
def test_scripts_without_spaces_are_in_the_table(text: str) -> None:
    assert re.fullmatch(scripts.character_class(), text)


@pytest.mark.parametrize("text", ["a", "é", "я", "한", "ا", "ଓ", "1", " ", "。", "་"])
def test_scripts_with_spaces_are_not(text: str) -> None:
    assert not re.fullmatch(scripts.character_class(), text)


def test_characters_of_these_scripts_and_of_hangul_are_tokens() -> None:
    alone = np.flatnonzero(tokens.character_classes() == tokens.CHARACTER)
    edges = np.flatnonzero(np.diff(alone, prepend=-2, append=-2) != 1)
    ranges = [(hex(alone[start]), hex(alone[stop - 1])) for start, stop in pairwise(edges)]
    assert ranges == [
        ("0xe00", "0xeff"),
        ("0xf40", "0xfbc"),
        ("0x1000", "0x109f"),
        ("0x1780", "0x17ff"),
        ("0x3040", "0x30ff"),
        ("0x3400", "0x4dbf"),
        ("0x4e00", "0x9fff"),
        ("0xac00", "0xd7a3"),
        ("0xf900", "0xfaff"),
        ("0x20000", "0x3ffff"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("or", "ମୁଁ ଓଡ଼ିଆ କହେ"),
        ("tibetan", "བོད་ཡིག་འབྲི"),
        ("dv", "ދިވެހި"),
        ("ii", "ꆈꌠꁱꂷ"),
        ("mongolian", "ᠮᠣᠩᠭᠣᠯ"),
        ("canadian", "ᐃᓄᒃᑎᑐᑦ"),
        ("cherokee", "ᏣᎳᎩ"),
        ("tifinagh", "ⵜⵉⴼⵉⵏⴰⵖ"),
        ("nko", "ߒߞߏ"),
        ("syriac", "ܣܘܪܝܝܐ"),
    ],
)
def test_a_text_has_the_language_or_the_name_of_its_script(name: str, text: str) -> None:
    assert scripts.language(text) == name
