"""Section `compute`: what of the machine is part of a model's identity."""

from typing import Annotated

from pydantic import Field

from tuneline.params.section import Section


class Compute(Section):
    threads: Annotated[int, Field(ge=1, le=1024)]
    """Threads of one operation; sums in another order give other bits, so this is no matter of taste."""
