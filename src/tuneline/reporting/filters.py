"""How the templates of the page write numbers, names and sentences."""

import re

from markupsafe import Markup, escape

LONGEST_TEXT = 700
"""Characters of a text of data or a model that the page shows."""
_LONGEST_NAME = 80
# White space that HTML shows as nothing, or as one space.
_UNSEEN_SPACES = re.compile(r"^[ \t\n\r\f]|[ \t\n\r\f]{2}|[ \t\n\r\f]$")
# Without the semicolon and the ampersand of escaped characters.
_WORD_END = re.compile(r"([_/.:|\-]+)(?=\w)")
# Characters that a browser does not show, such as the first of a terminal's code -> their pictures in Unicode.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
_CODE = re.compile(r"`([^`]+)`")


def number(value: float | None, digits: int = 3) -> str:
    """A number with commas and a minus sign."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.replace("-", "−") if _shows_a_digit(text) else text.removeprefix("-")


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign; zero has none."""
    written = number(value, digits)
    return f"+{written}" if value > 0 and _shows_a_digit(written) else written


def _shows_a_digit(text: str) -> bool:
    return any(digit in text for digit in "123456789")


def against(versus: str) -> str:
    """What a difference is measured against, to follow the name of the metric."""
    is_named = versus not in ("base", "baseline", "champion") and not versus.startswith("value ")
    return f"against {versus}" if is_named else f"against the {versus}"


def cut(text: str, keep_end: bool = False) -> str:
    """The beginning of a long text, or its end; control characters are shown as pictures."""
    text = text.translate(_PICTURES)
    if len(text) <= LONGEST_TEXT:
        return text
    return "… " + text[-LONGEST_TEXT:] if keep_end else text[:LONGEST_TEXT] + " …"


def short(name: str) -> str:
    """The beginning of a long name."""
    return (name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + " …").translate(_PICTURES)


def breakable(name: str) -> Markup:
    """The name of a label, cut to fit a table, with line breaks allowed after its words.

    A browser drops spaces at the ends of a text and shows several spaces as one, so two labels may look the same. A
    name with such spaces is therefore quoted, and all its spaces are shown.
    """
    shown = short(name)
    if _UNSEEN_SPACES.search(name):
        shown = repr(shown).replace(" ", "\N{NO-BREAK SPACE}")
    return Markup(_WORD_END.sub(r"\1<wbr>", str(escape(shown))))


def with_code(text: str) -> Markup:
    """A sentence of this project; text between backticks becomes code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ").replace("-", " ")


def is_long(text: str) -> bool:
    """Whether a text may be higher than its frame, which then scrolls and must be reachable by keyboard."""
    return text.count("\n") > 5 or len(text) > 250


FILTERS = {
    function.__name__: function for function in (number, signed, against, cut, short, breakable, with_code, words)
}
"""Name in a template -> the function."""
TESTS = {"long": is_long}
"""Name in a template, after `is` -> the function."""
