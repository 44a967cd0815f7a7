"""Checks of the labels of a classification set."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import SPLITS, RecordForm, SplitName
from tuneline.data.records.scripts import character_class
from tuneline.errors import DataError
from tuneline.terminal import shortened

MAX_MENTIONED = 0.5
"""A label is reported if a larger share of its texts contains the label itself."""
MAX_SHARE = 0.9
"""A label is reported if a larger share of the rows has it."""
_FEWEST_ROWS = 5
_NAMED = 5
_WITHOUT_SPACES = re.compile(character_class())


def conflicts(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows whose text occurs in the set with more than one label.

    Args:
        keys: [rows], equal for equal texts: hashes or texts.
        labels: [rows], equal for equal labels: hashes, numbers or texts.

    Returns:
        int64, indices of rows in ascending order.
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
    """The number of texts of each label that contain the label as a word, in any case.

    Args:
        texts: the texts of the rows.
        labels: the labels of the same rows, as the records store them.
        form: the form of the records.

    Returns:
        Label -> number of its texts. The counts of all portions of a set can be added.
    """
    found: Counter[str] = Counter()
    wanted: dict[str, list[tuple[str, str, re.Pattern[str] | None]]] = {}
    for text, label in zip(texts, labels, strict=True):
        if label not in wanted:
            names = label_codec.decode(label, multi_label=form.multi_label)
            wanted[label] = [(name, name.casefold().strip(), _as_word(name)) for name in names if name.strip()]
        folded = text.casefold()
        for name, needle, word in wanted[label]:
            if needle in folded and (word is None or word.search(folded)):
                found[name] += 1
    return found


def _as_word(label: str) -> re.Pattern[str] | None:
    if _WITHOUT_SPACES.search(label):
        return None
    return re.compile(rf"(?<!\w){re.escape(label.casefold().strip())}(?!\w)")


def split_warnings(
    counts: Mapping[str, Mapping[SplitName, int]], *, where: str = "labels", mentioned: Mapping[str, int] | None = None
) -> list[str]:
    """The warnings about the labels of a set that is split.

    Args:
        counts: label -> split -> number of rows; a row with several labels counts for each of them.
        where: the name of the set in the messages.
        mentioned: label -> number of its texts that contain it, from `mentions`.

    Returns:
        One line per warning, in a fixed order.

    Raises:
        DataError: the rows have fewer than two labels.
    """
    rows = {label: sum(by_split.values()) for label, by_split in counts.items() if sum(by_split.values())}
    if len(rows) < 2:
        found = "no row has a label"
        for label, number in rows.items():
            found = f"all {number:,} rows have the label {_quoted(label)}"
        raise DataError(
            f"{where}: {found}, but a classifier needs at least two labels; add rows with another label, or set "
            "data.columns.label to the column of the labels"
        )
    warnings = [
        *_balance_warnings(rows),
        *_warnings_of_splits(rows, counts),
        *spelling_warnings(rows),
        *_text_warnings(rows, mentioned or {}),
    ]
    return [f"{where}: {warning}" for warning in warnings]


def warnings_before_split(rows: Mapping[str, int], mentioned: Mapping[str, int] | None = None) -> list[str]:
    """The warnings about the labels of a set that is not split yet.

    Args:
        rows: label -> number of rows; at least one label.
        mentioned: label -> number of its texts that contain it, from `mentions`.

    Returns:
        One line per warning, in a fixed order.
    """
    single = [_quoted(label) for label, number in rows.items() if number == 1]
    alone = [f"labels with a single row: {_named(single)}"] if single else []
    return [*_balance_warnings(rows), *alone, *spelling_warnings(rows), *_text_warnings(rows, mentioned or {})]


def _balance_warnings(rows: Mapping[str, int]) -> list[str]:
    total, (most, number) = sum(rows.values()), max(rows.items(), key=lambda item: item[1])
    warnings: list[str] = []
    if number > MAX_SHARE * total:
        warnings.append(
            f"{number / total:.1%} of the rows have the label {_quoted(most)}: a model that always gives this label "
            "has this accuracy; compare models by macro F1"
        )
    if len(rows) > max(20, total / 2):
        hint = "; all labels are numbers: use task: regression" if all(map(_is_number, rows)) else ""
        warnings.append(
            f"{total:,} rows have {len(rows):,} different labels: too few rows per label to learn from{hint}"
        )
    few = [f"{_quoted(label)} ({number:,})" for label, number in rows.items() if 1 < number < _FEWEST_ROWS]
    if few:
        warnings.append(
            f"labels with fewer than {_FEWEST_ROWS} rows, too few to learn from or to measure: {_named(few)}"
        )
    return warnings


def _warnings_of_splits(rows: Mapping[str, int], counts: Mapping[str, Mapping[SplitName, int]]) -> list[str]:
    warnings: list[str] = []
    single = [_quoted(label) for label, number in rows.items() if number == 1]
    if single:
        warnings.append(f"labels with a single row, which is in only one split: {_named(single)}")
    meaning = {
        "train": "the model cannot learn them",
        "validation": "they do not count in the choice of the best weights",
        "test": "they are not measured",
    }
    for split in SPLITS:
        present = [label for label in rows if counts[label].get(split, 0)]
        absent = [
            f"{_quoted(label)} ({rows[label]:,})" for label in rows if rows[label] > 1 and label not in set(present)
        ]
        if absent and present:
            warnings.append(f"labels without a row in {split}, so {meaning[split]}: {_named(absent)}")
        if len(present) == 1:
            warnings.append(f"all rows of {split} have the label {_quoted(present[0])}")
    return warnings


def spelling_warnings(rows: Mapping[str, int]) -> list[str]:
    """The warnings about labels that differ only in case or spaces; `rows` is label -> number of rows."""
    same: dict[str, list[str]] = defaultdict(list)
    for label in rows:
        same[" ".join(label.casefold().split())].append(label)
    return [
        f"labels {' and '.join(f'{_quoted(label)} ({rows[label]:,})' for label in labels)} differ only in case or "
        "spaces and are different labels; if they mean the same, use one spelling in the raw files"
        for labels in same.values()
        if len(labels) > 1
    ]


def _text_warnings(rows: Mapping[str, int], mentioned: Mapping[str, int]) -> list[str]:
    return [
        f"{mentioned[label]:,} of the {number:,} texts with the label {_quoted(label)} contain the label: a model "
        "learns to copy it and ignores the rest of the text"
        for label, number in rows.items()
        if number >= _FEWEST_ROWS and mentioned.get(label, 0) > MAX_MENTIONED * number
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
