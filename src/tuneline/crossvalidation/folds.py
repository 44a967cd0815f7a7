"""The folds of the rows that are not test rows, each as a folder of clean splits.

A fold is held out whole: its rows come from the training and the validation split. The other training rows train, and
the other validation rows watch the training. Test rows take no part.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records import canaries, labelled_by
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.errors import DataError
from tuneline.finetuning.mixture import MixtureSource

_PART = "part-00000.parquet"
_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Fold:
    """The rows of one training and those that measure it."""

    number: int
    """From 0, as in the column `fold` that prepare writes."""
    train: pa.Table
    validation: pa.Table
    held_out: pa.Table


def rows_seen(p: params.Params) -> str | None:
    """Why a model of any fold knows rows that the fold holds out, in words; None if it does not.

    Args:
        p: the params.

    Raises:
        DataError: the provenance of a set of the mixture cannot be read.
    """
    if p.base.source == "merge":
        return "the versions that were merged (base.source: merge) have seen rows of every fold"
    for name in p.data.mixture:
        if found := labelled_by.read(Path(p.paths.mixture) / name):
            return (
                f"data.mixture.{name} was labelled by {found.model} version {found.version}, which has seen rows of "
                "every fold"
            )
    return None


def fold_of(cluster: str, count: int) -> int:
    """The fold of a cluster: the rows of a cluster stay together.

    Args:
        cluster: of a clean row, hexadecimal.
        count: the number of folds.
    """
    return int(cluster, 16) % count


def split(clean: Path, count: int) -> list[Fold]:
    """Split the clean training and validation rows into folds.

    The folds are those of the column that prepare writes for `data.split.folds: count`; the column is not needed. Rows
    that `data.canaries` has planted are left out.

    Args:
        clean: the folder of the clean splits.
        count: the number of folds.

    Raises:
        DataError: a fold would have no row to measure, or none to train on.
    """
    tables = {name: _without_canaries(files.read_parquet(clean / name)) for name in _SPLITS}
    own = {name: _folds(table, count) for name, table in tables.items()}
    clusters = {cluster for table in tables.values() for cluster in table["cluster"].to_pylist()}
    where = f"{clean}: its training and validation rows are in {len(clusters):,} groups"
    if len(clusters) < count:
        raise DataError(f"{where}, too few for {count} folds; use at most {len(clusters)} folds, or bring more data")
    found = [
        Fold(
            number,
            tables["train"].filter(own["train"] != number),
            tables["validation"].filter(own["validation"] != number),
            pa.concat_tables([table.filter(own[name] == number) for name, table in tables.items()]),
        )
        for number in range(count)
    ]
    if problems := list(_problems(found, where)):
        raise DataError(*problems)
    return found


def write(fold: Fold, clean: Path, folder: Path) -> None:
    """Write the splits that train a fold, as a folder of clean splits.

    Args:
        fold: the fold.
        clean: the folder of the clean splits, whose description is copied.
        folder: the new folder.
    """
    with files.atomic_folder(folder) as new:
        for name, table in (("train", fold.train), ("validation", fold.validation)):
            (new / name).mkdir()
            files.write_parquet(new / name / _PART, table)
        shutil.copyfile(clean / DATASET_FILE, new / DATASET_FILE)


def without_held_out(sources: Sequence[MixtureSource], folder: Path, count: int, number: int) -> list[MixtureSource]:
    """The sets that are trained beside a fold's training rows, without variants of the rows that the fold holds out.

    Args:
        sources: the sets of data.mixture, which have no fold, and the variants of training rows.
        folder: a new folder for the variants.
        count: the number of folds.
        number: of the fold that is held out.
    """
    found = []
    for source in sources:
        if not source.is_variant:
            found.append(source)
            continue
        table = files.read_parquet(source.path)
        files.write_parquet(folder / source.name / _PART, table.filter(_folds(table, count) != number))
        found.append(replace(source, path=folder / source.name))
    return found


def _without_canaries(table: pa.Table) -> pa.Table:
    planted = f"{canaries.SOURCE}:"
    return table.filter(np.array([not source.startswith(planted) for source in table["source"].to_pylist()], bool))


def _folds(table: pa.Table, count: int) -> np.ndarray:
    return np.array([fold_of(cluster, count) for cluster in table["cluster"].to_pylist()], np.int64)


def _problems(folds: list[Fold], where: str) -> Iterator[str]:
    count = len(folds)
    for fold in folds:
        if not fold.held_out.num_rows:
            yield f"{where}, and none of them is in fold {fold.number} of {count}; use fewer folds"
        elif not fold.train.num_rows:
            yield f"{where}, and without fold {fold.number} of {count} no training row is left; use more folds"
