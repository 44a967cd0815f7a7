"""Section `paths`: where everything lies, relative to the project's root."""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from tuneline.params.section import Section

FOR_OUTPUTS = ("data", "models", "reports")
"""The folders that stages may write into. DVC deletes an output before its stage makes it anew."""


def _inside_the_project(value: str) -> str:
    path = PurePosixPath(value)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path inside the project, relative to its root")
    if str(path) != value or not value.isprintable():
        raise ValueError(f"must be a plain path; write it as {''.join(filter(str.isprintable, str(path)))!a}")
    return value


def _for_outputs(value: str) -> str:
    if PurePosixPath(value).parts[0] not in FOR_OUTPUTS:
        raise ValueError(
            f"must lie under {', '.join(f'{name}/' for name in FOR_OUTPUTS[:-1])} or {FOR_OUTPUTS[-1]}/: DVC deletes "
            "what is there before a stage writes it anew"
        )
    return value


ProjectPath = Annotated[str, AfterValidator(_inside_the_project)]
OutputPath = Annotated[ProjectPath, AfterValidator(_for_outputs)]


class Paths(Section):
    sample: OutputPath
    """The built-in corpus: pairs of definition and summary."""
    sample_text: OutputPath
    """The built-in corpus: whole docstrings."""
    expectations: ProjectPath
    """Folder of raw.yaml and clean.yaml, the expectations of Great Expectations."""
    mixture: ProjectPath
    """Folder of the sets, a folder each, that `data.mixture` may name."""
    clean: OutputPath
    """The clean splits: train, validation and test as parquet."""
    pretraining: OutputPath
    """The text that a builtin base is pretrained on: train and validation as parquet."""
    base: OutputPath
    finetuned: OutputPath
    reports: OutputPath


OUTPUTS = ("sample", "sample_text", "clean", "pretraining", "base", "finetuned", "reports")
"""The keys of `paths` that stages write to; all others are read."""


_READ = {
    "data.raw": ("paths.sample", "paths.sample_text"),
    "data.pretraining": ("paths.sample", "paths.sample_text"),
    "base.input": ("paths.pretraining",),
}
"""What a person names that may be what a stage has made."""


def overlaps(outputs: Mapping[str, str], inputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The places that stages write to that overlap: one of the two is the other, or lies in it.

    Args:
        outputs: key -> path.
        inputs: key -> path that a person has brought, or that a stage reads.

    Yields:
        The key of an output, and that of another output or of an input.
    """
    names = list(outputs)
    for place, name in enumerate(names):
        for other in names[:place]:
            if _overlap(outputs[name], outputs[other]):
                yield name, other
        for other, path in inputs.items():
            if not (path == outputs[name] and name in _READ.get(other, ())) and _overlap(outputs[name], path):
                yield name, other


def _overlap(one: str, other: str) -> bool:
    """Also where a file system tells neither capital letters nor the forms of Unicode apart."""
    pairs = zip(PurePosixPath(_folded(one)).parts, PurePosixPath(_folded(other)).parts, strict=False)
    return all(left == right for left, right in pairs)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
