"""Which split each row of a set belongs to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneline.core.arrays import among
from tuneline.data.preparing.output import REASONS
from tuneline.data.preparing.prepared_set import Prepared
from tuneline.data.records import labels, splits
from tuneline.data.records.splits import SPLITS
from tuneline.errors import DataError
from tuneline.params import Split

_VALIDATION, _TEST = SPLITS.index("validation"), SPLITS.index("test")
_MANY = 0.1
"""Share of the train files' rows from which it is told that they are lost to groups."""


def order(shares: Split) -> str:
    """The kind of the order's values: that of the two bounds.

    Raises:
        DataError: they are of none, of two, or in the wrong order.
    """
    bounds = {name: getattr(shares, name) for name in ("validation_from", "test_from")}
    found = {name: splits.order_of(value) for name, value in bounds.items()}
    problems = [
        f"data.split.{name}: {bounds[name]!r} is neither a number nor a date such as 2024-12-31"
        for name, value in found.items()
        if value is None
    ]
    if problems:
        raise DataError(*problems)
    (kind, first), (other, second) = found["validation_from"], found["test_from"]  # pyright: ignore
    if kind != other or first > second:
        raise DataError(
            f"data.split: validation_from {bounds['validation_from']!r} does not come before test_from "
            f"{bounds['test_from']!r}; rows from the first on are validation, from the second on test"
        )
    return kind


def split(one: Prepared, shares: Split) -> None:
    """Decide by its files, by order, or by the hash of its group, to which split each row of a set belongs.

    Where files say what is train and what is test, and none says what is validation, it is taken from the others than
    test, as all splits are taken. What stands in a test file is test, and nothing else is: a row of another file whose
    group stands there too is dropped.
    """
    rows = one.rows
    named = {shape.split for _, shape in one.raw.portions} - {None}
    is_ordered = any(shape.order_by for _, shape in one.raw.portions)
    if is_ordered:
        bounds = [splits.order_of(value or "") for value in (shares.validation_from, shares.test_from)]
        validation_from, test_from = (bound[1] for bound in bounds if bound)
        found = splits.by_order(rows["order"], rows["cluster"], validation_from=validation_from, test_from=test_from)
    else:
        found = splits.splits_of(rows["number"], validation=shares.validation, test=shares.test)
    of_hash = {_TEST: shares.test, _VALIDATION: shares.validation}
    is_open = rows["given"] < 0
    if "test" in named:
        of_hash.pop(_TEST)
        if "validation" in named:
            of_hash.pop(_VALIDATION)
        else:
            is_open = rows["given"] <= 0
        # The share of validation is that of the rows which are left for it.
        found = (
            np.minimum(found, 1)
            if is_ordered
            else splits.splits_of(rows["number"], validation=shares.validation, test=0)
        )
        found = np.where("validation" in named, 0, found)
    one.decisions["split"] = np.where(is_open, found, rows["given"])
    if "test" in named:
        _drop_of_held_out_groups(one)
    if one.catalogue.record_type == "classification":
        stays = one.stays
        one.drop(stays[labels.conflicts(rows["key_high"][stays], rows["answer"][stays])], "label-conflict")
        if not is_ordered and of_hash:
            stays = one.stays[is_open[one.stays]]
            one.decisions["split"] = splits.with_every_label(
                one.decisions["split"], rows["cluster"], rows["number"], _of_labels(one, stays), of_hash
            )


def _drop_of_held_out_groups(one: Prepared) -> None:
    """Drop the rows whose group stands in a test file, or in a validation file, and they do not."""
    clusters, decided = one.rows["cluster"], one.decisions["split"]
    for held in (_TEST, _VALIDATION):
        rows = np.flatnonzero((decided < held) & (one.decisions["reason"] == 0))
        one.drop(rows[among(clusters[rows], clusters[one.rows["given"] == held])], "held-out-group")


def _of_labels(one: Prepared, rows: np.ndarray) -> list[np.ndarray]:
    """Of each label, in the order of their names, the rows that have it."""
    names = {number: label for made in one.made for number, label in made.labels.items()}
    numbers, kind = np.unique(one.rows["answer"][rows], return_inverse=True)
    order = np.argsort(kind, kind="stable")
    of_kind = np.split(rows[order], np.cumsum(np.bincount(kind, minlength=len(numbers)))[:-1])
    found: dict[str, list[np.ndarray]] = {}
    for number, own in zip(numbers.tolist(), of_kind, strict=False):
        for label in labels.each(names[number]):
            found.setdefault(label, []).append(own)
    return [np.sort(np.concatenate(found[label])) for label in sorted(found)]


def changed(one: Prepared) -> dict[str, dict[str, Any]]:
    """What was dropped of the rows that stand in a test file or a validation file.

    Returns:
        Split -> `rows_in` the files, `rows_out`, and `dropped`, by reason; splits that lost nothing are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, number in (("validation", _VALIDATION), ("test", _TEST)):
        made = [one for one, (_, shape) in zip(one.made, one.raw.portions, strict=True) if shape.split == name]
        reasons = one.decisions["reason"][one.rows["given"] == number]
        dropped: Counter[str] = Counter()
        for part in made:
            dropped.update(part.reasons)
        dropped.update({REASONS[reason]: count for reason, count in Counter(reasons.tolist()).items() if reason})
        if dropped:
            rows = sum(part.rows for part in made)
            found[name] = {
                "rows_in": rows, "rows_out": rows - dropped.total(), "dropped": dict(sorted(dropped.items())),
            }  # fmt: skip
    return found


def warnings(one: Prepared) -> list[str]:
    """What a person should know of the splits of a set whose files say what is test."""
    said = [
        f"{one.catalogue.path}: your {name} set changed: {found['rows_out']:,} of {found['rows_in']:,} rows are left, "
        f"because {', '.join(f'{count:,} {reason}' for reason, count in found['dropped'].items())}"
        for name, found in changed(one).items()
    ]
    given = one.decisions[one.rows["given"] == 0]
    lost = int((given["reason"] == REASONS.index("held-out-group")).sum())
    if lost > _MANY * len(given):
        said.append(
            f"{one.catalogue.path}: {lost:,} of {len(given):,} rows of the train files are dropped, because their "
            "group stands in a file of test or validation; where that is too many, data.split.group_by: null groups "
            "by the prompt alone"
        )
    return said


def only_train(one: Prepared, measured: Sequence[Prepared]) -> None:
    """Keep of a set what may be trained beside others: no test file, and no group that another set holds out.

    Args:
        one: the set; all that stays is for training.
        measured: the sets on which models are measured, already split.
    """
    one.drop(np.flatnonzero(one.rows["given"] > 0), "other-split")
    # Of the rows that were dropped too: their group is held out all the same.
    held_out = [other.rows["cluster"][other.decisions["split"] > 0] for other in measured]
    stays = one.stays
    one.drop(stays[among(one.rows["cluster"][stays], np.concatenate(held_out))], "held-out-group")
    # Where its files say nothing, a row belongs to no split yet.
    one.decisions["split"] = 0
