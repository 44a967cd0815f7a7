"""The rows on which an ensemble is fitted and measured: none that a member was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, RecordForm, SplitName, read_form
from tuneline.decisions import near_duplicates
from tuneline.errors import DataError
from tuneline.evaluation.task_table import TASKS
from tuneline.registry import versions


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


def of_split(
    p: params.Params, members: Sequence[Member], form: RecordForm, split: SplitName
) -> tuple[Kept, tuple[str, ...]]:
    """The rows of a held-out split on which all members can be measured.

    Args:
        p: the params.
        members: the versions.
        form: from `clean_form`.
        split: validation or test.

    Returns:
        The rows, and sentences about what could not be looked for.

    Raises:
        BrokenVersionError: a version does not hold the ids of its training rows.
    """
    rows = TASKS[p.task].test_rows(files.read_parquet(Path(p.paths.clean) / split), p.evaluate, form)
    kept, near, remarks = set(range(rows.num_rows)), set[str](), []
    ids, clusters = rows["id"].to_pylist(), rows["cluster"].to_pylist()
    known = versions.workspace_train_rows(p)
    for member in members:
        trained = versions.version_train_rows(member.folder)
        kept &= set(versions.unseen_rows(trained, ids, clusters).tolist())
        found, unknown = near_duplicates.near_to(p, member.folder, trained, known, rows)
        near |= found
        if unknown:
            remarks.append(
                f"the training rows of version {member.version} cannot be read, so {split} rows that are near "
                f"duplicates of them may be measured: {unknown}"
            )
    trained_on = rows.num_rows - len(kept)
    kept = {place for place in kept if ids[place] not in near}
    left = rows.num_rows - trained_on - len(kept)
    return Kept(rows.take(pa.array(sorted(kept), pa.int64())), trained_on, left), tuple(remarks)
