"""The warnings about the labels of a set, and the sets that are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.records import labels
from tuneline.data.records.record_form import RecordForm, SplitName
from tuneline.errors import DataError


def counted(train: int, validation: int = 10, test: int = 10) -> dict[SplitName, int]:
    return {"train": train, "validation": validation, "test": test}


def test_balanced_classes_give_no_warning() -> None:
    assert labels.split_warnings({"good": counted(100), "bad": counted(80)}, mentioned={"good": 40, "bad": 0}) == []


def test_one_class_or_none_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"raw: all 120 rows have the label 'good', but a classifier needs at least two labels;"
    ):
        labels.split_warnings({"good": counted(100), "bad": counted(0, 0, 0)}, where="raw")
    with pytest.raises(DataError, match="no row has a label"):
        labels.split_warnings({})


@pytest.mark.parametrize(
    ("counts", "warning"),
    [
        ({"a": counted(100), "b": counted(1, 0, 0)}, "raw: labels with a single row, which is in only one split: 'b'"),
        (
            {"a": counted(100), "b": counted(90, 0, 9)},
            "raw: labels without a row in validation, so they do not count in the choice of the best weights: 'b' (99)",
        ),
        (
            {"a": counted(100), "b": counted(0, 0, 9)},
            "raw: labels without a row in train, so the model cannot learn them: 'b' (9)",
        ),
        ({"a": counted(100), "b": counted(0, 0, 1)}, "raw: all rows of train have the label 'a'"),
        (
            {"a": counted(100), "b": counted(2, 0, 1)},
            "raw: labels with fewer than 5 rows, too few to learn from or to measure: 'b' (3)",
        ),
        (
            {"Spam": counted(100), "spam ": counted(3), "ham": counted(100)},
            "raw: labels 'Spam' (120) and 'spam ' (23) differ only in case or spaces and are different labels; "
            "if they mean the same, use one spelling in the raw files",
        ),
        (
            {"a": counted(1980), "b": counted(10, 5, 5)},
            "raw: 99.0% of the rows have the label 'a': a model that always gives this label has this accuracy; "
            "compare models by macro F1",
        ),
        (
            {str(number / 7): counted(1, 0, 0) for number in range(40)},
            "raw: 40 rows have 40 different labels: too few rows per label to learn from; all labels are numbers: use "
            "task: regression",
        ),
    ],
)
def test_odd_labels_give_a_warning(counts: dict[str, dict[SplitName, int]], warning: str) -> None:
    assert warning in labels.split_warnings(counts, where="raw")


def test_a_label_in_most_of_its_texts_is_reported() -> None:
    warnings = labels.split_warnings({"spam": counted(80), "ham": counted(100)}, mentioned={"spam": 60, "ham": 50})
    assert warnings == [
        "labels: 60 of the 100 texts with the label 'spam' contain the label: a model learns to copy it and ignores "
        "the rest of the text"
    ]


def test_many_odd_labels_share_one_line() -> None:
    counts = {str(number): counted(1, 0, 0) for number in range(9)} | {"a": counted(50)}
    assert "labels: labels with a single row, which is in only one split: '0', '1', '2', '3', '4' and 4 more" in (
        labels.split_warnings(counts)
    )


@pytest.mark.parametrize(
    ("text", "label", "times"),
    [
        ("This is SPAM!", "spam", 1),
        ("spammers", "spam", 0),
        ("10 of 10", "1", 0),
        ("rated 1 of 5", "1", 1),
        ("这是一条正面评论", "正面", 1),
        ("wifi is good", '["food", "wifi"]', 1),
        ("nothing", " ", 0),
    ],
)
def test_a_label_is_found_as_a_word(text: str, label: str, times: int) -> None:
    form = RecordForm("classification", multi_label=label.startswith("["))
    assert labels.mentions([text], [label], form).total() == times


def test_the_same_text_with_two_labels_is_a_conflict() -> None:
    keys = np.array(["x", "y", "x", "z", "y", "x"])
    assert labels.conflicts(keys, np.array(["1", "1", "1", "2", "2", "1"])).tolist() == [1, 4]
    assert labels.conflicts(np.empty(0, np.uint64), np.empty(0, "U1")).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))))
def test_conflicts_equal_those_of_a_plain_loop(rows: list[tuple[int, int]]) -> None:
    seen: dict[int, set[int]] = {}
    for key, label in rows:
        seen.setdefault(key, set()).add(label)
    keys, values = (np.array([row[place] for row in rows], np.uint64) for place in (0, 1))
    assert labels.conflicts(keys, values).tolist() == [i for i, (key, _) in enumerate(rows) if len(seen[key]) > 1]
