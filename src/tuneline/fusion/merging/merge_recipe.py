"""How models are merged: method, parents with their weights, density and seed, and what is wrong with such values."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.errors import ModelError

FILE = "merge.json"
"""The file of a merge folder that describes it."""
BASE = "base"
"""The folder of the parents' common base in a merge folder."""
ROWS = "train-rows.parquet"
"""The file with the ids and clusters of the rows that the parents were fine-tuned on; versions have it too."""
SPARSE = ("ties", "dare_linear", "dare_ties")
"""The methods that drop a part of what a parent has learned."""
RANDOM = ("dare_linear", "dare_ties")
"""The methods that draw what they drop."""
SHARED = ("linear", "slerp")
"""The methods whose weights are divided by their sum."""
METHODS = (*SHARED, "task_arithmetic", *SPARSE)
DENSITY = 0.5
"""Of a sparse method, if none is given."""
SEED = 0
"""Of a random method, if none is given."""


@dataclass(frozen=True)
class Parent:
    """A version whose weights are merged."""

    version: str
    weight: float
    sha256: str = ""
    """Of its folder in the merge folder."""
    files_sha256: str = ""
    """Of all files of the version, as the registry has it."""
    source_commit: str = ""
    """The git commit that the version was made from; empty if it has none."""


@dataclass(frozen=True)
class Recipe:
    """What a merge folder's file says."""

    method: str
    parents: tuple[Parent, ...]
    density: float | None = None
    """The share of the changed numbers of each tensor that a sparse method keeps; None for another method."""
    seed: int | None = None
    """Of what a random method keeps; None for another method."""
    base_sha256: str = ""
    """Of the folder of the common base."""
    rows_sha256: str = ""
    """Of the file of the parents' rows."""
    model: str = ""
    """The registered model whose versions the parents are."""

    @property
    def weights(self) -> list[float]:
        """The weights of the parents as the arithmetic uses them: of a shared method, they have the sum 1."""
        given = [parent.weight for parent in self.parents]
        return shares(given) if self.method in SHARED else given

    @property
    def versions(self) -> list[str]:
        """The versions of the parents."""
        return [parent.version for parent in self.parents]

    def named(self) -> str:
        """The versions of the parents in a line, in ascending order, as a tag of the merged version."""
        return ", ".join(sorted(self.versions, key=int))

    def as_json(self) -> dict[str, Any]:
        """The value of a merge folder's file."""
        return asdict(self)

    def describe(self) -> str:
        """The merge in words."""
        weights = ", ".join(f"{weight:.4g}" for weight in self.weights)
        names = f"{', '.join(self.versions[:-1])} and {self.versions[-1]}"
        text = f"versions {names} merged by {self.method}, weights {weights}"
        text += "" if self.density is None else f", density {self.density:g}"
        return text if self.seed is None else f"{text}, seed {self.seed}"


def shares(weights: Sequence[float]) -> list[float]:
    """The weights divided by their sum."""
    total = sum(weights)
    return [weight / total for weight in weights]


def default_weight(method: str, parents: int) -> float:
    """The weight of each parent if none is given.

    ties and dare_ties take the mean of the parents that agree; the other methods add what the parents have learned, and
    with 1 / parents each, the result is as far from the base as the parents are.
    """
    return 1.0 if method in ("ties", "dare_ties") else 1 / parents


def problems(method: str, weights: Sequence[float], density: float | None, seed: int | None) -> list[str]:
    """What is wrong with the values of a merge, in sentences with the remedy.

    Args:
        method: its name.
        weights: one per parent.
        density: None: not given.
        seed: None: not given.
    """
    if method not in METHODS:
        return [f"method {method!r} is unknown; use one of {', '.join(METHODS)}"]
    found = []
    if len(weights) < 2:
        found.append(f"a merge needs two versions, and {len(weights)} is given; name another one too")
    if method == "slerp" and len(weights) > 2:
        found.append(f"slerp is defined between two versions, and {len(weights)} are given; use linear for more")
    if not all(map(math.isfinite, weights)):
        found.append("a weight must be a number such as 0.5")
    elif not math.isfinite(sum(weights)):
        found.append("the weights have no finite sum; use smaller weights")
    elif 0.0 in weights:
        found.append("a weight is 0, so its version would not be in the result; leave the version out")
    elif min(weights, default=1.0) < 0 and method not in ("task_arithmetic", "dare_linear"):
        found.append(
            f"a weight is negative, and {method} has no meaning for it; use task_arithmetic to subtract what a version "
            "has learned"
        )
    if density is not None and method not in SPARSE:
        found.append(f"density has no meaning for {method}, which keeps every number; leave it out")
    elif density is not None and not 0 < density <= 1:
        found.append(f"density is {density:g}; it is a share above 0, and 1 at most, such as {DENSITY}")
    if seed is not None and method not in RANDOM:
        found.append(f"seed has no meaning for {method}, which draws nothing; leave it out")
    elif seed is not None and not 0 <= seed < 2**32:
        found.append(f"seed is {seed}; it is a whole number from 0 to {2**32 - 1}")
    return found


def write(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into a merge folder."""
    files.write_json(folder / FILE, recipe.as_json())


def seal(recipe: Recipe, folder: Path) -> Recipe:
    """Write the recipe of a complete merge folder with the digests of what is in it.

    Args:
        recipe: how its parents are merged.
        folder: with the base, the parents by their versions, and the parents' rows.

    Returns:
        The recipe with the digests.
    """
    parents = tuple(replace(one, sha256=files.sha256_path(folder / one.version)) for one in recipe.parents)
    base, rows = files.sha256_path(folder / BASE), files.sha256_path(folder / ROWS)
    sealed = replace(recipe, parents=parents, base_sha256=base, rows_sha256=rows)
    write(sealed, folder)
    return sealed


def read(folder: Path) -> Recipe:
    """The recipe of a merge folder.

    Raises:
        ModelError: the file is missing, or says what `tuneline merge` would not write.
    """
    path = folder / FILE
    try:
        recipe = parse(files.read_json(path))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file; write the folder with `tuneline merge VERSION VERSION`, or fetch it with: "
            f".venv/bin/dvc pull {folder}.dvc"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: is not a description of a merge ({error}); run `tuneline merge` again") from None
    weights = [parent.weight for parent in recipe.parents]
    if found := problems(recipe.method, weights, recipe.density, recipe.seed):
        raise ModelError(*(f"{path}: {problem}" for problem in found))
    return recipe


def parse(value: Any) -> Recipe:
    """The recipe that the JSON value of a merge folder's file describes.

    Raises:
        ValueError, TypeError, KeyError: it describes none.
    """
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    try:
        recipe = _parse(value)
    except OverflowError:
        # JSON has infinity, and whole numbers that no float can be.
        raise ValueError("a number is too large") from None
    versions = recipe.versions
    # They are names of folders.
    if not all(map(_VERSION.fullmatch, versions)):
        raise ValueError("a version is not a number")
    if len(set(versions)) < len(versions):
        raise ValueError("a version is named twice")
    try:
        json.dumps(recipe.as_json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text is not Unicode") from None
    return recipe


def _parse(value: Mapping[str, Any]) -> Recipe:
    parents = tuple(
        Parent(str(one["version"]), float(one["weight"]), *(str(one[name]) for name in _OF_PARENT))
        for one in value["parents"]
    )
    density, seed = value["density"], value["seed"]
    return Recipe(
        method=str(value["method"]),
        parents=parents,
        density=None if density is None else float(density),
        seed=None if seed is None else int(seed),
        base_sha256=str(value["base_sha256"]),
        rows_sha256=str(value["rows_sha256"]),
        model=str(value["model"]),
    )


_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_OF_PARENT = ("sha256", "files_sha256", "source_commit")
