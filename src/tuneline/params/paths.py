"""Section `paths`: the paths of all inputs and outputs, relative to the project's root."""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from tuneline.params.section import Section

FOR_OUTPUTS = ("data", "models", "reports")
"""The folders that stages may write into."""


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
            f"must be under {', '.join(f'{name}/' for name in FOR_OUTPUTS[:-1])} or {FOR_OUTPUTS[-1]}/, because DVC "
            "deletes it before a stage writes it again"
        )
    return value


ProjectPath = Annotated[str, AfterValidator(_inside_the_project)]
OutputPath = Annotated[ProjectPath, AfterValidator(_for_outputs)]


class Paths(Section):
    sample: OutputPath
    """The built-in corpus: pairs of definition and summary."""
    sample_text: OutputPath
    """The built-in corpus: complete docstrings."""
    expectations: ProjectPath
    """Folder of raw.yaml and clean.yaml, the expectations of Great Expectations."""
    checks: Annotated[ProjectPath, Field(examples=["data/checks.yaml"])]
    """The file of the behaviour checks."""
    harness: Annotated[ProjectPath, Field(examples=["data/harness"])]
    """The folder of the project's own tasks of lm-evaluation-harness."""
    mixture: ProjectPath
    """The folder of the sets that `data.mixture` may name, one folder per set."""
    clean: OutputPath
    """The clean splits: train, validation and test as parquet."""
    pretraining: OutputPath
    """The text that a builtin base is pretrained on: train and validation as parquet."""
    base: OutputPath
    finetuned: OutputPath
    reports: OutputPath

    @property
    def augmented(self) -> str:
        """The folder of the variants of training rows, one folder per name of `data.augment`."""
        return f"{self.clean}-augmented"


OUTPUTS = ("sample", "sample_text", "clean", "pretraining", "base", "finetuned", "reports")
"""The keys of `paths` that stages write."""


_READ = {
    "data.raw": ("paths.sample", "paths.sample_text"),
    "data.pretraining": ("paths.sample", "paths.sample_text"),
    "base.input": ("paths.pretraining",),
}
"""Inputs that may be the output of a stage, and these outputs."""


def overlaps(outputs: Mapping[str, str], inputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The outputs that are equal to another path, or contain it, or are inside it.

    Args:
        outputs: key -> path that a stage writes.
        inputs: key -> path that a stage reads.

    Yields:
        The key of an output, and the key of another output or of an input.
    """
    names = list(outputs)
    for number, name in enumerate(names):
        for other in names[:number]:
            if _overlap(outputs[name], outputs[other]):
                yield name, other
        for other, path in inputs.items():
            if not (path == outputs[name] and name in _READ.get(other, ())) and _overlap(outputs[name], path):
                yield name, other


def _overlap(one: str, other: str) -> bool:
    """Whether paths overlap on a file system that ignores case and Unicode normalisation."""
    pairs = zip(PurePosixPath(_folded(one)).parts, PurePosixPath(_folded(other)).parts, strict=False)
    return all(left == right for left, right in pairs)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
