"""Section `registry`: the name under which versions are registered, and what a promotion asks for."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tuneline.params.section import Section


def _is_no_log(value: str) -> str:
    # The model `a` keeps its history in the experiment `a-history`, and the model `a-history` would train in it.
    for end, what in (("-history", "the history"), ("-ledger", "the uses of the test rows")):
        if value.lower().endswith(end):
            raise ValueError(f"must not end with {end}, as the experiment does that holds {what} of a model")
    return value


class Registry(Section):
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_is_no_log)]
    """The registered model's name in MLflow."""
    rebuilds: Annotated[int, Field(ge=0, le=100)] = 0
    """How many clones must have built a version again, byte by byte, before it may be promoted."""
