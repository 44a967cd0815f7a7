"""What the labels of a set for classification say about it: plain functions of plain values."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm
from tuneline.data.records.scripts import character_class
from tuneline.data.records.splits import SPLITS, SplitName
from tuneline.errors import DataError
from tuneline.terminal import shortened

MOST = 0.5
"""Share of a label's texts that hold the label itself from which it is reported."""
ONE_SIDED = 0.9
"""Share of the rows that have one label from which it is reported."""
_FEWEST_ROWS = 5
_NAMED = 5
_WITHOUT_SPACES = re.compile(character_class())


def conflicts(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows whose text stands in the set with more than one label.

    Args:
        keys: [rows], equal for equal texts: hashes or texts.
        labels: [rows], as the records hold them: hashes, numbers or texts.

    Returns:
        Their indices, rising.
    """
    if not len(keys):
        return np.empty(0, np.int64)
    _, text = np.unique(keys, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    order = np.argsort(text, kind="stable")
    starts = np.flatnonzero(np.diff(text[order], prepend=-1))
    lowest = np.minimum.reduceat(label[order], starts)
    highest = np.maximum.reduceat(label[order], starts)
    return np.flatnonzero((lowest != highest)[text])


def mentions(texts: Iterable[str], labels: Iterable[str], form: RecordForm) -> Counter[str]:
    """How many texts of each label hold it as a word, whatever its case.

    Args:
        texts: of the rows.
        labels: of the same rows, as the records store them.
        form: of the records.

    Returns:
        Label -> number of its texts; to be added up over the portions of a set.
    """
    found: Counter[str] = Counter()
    wanted: dict[str, list[tuple[str, str, re.Pattern[str] | None]]] = {}
    for text, label in zip(texts, labels, strict=True):
        if label not in wanted:
            names = label_codec.decode(label, multi_label=form.multi_label)
            wanted[label] = [(name, name.casefold().strip(), _as_word(name)) for name in names if name.strip()]
        folded = text.casefold()
        for one, needle, word in wanted[label]:
            if needle in folded and (word is None or word.search(folded)):
                found[one] += 1
    return found


def _as_word(label: str) -> re.Pattern[str] | None:
    if _WITHOUT_SPACES.search(label):
        return None
    return re.compile(rf"(?<!\w){re.escape(label.casefold().strip())}(?!\w)")


def check(
    counts: Mapping[str, Mapping[SplitName, int]], *, where: str = "labels", held: Mapping[str, int] | None = None
) -> list[str]:
    """Judge the classes of a set.

    Args:
        counts: label -> split -> number of rows; a row of several labels counts for each.
        where: the set, as it is called in the messages.
        held: label -> number of its texts that hold it, from `mentions`.

    Returns:
        Warnings, a line each, in a fixed order.

    Raises:
        DataError: there is one class, or none.
    """
    rows = {label: sum(of.values()) for label, of in counts.items() if sum(of.values())}
    if len(rows) < 2:
        found = "no row has a label"
        for label, number in rows.items():
            found = f"all {number:,} rows have the label {_quoted(label)}"
        raise DataError(
            f"{where}: {found}, and a classifier needs two or more; bring rows of another label, or say in "
            "data.columns.label which column holds the labels"
        )
    warnings = [*_of_balance(rows), *_of_splits(rows, counts), *_of_spelling(rows), *_of_texts(rows, held or {})]
    return [f"{where}: {warning}" for warning in warnings]


def remarks(rows: Mapping[str, int], held: Mapping[str, int] | None = None) -> list[str]:
    """Judge the classes of a set that is not split yet.

    Args:
        rows: label -> number of rows; at least one.
        held: label -> number of its texts that hold it, from `mentions`.

    Returns:
        Warnings, a line each, in a fixed order.
    """
    single = [_quoted(label) for label, number in rows.items() if number == 1]
    alone = [f"labels of a single row: {_named(single)}"] if single else []
    return [*_of_balance(rows), *alone, *_of_spelling(rows), *_of_texts(rows, held or {})]


def _of_balance(rows: Mapping[str, int]) -> list[str]:
    total, (most, number) = sum(rows.values()), max(rows.items(), key=lambda item: item[1])
    warnings: list[str] = []
    if number > ONE_SIDED * total:
        warnings.append(
            f"{number / total:.1%} of the rows have the label {_quoted(most)}: a model that always says so is right as "
            "often; judge by macro F1, not by accuracy"
        )
    if len(rows) > max(20, total / 2):
        hint = "; they are numbers: task: regression learns them as such" if all(map(_is_number, rows)) else ""
        warnings.append(f"{len(rows):,} different labels on {total:,} rows: hardly any is seen twice{hint}")
    few = [f"{_quoted(label)} ({number:,})" for label, number in rows.items() if 1 < number < _FEWEST_ROWS]
    if few:
        warnings.append(f"labels of fewer than {_FEWEST_ROWS} rows are hardly learnt or measured: {_named(few)}")
    return warnings


def _of_splits(rows: Mapping[str, int], counts: Mapping[str, Mapping[SplitName, int]]) -> list[str]:
    warnings: list[str] = []
    single = [_quoted(label) for label, number in rows.items() if number == 1]
    if single:
        warnings.append(f"labels of a single row, which is in one split only: {_named(single)}")
    meaning = {"train": "they cannot be learnt", "validation": "they choose no epoch", "test": "they are not measured"}
    for split in SPLITS:
        present = [label for label in rows if counts[label].get(split, 0)]
        absent = [
            f"{_quoted(label)} ({rows[label]:,})" for label in rows if rows[label] > 1 and label not in set(present)
        ]
        if absent and present:
            warnings.append(f"labels of which no row is in {split}, so {meaning[split]}: {_named(absent)}")
        if len(present) == 1:
            warnings.append(f"{split} holds rows of the label {_quoted(present[0])} only")
    return warnings


def _of_spelling(rows: Mapping[str, int]) -> list[str]:
    same: dict[str, list[str]] = defaultdict(list)
    for label in rows:
        same[" ".join(label.casefold().split())].append(label)
    return [
        f"labels {' and '.join(f'{_quoted(label)} ({rows[label]:,})' for label in labels)} differ only in case or "
        "blanks; they are kept apart: spell them alike in the raw files where they mean the same"
        for labels in same.values()
        if len(labels) > 1
    ]


def _of_texts(rows: Mapping[str, int], held: Mapping[str, int]) -> list[str]:
    return [
        f"label {_quoted(label)} stands in {held[label]:,} of its {number:,} texts: a model that reads it there learns "
        "nothing of the rest"
        for label, number in rows.items()
        if number >= _FEWEST_ROWS and held.get(label, 0) > MOST * number
    ]


def _quoted(label: str) -> str:
    return repr(shortened(label))


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
