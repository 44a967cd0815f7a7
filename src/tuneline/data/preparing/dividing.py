"""Which split each row of a set belongs to."""

from collections.abc import Sequence

import numpy as np

from tuneline.data.preparing import labels, splitting
from tuneline.data.preparing.membership import among
from tuneline.data.preparing.prepared import Prepared
from tuneline.errors import DataError
from tuneline.params import Split


def order(shares: Split) -> str:
    """The kind of the order's values: that of the two bounds.

    Raises:
        DataError: they are of none, of two, or in the wrong order.
    """
    bounds = {name: getattr(shares, name) for name in ("validation_from", "test_from")}
    found = {name: splitting.order_of(value) for name, value in bounds.items()}
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
    """Decide by its files, by order, or by the hash of its group, to which split each row of a set belongs."""
    rows = one.rows
    if any(shape.order_by for _, shape in one.raw.portions):
        bounds = [splitting.order_of(value or "") for value in (shares.validation_from, shares.test_from)]
        validation_from, test_from = (bound[1] for bound in bounds if bound)
        found = splitting.by_order(rows["order"], rows["cluster"], validation_from=validation_from, test_from=test_from)
    else:
        found = splitting.splits_of(rows["number"], validation=shares.validation, test=shares.test)
    one.decisions["split"] = np.where(rows["given"] >= 0, rows["given"], found)
    if one.catalogue.record_type == "classification":
        one.drop(labels.conflicts(rows["key_high"], rows["answer"]), "label-conflict")


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
