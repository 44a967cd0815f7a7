"""Copy verified versions and their common base into the folder that the stage `base` merges, and choose it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.decisions import parents, source_commit, verified_versions
from tuneline.decisions.verified_versions import VerifiedVersion
from tuneline.errors import ParamsError, RegistryError
from tuneline.fusion.merging import merge_recipe
from tuneline.fusion.merging.merge_recipe import BASE, ROWS, Parent, Recipe
from tuneline.params import Params, editing
from tuneline.pipeline import repro
from tuneline.registry import version_files, versions
from tuneline.registry.tracking import Tracker

FOLDER = "models/merge"
"""Where the versions are copied, unless base.input names a merge folder already."""


@dataclass(frozen=True)
class Asked:
    """What a person asks for."""

    versions: Sequence[str]
    """Numbers or aliases."""
    method: str
    weights: Sequence[float] = ()
    """One per version; empty: equal weights."""
    density: float | None = None
    seed: int | None = None
    apply: bool = False
    """Whether params.yaml is to name the merge."""


def merge(p: Params, tracker: Tracker, asked: Asked) -> list[str]:
    """Write the merge folder and put it under DVC; the stage `base` merges what is in it.

    Args:
        p: the params.
        tracker: the registry.
        asked: the versions, and how they are merged.

    Returns:
        What was done, in lines.

    Raises:
        RegistryError: all reasons why these versions cannot be merged so; nothing is written.
        ParamsError: params.yaml could not name the merge.
        PipelineError: DVC fails.
        TrackingError: MLflow does not answer.
    """
    folder = Path(p.base.input if p.base.source == "merge" else FOLDER)
    told = _problems_of_values(asked)
    found, wrong = verified_versions.load(p, tracker, asked.versions)
    told += wrong
    if folder.exists() and not (folder / merge_recipe.FILE).is_file():
        told.append(f"{folder}: exists, and is not a folder that `tuneline merge` wrote; move it to another place")
    wanted = values_of(p, folder)
    if asked.apply:
        told += _problems_of_params(wanted)
    with repro.hold_project(), parents.bases_of(found) as bases:
        told += parents.problems(p, found, bases)
        if told:
            raise RegistryError(*told)
        recipe = _write(p, found, bases, asked, folder)
        repro.add_to_dvc(folder)
        if asked.apply:
            editing.set_values(Path(params.PARAMS_FILE), wanted)
    lines = [f"{folder}: {recipe.describe()}; under DVC, with the base that all of them were fine-tuned from"]
    if not asked.apply:
        values = ", ".join(f"{key}: {editing.written(value)}" for key, value in wanted.items())
        return [*lines, f"to make it the next candidate, run the same command with --apply (it sets {values})"]
    now = {"base.source": p.base.source, "base.input": p.base.input}
    now |= {"finetune.num_train_epochs": p.finetune.num_train_epochs}
    lines += [
        f"{params.PARAMS_FILE}: {key}: {editing.written(now[key])} -> {editing.written(value)}"
        for key, value in wanted.items()
        if now[key] != value
    ]
    return [*lines, "next: make run"]


def values_of(p: Params, folder: Path) -> dict[str, str | float]:
    """The values with which params.yaml names a merge; epochs that a person chose for an earlier merge stay.

    Args:
        p: the params.
        folder: the merge folder.
    """
    chosen: dict[str, str | float] = {"base.source": "merge", "base.input": folder.as_posix()}
    return chosen if p.base.source == "merge" else {**chosen, "finetune.num_train_epochs": 0}


def _problems_of_values(asked: Asked) -> list[str]:
    count = len(asked.versions)
    weights = asked.weights or [merge_recipe.default_weight(asked.method, max(count, 1))] * count
    told = merge_recipe.problems(asked.method, weights, asked.density, asked.seed)
    if len(weights) != count:
        told = [
            f"{len(weights)} weights are given for {count} versions; give one weight per version, in their order",
            *merge_recipe.problems(asked.method, [*weights, *[1.0] * count][:count], asked.density, asked.seed),
        ]
    return told


def _problems_of_params(changes: dict[str, str | float]) -> list[str]:
    """What would be wrong with params.yaml if it named the merge."""
    with files.temporary_folder() as folder:
        copy = folder / params.PARAMS_FILE
        shutil.copyfile(params.PARAMS_FILE, copy)
        editing.set_values(copy, changes)
        try:
            params.load(copy)
        except ParamsError as error:
            return [f"with base.source: merge, {problem.removeprefix(f'{folder}/')}" for problem in error.problems]
    return []


def _write(p: Params, found: Sequence[VerifiedVersion], bases: parents.Bases, asked: Asked, folder: Path) -> Recipe:
    default = merge_recipe.default_weight(asked.method, len(found))
    weights = asked.weights or [default] * len(found)
    with files.atomic_folder(folder) as temporary:
        bases.copy(found[0].version, temporary / BASE)
        files.write_parquet(temporary / ROWS, parents.trained_rows(found))
        made = [_copied(one, weight, temporary) for one, weight in zip(found, weights, strict=True)]
        is_sparse, is_random = asked.method in merge_recipe.SPARSE, asked.method in merge_recipe.RANDOM
        recipe = Recipe(
            method=asked.method,
            parents=tuple(made),
            density=(merge_recipe.DENSITY if asked.density is None else asked.density) if is_sparse else None,
            seed=(merge_recipe.SEED if asked.seed is None else asked.seed) if is_random else None,
            model=p.registry.model,
        )
        return merge_recipe.seal(recipe, temporary)


def _copied(one: VerifiedVersion, weight: float, folder: Path) -> Parent:
    target = folder / one.version
    target.mkdir()
    for path in _files_of_model(one.folder):
        files.copy(path, target / path.name)
    # Somebody may have changed a file since the version was verified, and copied files may differ from what was read.
    tree, copied = version_files.sha256_tree(one.folder), files.sha256_tree(target)
    if files.digest(tree) != one.tags[versions.FILES] or copied.items() - tree.items():
        raise RegistryError(f"{one.name}: its files changed while they were copied; run the same command again")
    return Parent(
        one.version,
        weight,
        files_sha256=one.tags[versions.FILES],
        source_commit=one.tags.get(source_commit.TAG, ""),
    )


def _files_of_model(folder: Path) -> Iterator[Path]:
    """The files that the model is loaded from: without what describes it, and without an adapter beside it."""
    not_of_model = {*versions.ADDED, *version_files.ADDED_BY_MLFLOW}
    yield from (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in not_of_model)
