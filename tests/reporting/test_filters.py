"""How the page writes numbers, names and texts of data."""

import pytest

from tuneline.reporting import filters


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (None, 3, "–"),
        (-0.5, 3, "−0.500"),
        (1234, 3, "1,234"),
        (1234.56, 1, "1,235"),
        (0.25, 1, "0.2"),
        (-0.0004, 3, "0.000"),
    ],
)
def test_a_number(value: float | None, digits: int, written: str) -> None:
    assert filters.number(value, digits) == written


@pytest.mark.parametrize(("value", "written"), [(0.5, "+0.500"), (-0.5, "−0.500"), (-0.0001, "0.000"), (0.0, "0.000")])
def test_a_signed_number(value: float, written: str) -> None:
    assert filters.signed(value) == written


def test_codes_of_a_terminal_are_shown_and_do_nothing() -> None:
    assert filters.cut("a\x1b[31mred\x00\x7f\tb\r\n") == "a␛[31mred␀␡\tb\r\n"
    assert filters.breakable("\x1b[2J<b>") == "␛[2J&lt;b&gt;"


def test_a_long_text_keeps_its_beginning_or_its_end() -> None:
    text = "a" * 400 + "b" * 400
    assert filters.cut(text) == text[:700] + " …"
    assert filters.cut(text, keep_end=True) == "… " + text[-700:]


def test_a_sentence_has_code_between_backticks_and_nothing_else() -> None:
    assert filters.with_code("run `a <b>` & <i>") == "run <code>a &lt;b&gt;</code> &amp; &lt;i&gt;"
