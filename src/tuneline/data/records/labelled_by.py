"""Which version has labelled a set: what `tuneline pseudolabel` writes into the folder of the set that it makes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.errors import DataError, UnreadableFileError

FILE = ".provenance.json"
"""Hidden, so that no reader takes it for rows; DVC keeps it with the set."""
KEY = "labelled_by"
"""The key of a set of the mixture in dataset.json; missing where people have labelled the set."""


@dataclass(frozen=True)
class LabelledBy:
    """The version that has labelled a set, and from which rows."""

    model: str
    version: str
    weights: Mapping[str, str]
    """The files of its weights -> sha256."""
    confidence: float
    """The least probability of a label that was taken."""
    input_sha256: str
    """Of the file or folder with the texts."""

    def __str__(self) -> str:
        """For a person, such as `labelled by reviews version 3 from confidence 0.9 on`."""
        return f"labelled by {self.model} version {self.version} from confidence {self.confidence:g} on"

    def as_json(self) -> dict[str, Any]:
        """The value of KEY in dataset.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "LabelledBy | None":
        """The version that has labelled a set, by the set's entry in dataset.json; None: people have."""
        found = described.get(KEY)
        return cls(**found) if found else None


def read(folder: Path) -> LabelledBy | None:
    """The version that has labelled the set in a folder; None: people have.

    Raises:
        DataError: the file cannot be read as what `tuneline pseudolabel` writes.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    names = set(LabelledBy.__annotations__)
    try:
        found = files.read_json(path)
    except UnreadableFileError as error:
        found, problem = None, str(error)
    else:
        problem = f"{path}: does not say which version has labelled the set"
    if not isinstance(found, dict) or not names <= found.keys():
        raise DataError(f"{problem}; make the set again with `tuneline pseudolabel`")
    return LabelledBy(**{name: found[name] for name in names})
