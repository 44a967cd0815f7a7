"""Test rows that a model was trained on: then no number on the test rows says how it does on unseen text."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tuneline.evaluation.intervals import Measures
from tuneline.params import Rule
from tuneline.registry import versions


def find(trained: pa.Table, rows: pa.Table, *, is_merged: bool = False) -> str | None:
    """Why a candidate cannot be measured on these test rows, as a sentence without its end; None if it can.

    `prepare` keeps rows and groups of the test split out of training, so a leak means that a person or another program
    has changed the clean data, or has brought a mixture with these rows.

    Args:
        trained: ids and clusters of the rows that the candidate was fine-tuned on.
        rows: the test rows.
        is_merged: whether the candidate was merged, so that its parents' rows count.
    """
    unseen = versions.unseen_rows(trained, rows["id"].to_pylist(), rows["cluster"].to_pylist())
    if not (leaked := rows.num_rows - len(unseen)):
        return None
    if is_merged:
        return (
            f"the candidate, or a version that it was merged from, was trained on {leaked:,} of the {rows.num_rows:,} "
            "test rows or on rows of their groups; merge versions that were trained with this split (data.split)"
        )
    return (
        f"the candidate was trained on {leaked:,} of the {rows.num_rows:,} test rows or on rows of their groups; make "
        "the clean data again with: .venv/bin/dvc repro -f prepare"
    )


def near_to_parents(near: int, rows: int) -> str | None:
    """Why a merged candidate cannot be measured, as a sentence without its end; None if it can.

    Args:
        near: the test rows of which a version that it was merged from was trained on a near duplicate.
        rows: all test rows.
    """
    if not near:
        return None
    return (
        f"a version that the candidate was merged from was trained on near duplicates of {near:,} of the {rows:,} test "
        "rows; merge versions that were trained on today's rows"
    )


def unmeasured(
    reason: str, rules: Sequence[Rule], measures: Mapping[str, Measures | None]
) -> dict[str, Measures | None]:
    """The measures of a candidate that cannot be measured: every rule fails with the reason.

    Args:
        reason: what `find` returns.
        rules: of the gate.
        measures: as for `decision.decide`.
    """
    failed: Measures = {rule.metric: reason for rule in rules}
    return {name: None if found is None else failed for name, found in measures.items()}
