"""The split of each row: by the file that it is in, by an order such as time, or by the hash of its group.

The hash of a group does not depend on other rows, so new data never moves a row out of test.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from tuneline.core.arrays import among, mix
from tuneline.data.preparing import first_pass
from tuneline.data.preparing.prepared_set import REASONS, PreparedSet
from tuneline.data.records import label_codec, labels
from tuneline.data.records.record_form import SPLITS
from tuneline.errors import DataError
from tuneline.params import Split

_VALIDATION, _TEST = SPLITS.index("validation"), SPLITS.index("test")
_MANY = 0.1
"""Share of the train files' rows: a warning says when more of them are dropped because of their groups."""


def order_type(shares: Split) -> first_pass.OrderType:
    """Return the type of the two bounds, which the values of the order must have, too.

    Raises:
        DataError: a bound is neither a number nor a date, their types differ, or they are in the wrong order.
    """
    bounds = {name: getattr(shares, name) for name in ("validation_from", "test_from")}
    found = {name: first_pass.order_value(value) for name, value in bounds.items()}
    problems = [
        f"data.split.{name}: {bounds[name]!r} is neither a number nor a date such as 2024-12-31"
        for name, value in found.items()
        if value is None
    ]
    if problems:
        raise DataError(*problems)
    (first_type, first), (second_type, second) = found["validation_from"], found["test_from"]  # pyright: ignore
    if first_type != second_type or first > second:
        raise DataError(
            f"data.split: validation_from {bounds['validation_from']!r} must be before test_from "
            f"{bounds['test_from']!r}, and of the same type; rows from validation_from on are validation, rows from "
            "test_from on are test"
        )
    return first_type


def decide_splits(prepared: PreparedSet, shares: Split) -> None:
    """Decide to which split each row of a set belongs, and drop rows that no split can have.

    A row of a test file is test, and no other row is: a row of another file is dropped where its group is in a test
    file, too. Where files are named train and test, but no file is named validation, validation is taken from the
    files that are not test.
    """
    rows, numbers = prepared.rows, prepared.split_numbers
    named = {shape.split for _, shape in prepared.raw.portions} - {None}
    is_ordered = any(shape.order_by for _, shape in prepared.raw.portions)
    if is_ordered:
        bounds = [first_pass.order_value(value or "") for value in (shares.validation_from, shares.test_from)]
        validation_from, test_from = (bound[1] for bound in bounds if bound)
        found = by_order(rows["order"], rows["cluster"], validation_from=validation_from, test_from=test_from)
    else:
        found = by_hash(numbers, validation=shares.validation, test=shares.test)
    share_of_split = {_TEST: shares.test, _VALIDATION: shares.validation}
    is_open = rows["given"] < 0
    if "test" in named:
        share_of_split.pop(_TEST)
        if "validation" in named:
            share_of_split.pop(_VALIDATION)
        else:
            is_open = rows["given"] <= 0
        # data.split.validation is then a share of the rows that are not test.
        found = np.minimum(found, 1) if is_ordered else by_hash(numbers, validation=shares.validation, test=0)
        found = np.where("validation" in named, 0, found)
    prepared.decisions["split"] = np.where(is_open, found, rows["given"])
    if "test" in named:
        _drop_groups_of_held_out_files(prepared)
    if prepared.store.form.record_type == "classification":
        kept = prepared.kept
        prepared.drop(kept[labels.conflicts(rows["key_high"][kept], rows["answer"][kept])], "label-conflict")
        if not is_ordered and share_of_split:
            kept = prepared.kept[is_open[prepared.kept]]
            prepared.decisions["split"] = with_every_label(
                prepared.decisions["split"], rows["cluster"], numbers, _rows_of_labels(prepared, kept), share_of_split
            )


def decide_only_train(prepared: PreparedSet, measured: Sequence[PreparedSet]) -> None:
    """Put a set of a mixture into train; drop its rows of held-out files and of groups that another set holds out.

    Args:
        prepared: the set of the mixture.
        measured: the sets on which models are measured, already split.
    """
    prepared.drop(np.flatnonzero(prepared.rows["given"] > 0), "other-split")
    # A group is held out although its rows may have been dropped.
    held_out = [other.rows["cluster"][other.decisions["split"] > 0] for other in measured]
    kept = prepared.kept
    prepared.drop(kept[among(prepared.rows["cluster"][kept], np.concatenate(held_out))], "held-out-group")
    prepared.decisions["split"] = 0


def split_numbers(groups: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 2**64) for each group: the lowest numbers are test, the next validation.

    Args:
        groups: uint64, hashes of groups.
        seed: another seed gives another split.

    Returns:
        uint64, [groups].
    """
    return mix(groups ^ np.uint64(xxhash.xxh3_64_intdigest(str(seed).encode())))


def by_hash(numbers: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """Return the splits of groups.

    Args:
        numbers: uint64, from `split_numbers`.
        validation: share of the groups.
        test: share of the groups. Which groups are test does not depend on `validation`.

    Returns:
        int8, indices of SPLITS.
    """
    shares = numbers / 2.0**64
    return np.where(shares < test, 2, np.where(shares < test + validation, 1, 0)).astype(np.int8)


def by_order(values: np.ndarray, groups: np.ndarray, *, validation_from: float, test_from: float) -> np.ndarray:
    """Return the splits of rows by time, or by another order: the newest rows are test.

    Args:
        values: [rows] from `first_pass.order_value`.
        groups: [rows] equal for the rows of one group. A group is in the split of its newest row.
        validation_from: first value of validation.
        test_from: first value of test.

    Returns:
        int8, indices of SPLITS.
    """
    rows = np.where(values >= test_from, 2, np.where(values >= validation_from, 1, 0)).astype(np.int8)
    _, group = np.unique(groups, return_inverse=True)
    newest = np.zeros(group.max(initial=-1) + 1, np.int8)
    np.maximum.at(newest, group, rows)
    return newest[group]


def with_every_label(
    splits: np.ndarray,
    groups: np.ndarray,
    numbers: np.ndarray,
    labels: Iterable[np.ndarray],
    shares: Mapping[int, float],
) -> np.ndarray:
    """Return the splits, changed so that they contain every label that has enough groups.

    A label needs 1 / share groups for a split. If the hash has put none of its first 1 / share groups into that split,
    the group with the lowest number moves there. The first groups of a label stay the same when rows are appended, so
    appended rows move nothing that is held out. A rule over all groups of a label could not promise this.

    Args:
        splits: [rows] indices of SPLITS, by the hash of the groups.
        groups: [rows]
        numbers: [rows] of the groups, from `split_numbers`.
        labels: for each label, the rows that have it and may move, in ascending order.
        shares: index of a split -> its share of the groups. The splits are filled in this order.

    Returns:
        int8, [rows]. Complete groups have moved, and only out of train.
    """
    found = splits.astype(np.int8)
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    of_labels = [rows[np.sort(np.unique(groups[rows], return_index=True)[1])] for rows in labels]
    for split, share in shares.items():
        needed = math.ceil(1 / share)
        before = found.copy()
        for heads in of_labels:
            first = heads[:needed]
            in_train = first[before[first] == 0]
            if len(first) < needed or (before[first] == split).any() or np.count_nonzero(before[heads] == 0) < 2:
                continue
            group = groups[in_train[np.argmin(numbers[in_train])]]
            found[order[np.searchsorted(ordered, group) : np.searchsorted(ordered, group, "right")]] = split
    return found


def _drop_groups_of_held_out_files(prepared: PreparedSet) -> None:
    """Drop rows outside the held-out files whose group is in a test file or a validation file."""
    clusters, decided = prepared.rows["cluster"], prepared.decisions["split"]
    for held in (_TEST, _VALIDATION):
        rows = np.flatnonzero((decided < held) & (prepared.decisions["reason"] == 0))
        prepared.drop(rows[among(clusters[rows], clusters[prepared.rows["given"] == held])], "held-out-group")


def _rows_of_labels(prepared: PreparedSet, rows: np.ndarray) -> list[np.ndarray]:
    """Return for each label, sorted by its name, which of some rows have it."""
    names = prepared.label_names()
    hashes, kind = np.unique(prepared.rows["answer"][rows], return_inverse=True)
    order = np.argsort(kind, kind="stable")
    of_kind = np.split(rows[order], np.cumsum(np.bincount(kind, minlength=len(hashes)))[:-1])
    found: dict[str, list[np.ndarray]] = {}
    for label_hash, own in zip(hashes.tolist(), of_kind, strict=False):
        for label in label_codec.decode(names[label_hash], multi_label=prepared.store.form.multi_label):
            found.setdefault(label, []).append(own)
    return [np.sort(np.concatenate(found[label])) for label in sorted(found)]


def changed_splits(prepared: PreparedSet) -> dict[str, dict[str, Any]]:
    """Return what was dropped of the rows of the user's own test and validation files.

    Returns:
        Split -> `rows_in`, `rows_out`, and `dropped` by reason. A split that lost no row is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, number in (("validation", _VALIDATION), ("test", _TEST)):
        made = [
            made for made, (_, shape) in zip(prepared.made, prepared.raw.portions, strict=True) if shape.split == name
        ]
        reasons = prepared.decisions["reason"][prepared.rows["given"] == number]
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


def warnings(prepared: PreparedSet) -> list[str]:
    """Return what a person should know about the splits of a set that has its own test files."""
    lines = [
        f"{prepared.store.path}: your {name} set changed: {found['rows_out']:,} of {found['rows_in']:,} rows are left, "
        f"because {', '.join(f'{count:,} {reason}' for reason, count in found['dropped'].items())}"
        for name, found in changed_splits(prepared).items()
    ]
    given = prepared.decisions[prepared.rows["given"] == 0]
    lost = int((given["reason"] == REASONS.index("held-out-group")).sum())
    if lost > _MANY * len(given):
        lines.append(
            f"{prepared.store.path}: {lost:,} of {len(given):,} rows of the train files are dropped, because a test or "
            "validation file has rows of the same group; if that is too many, set data.split.group_by: null, which "
            "groups by the prompt alone"
        )
    return lines
