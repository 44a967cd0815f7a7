"""The merged model of a merge folder, written as a model folder."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tuneline.core import files
from tuneline.errors import ModelError, one_line
from tuneline.fusion.merging import merge_arithmetic, merge_recipe
from tuneline.fusion.merging.merge_recipe import BASE, ROWS, SHARED, Recipe
from tuneline.modeling import models, unsafe_files
from tuneline.modeling.model_folder import is_causal

_NAMED = 5
"""The most tensors that a message names."""


def shapes(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> shape and type of each tensor in the weights of a folder, sorted by name.

    Raises:
        ModelError: a file cannot be read, or two of them have the same tensor.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    places: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if name in found:
                        raise ModelError(
                            f"{path}: has the tensor {name}, which is in {places[name]} too; use another version"
                        )
                    part = file.get_slice(name)
                    found[name], places[name] = (tuple(part.get_shape()), str(part.get_dtype())), path
        except SafetensorError as error:
            raise ModelError(f"{path}: cannot be read as weights ({one_line(error)}); use another version") from None
    return dict(sorted(found.items()))


def differences(one: str, first: Mapping[str, Any], other: str, second: Mapping[str, Any]) -> list[str]:
    """How the tensors of two models differ in name, shape or type, in sentences.

    Args:
        one: what the first model is called.
        first: its `shapes`.
        other: what the second model is called.
        second: its `shapes`.
    """
    found = []
    for name, mine, yours in ((one, first, second), (other, second, first)):
        if only := [key for key in mine if key not in yours]:
            more = f" and {len(only) - _NAMED:,} more" if len(only) > _NAMED else ""
            found.append(f"only {name} has the tensors {', '.join(only[:_NAMED])}{more}")
    unlike = [key for key in first if key in second and first[key] != second[key]]
    for key in unlike[:_NAMED]:
        (shape, dtype), (shape_2, dtype_2) = first[key], second[key]
        found.append(f"{key} is {dtype} {list(shape)} in {one}, and {dtype_2} {list(shape_2)} in {other}")
    if len(unlike) > _NAMED:
        found.append(f"{len(unlike) - _NAMED:,} more tensors differ between {one} and {other}")
    return found


def write(source: Path, folder: Path) -> Recipe:
    """Merge the parents of a merge folder into a model folder, which describes the merge too.

    Memory holds the base, and of the parents one tensor at a time.

    Args:
        source: the folder that `tuneline merge` wrote.
        folder: the model folder to write or replace.

    Returns:
        How they were merged.

    Raises:
        ModelError: a folder in it has changed, or the models do not fit together, or the result cannot be loaded.
    """
    recipe = merge_recipe.read(source)
    _refuse_changes(source, recipe)
    parents = [source / version for version in recipe.versions]
    first = shapes(parents[0])
    found = [
        problem for path in parents[1:] for problem in differences(str(parents[0]), first, str(path), shapes(path))
    ]
    if found:
        raise ModelError(*found, "only models of the same shape can be merged; run `tuneline merge` again")
    base = models.tensors_of_base(source / BASE, parents[0])
    # Only the head of a classifier is new to its base.
    lacking = [name for name in first if name not in base] if is_causal(parents[0]) else []
    if lacking and recipe.method not in SHARED:
        raise ModelError(
            f"{source / BASE}: has no tensor {', '.join(lacking[:_NAMED])}, so what the versions have learned in it is "
            f"not known; use a method that needs no base: {' or '.join(SHARED)}"
        )
    with files.atomic_folder(folder) as temporary, files.full_disk_as_os_error(temporary):
        for path in sorted(parents[0].iterdir()):
            if path.is_file() and path.suffix == ".safetensors":
                _write_weights(path.name, parents, base, recipe, temporary)
            elif path.is_file():
                shutil.copyfile(path, temporary / path.name)
        # A fine-tuning reads the base only, and says what it begins with.
        merge_recipe.write(recipe, temporary)
        for path in temporary.iterdir():
            path.chmod(0o644)
        # Weights that are sound by themselves can have a sum that is not finite.
        (models.load if is_causal(temporary) else models.load_classifier)(temporary)
    return recipe


def _refuse_changes(source: Path, recipe: Recipe) -> None:
    wanted = {BASE: recipe.base_sha256, ROWS: recipe.rows_sha256}
    wanted |= {parent.version: parent.sha256 for parent in recipe.parents}
    # What these files are is looked at before one is read: a pipe or a device never ends.
    found = unsafe_files.unsafe(source) | unsafe_files.foreign(source)
    told = [f"{path}: {what}; `tuneline merge` has not written it" for path, what in found.items()]
    if not told:
        changed = [name for name, sha256 in wanted.items() if _digest(source / name) != sha256]
        told = [f"{source / name}: is missing or was changed after `tuneline merge` wrote it" for name in changed]
    if told:
        raise ModelError(
            *told,
            f"bring the folder back with `.venv/bin/dvc checkout --force {source}.dvc`, or run `tuneline merge` again",
        )


def _digest(path: Path) -> str:
    return files.sha256_path(path) if path.exists() else ""


def _write_weights(
    name: str, parents: Sequence[Path], base: Mapping[str, Tensor], recipe: Recipe, folder: Path
) -> None:
    """Write one file of weights; the first parent says which tensors are in it."""
    with ExitStack() as stack:
        readers = [_Reader(stack, path) for path in parents]
        with safe_open(parents[0] / name, framework="pt") as file:
            names = sorted(file.keys())
        merged = {key: _merged(key, [reader.read(key) for reader in readers], base, recipe, parents) for key in names}
    save_file(merged, folder / name, metadata={"format": "pt"})


class _Reader:
    """The tensors of a model folder, in however many files."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        opened = [stack.enter_context(safe_open(path, framework="pt")) for path in folder.glob("*.safetensors")]
        self._files = {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    def read(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)


def _merged(
    name: str, tensors: list[Tensor], base: Mapping[str, Tensor], recipe: Recipe, parents: Sequence[Path]
) -> Tensor:
    if not tensors[0].is_floating_point():
        if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
            raise ModelError(
                f"{name} is of the type {str(tensors[0].dtype).removeprefix('torch.')}, which cannot be averaged, and "
                f"differs between {' and '.join(map(str, parents))}; merge versions in which it is the same"
            )
        return tensors[0]
    origin = base.get(name)
    fits = origin is not None and origin.shape == tensors[0].shape
    return merge_arithmetic.merge(name, tensors, origin if fits else None, recipe).contiguous()
