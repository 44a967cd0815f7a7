"""The colours of the page: text can be read in light and dark, as WCAG 2 level AA asks."""

import re
from pathlib import Path

import pytest

from tuneline import reporting

CSS = (Path(reporting.__file__).parent / "report.css").read_text("utf-8")
ENOUGH_FOR_TEXT = 4.5
ENOUGH_FOR_PICTURES = 3.0
# Colour of a text, and the backgrounds on which the page writes it.
TEXTS = {
    "ink": ("paper", "card", "wash", "good-wash", "bad-wash", "unsure-wash"),
    "soft": ("paper", "card", "wash"),
    "accent": ("paper", "card"),
    "good": ("good-wash", "paper"),
    "bad": ("bad-wash", "paper"),
    "unsure": ("unsure-wash", "paper"),
}


def themes() -> dict[str, dict[str, str]]:
    """Theme -> name of a colour -> its value."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light, dark, printed = (dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks)
    return {"light": light, "dark": light | dark, "print": light | printed}


def channels(colour: str) -> list[float]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    return [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]


def ratio(one: list[float], other: list[float]) -> float:
    """The contrast of WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour: list[float]) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_ratio_is_that_of_the_definition() -> None:
    assert ratio(channels("#000"), channels("#fff")) == pytest.approx(21)
    assert ratio(channels("#777777"), channels("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_can_be_read(theme: str) -> None:
    colours = {name: channels(value) for name, value in themes()[theme].items()}
    weak = {
        (text, ground): round(found, 2)
        for text, grounds in TEXTS.items()
        for ground in grounds
        if (found := ratio(colours[text], colours[ground])) < ENOUGH_FOR_TEXT
    }
    assert weak == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_numbers_of_the_confusion_can_be_read_on_every_cell(theme: str) -> None:
    colours = {name: channels(value) for name, value in themes()[theme].items()}
    strongest = {float(share) for share in re.findall(r"calc\(([\d.]+) \* var\(--share\)\)", CSS)}
    assert len(strongest) == 1
    for tone in ("good", "bad"):
        for step in range(101):
            share = strongest.copy().pop() * step / 100
            ground = [share * a + (1 - share) * b for a, b in zip(colours[tone], colours["card"], strict=True)]
            assert ratio(colours["ink"], ground) >= ENOUGH_FOR_TEXT, (tone, step)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_of_pictures_stand_out(theme: str) -> None:
    colours = {name: channels(value) for name, value in themes()[theme].items()}
    for line in ("accent", "good", "bad", "unsure", "soft", "ink"):
        assert ratio(colours[line], colours["paper"]) >= ENOUGH_FOR_PICTURES, line


def test_what_has_the_focus_is_framed_and_no_rule_takes_the_frame_away() -> None:
    assert re.search(r":focus-visible \{ outline: 2px solid", CSS)
    assert not re.search(r"outline: (0|none)", CSS)
