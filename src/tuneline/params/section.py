"""The base of every section of params.yaml, and the types of its keys."""

import difflib
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

# NumPy's seeds and some counters of the libraries have 32 bits.
MOST = 2**31 - 1


class Section(BaseModel):
    """A frozen section without unknown keys. Keys have no default, so that only params.yaml has their values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Given(Section):
    """A section whose `model_dump` has only the keys that the file gives: the library decides the others."""

    @model_serializer(mode="wrap")
    def _only_given_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


def one_of(names: Collection[str]) -> Any:
    """The type of a text that must be one of `names`; the error for another text suggests the closest name."""

    def check(value: str) -> str:
        if value in names:
            return value
        close = difflib.get_close_matches(value, names, n=1)
        raise ValueError(f"is unknown; did you mean {close[0]}?" if close else f"is none of {', '.join(names)}")

    return Annotated[str, AfterValidator(check)]


def _steps_or_share(value: float) -> float:
    if 0 < value < 1:
        return value
    if 1 <= value <= MOST and value == int(value):
        return int(value)
    raise ValueError("input should be a whole number of steps, or a share of all steps between 0 and 1 such as 0.1")


def _refuse_object(_: object) -> None:
    raise ValueError("takes an object that YAML cannot hold")


Integer = Annotated[int, Field(ge=-MOST - 1, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Length = Annotated[int, Field(ge=8, le=2**24)]
"""Tokens."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
StepsOrShare = Annotated[float, AfterValidator(_steps_or_share)]
"""A number of steps, or below 1 a share of all steps of the training, as in transformers."""
WarmUp = Annotated[float, AfterValidator(lambda value: value and _steps_or_share(value))]
"""As StepsOrShare; 0: no warm-up."""
Unholdable = Annotated[Any, BeforeValidator(_refuse_object)]
"""An argument of a library that has no form in YAML."""
