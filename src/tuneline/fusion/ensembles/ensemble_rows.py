"""The rows on which an ensemble is fitted and measured: none that a member was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, RecordForm, read_form
from tuneline.decisions import near_duplicates
from tuneline.errors import DataError
from tuneline.evaluation.task_table import TASKS
from tuneline.registry import versions

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Member:
    """A registered version that is a member of an ensemble."""

    version: str
    folder: Path
    """Of its verified files."""


@dataclass(frozen=True)
class Kept:
    """The rows of a split that no member has seen."""

    rows: pa.Table
    trained: int
    """Rows that were left out because a member was trained on them or on rows of their groups."""
    near: int
    """Rows that were left out because a member was trained on near duplicates of them."""


def clean_form(p: params.Params) -> RecordForm:
    """The form of the clean rows.

    Raises:
        DataError: there are no clean data, or they are of another task.
    """
    clean = Path(p.paths.clean)
    if not (clean / DATASET_FILE).is_file():
        raise DataError(f"{clean}: does not hold clean data yet; run: dvc repro validate_clean")
    return read_form(clean, p.task)


def unseen(p: params.Params, members: Sequence[Member], form: RecordForm) -> tuple[Kept, Kept, tuple[str, ...]]:
    """The rows of the validation and the test split on which all members can be measured.

    Args:
        p: the params.
        members: the versions.
        form: from `clean_form`.

    Returns:
        Those of validation, those of test, and sentences about what could not be looked for.

    Raises:
        BrokenVersionError: a version does not hold the ids of its training rows.
    """
    splits = [
        TASKS[p.task].test_rows(files.read_parquet(Path(p.paths.clean) / split), p.evaluate, form) for split in _SPLITS
    ]
    rows = pa.concat_tables(splits)
    ids, clusters = rows["id"].to_pylist(), rows["cluster"].to_pylist()
    was_trained, is_near, remarks = np.zeros(len(ids), bool), np.zeros(len(ids), bool), []
    known = versions.clean_train_rows(p)
    for member in members:
        trained = versions.version_train_rows(member.folder)
        has_seen = np.ones(len(ids), bool)
        has_seen[versions.unseen_rows(trained, ids, clusters)] = False
        was_trained |= has_seen
        near, unknown = near_duplicates.near_to(p, member.folder, trained, known, rows)
        is_near |= np.array([row in near for row in ids], bool)
        if unknown:
            remarks.append(
                f"the training rows of version {member.version} cannot be read, so rows that are near duplicates of "
                f"them may be measured: {unknown}"
            )
    is_near &= ~was_trained
    kept, start = [], 0
    for split in splits:
        stop = start + split.num_rows
        trained_on, near_to = was_trained[start:stop], is_near[start:stop]
        kept.append(Kept(split.filter(~(trained_on | near_to)), int(trained_on.sum()), int(near_to.sum())))
        start = stop
    validation, test = kept
    return validation, test, tuple(remarks)
