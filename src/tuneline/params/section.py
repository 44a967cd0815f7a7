"""The base of every section of params.yaml: frozen, strict, and no key that the section does not know."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen section; every key is required, so that no default stands in two places."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
