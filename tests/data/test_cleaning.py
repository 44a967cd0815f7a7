"""What is changed in a text, and which texts are the same."""

import pytest

from tuneline.data.preparing import cleaning


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
def test_clean(text: str, cleaned: str) -> None:
    assert cleaning.clean(text) == cleaned
    assert cleaning.clean(cleaned) == cleaned


def test_key_joins_case_blanks_and_forms() -> None:
    assert cleaning.key("  Ａ\n b\u3000ﬁ ") == cleaning.key("a B FI") == "a b fi"
    assert cleaning.key("Straße") == "strasse"
