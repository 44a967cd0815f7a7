"""Section `paths`: where everything lies, relative to the project's root."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from tuneline.params.section import Section


def _inside_the_project(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path inside the project, relative to its root")
    return value


ProjectPath = Annotated[str, AfterValidator(_inside_the_project)]


class Paths(Section):
    sample: ProjectPath
    """The built-in corpus: pairs of definition and summary."""
    sample_text: ProjectPath
    """The built-in corpus: whole docstrings."""
    expectations: ProjectPath
    """Folder of raw.yaml and clean.yaml, the expectations of Great Expectations."""
    mixture: ProjectPath
    """Folder of the sets, a folder each, that `data.mixture` may name."""
    clean: ProjectPath
    """The clean splits: train, validation and test as parquet."""
    pretraining: ProjectPath
    """The text that a builtin base is pretrained on: train and validation as parquet."""
    base: ProjectPath
    finetuned: ProjectPath
    reports: ProjectPath
