"""Section `report`: how the page is written on which people read the evaluation."""

from typing import Literal

from tuneline.params.section import Section

Language = Literal["en", "zh"]
"""en: English; zh: Simplified Chinese."""


class Report(Section):
    language: Language = "en"
    """The language of the page. What comes from data or a model stays as it is."""
