"""Section `data`: which raw set, how it is read, cleaned and split."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tuneline.params.paths import ProjectPath
from tuneline.params.section import Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _known_encoding(value: str) -> str:
    try:
        "".encode(value)
    except LookupError:
        raise ValueError("is no encoding that Python knows; utf-8, gb18030 and latin-1 are examples") from None
    return value


class Split(Section):
    group_by: str | None
    """Column whose value keeps rows together; None: rows with the same normalised prompt (or text)."""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups."""
    seed: int


class Data(Section):
    raw: ProjectPath
    """The set to fine-tune on: a folder under data/raw."""
    pretraining: ProjectPath
    """The set that a builtin base is pretrained on."""
    encoding: Annotated[str, AfterValidator(_known_encoding)]
    columns: dict[str, str]
    """Field of the record -> column of the raw file; empty: known names are recognised."""
    max_rejected_fraction: Fraction
    """Of the rows of a set; above it `prepare` stops."""
    max_overlap: Fraction
    """Share of a held-out row's 8-grams that a training row may hold before it is removed from training."""
    split: Split
