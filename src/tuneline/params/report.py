"""Section `report`: how the page is written on which people read the evaluation, and what it compares."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tuneline.params.section import Section

Language = Literal["en", "zh"]
"""en: English; zh: Simplified Chinese."""

MIXTURE, AUGMENT = "mixture", "augment"
"""In `report.without`: all sets of `data.mixture`, and all variants of `data.augment`."""
WITHOUT = "without/"
"""Before the name of a comparison, in the name of the stage that trains for it."""
MOST_WITHOUT = 20
"""Each of them is trained and evaluated, so it takes as long as the candidate."""


def _each_once(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PydanticCustomError("twice", "{names}: name each once", {"names": ", ".join(twice)})
    return names


LeftOut = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), AfterValidator(_each_once)]


class Report(Section):
    language: Language = "en"
    """The language of the page. What comes from data or a model stays as it is."""
    without: Annotated[dict[Annotated[str, Field(pattern=r"^\w{1,50}$")], LeftOut], Field(max_length=MOST_WITHOUT)] = (
        Field(default_factory=dict)
    )
    """Trainings without some rows, for comparison: the name of the comparison -> what is left out, namely sets of
    `data.mixture` or variants of `data.augment`, or `mixture` or `augment` for all of them."""
