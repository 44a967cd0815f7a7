"""Section `registry`: the name under which versions are registered, and what a promotion asks for."""

from typing import Annotated

from pydantic import Field

from tuneline.params.section import Section


class Registry(Section):
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """The registered model's name in MLflow."""
    rebuilds: Annotated[int, Field(ge=0, le=100)] = 0
    """How many clones must have built a version again, byte by byte, before it may be promoted."""
