"""What is said about the classes of a set, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.records import labels
from tuneline.data.records.record_form import RecordForm
from tuneline.data.records.splits import SplitName
from tuneline.errors import DataError


def of(train: int, validation: int = 10, test: int = 10) -> dict[SplitName, int]:
    return {"train": train, "validation": validation, "test": test}


def test_balanced_classes_give_no_warning() -> None:
    assert labels.check({"good": of(100), "bad": of(80)}, held={"good": 40, "bad": 0}) == []


def test_one_class_or_none_is_refused() -> None:
    with pytest.raises(DataError, match=r"raw: all 120 rows have the label 'good', and a classifier needs two"):
        labels.check({"good": of(100), "bad": of(0, 0, 0)}, where="raw")
    with pytest.raises(DataError, match="no row has a label"):
        labels.check({})


@pytest.mark.parametrize(
    ("counts", "warning"),
    [
        ({"a": of(100), "b": of(1, 0, 0)}, "raw: labels of a single row, which is in one split only: 'b'"),
        (
            {"a": of(100), "b": of(90, 0, 9)},
            "raw: labels of which no row is in validation, so they choose no epoch: 'b' (99)",
        ),
        (
            {"a": of(100), "b": of(0, 0, 9)},
            "raw: labels of which no row is in train, so they cannot be learnt: 'b' (9)",
        ),
        ({"a": of(100), "b": of(0, 0, 1)}, "raw: train holds rows of the label 'a' only"),
        ({"a": of(100), "b": of(2, 0, 1)}, "raw: labels of fewer than 5 rows are hardly learnt or measured: 'b' (3)"),
        (
            {"Spam": of(100), "spam ": of(3), "ham": of(100)},
            "raw: labels 'Spam' (120) and 'spam ' (23) differ only in case or blanks; they are kept apart: spell them "
            "alike in the raw files where they mean the same",
        ),
        (
            {"a": of(1980), "b": of(10, 5, 5)},
            "raw: 99.0% of the rows have the label 'a': a model that always says so is right as often; judge by macro "
            "F1, not by accuracy",
        ),
        (
            {str(number / 7): of(1, 0, 0) for number in range(40)},
            "raw: 40 different labels on 40 rows: hardly any is seen twice; they are numbers: task: regression learns "
            "them as such",
        ),
    ],
)
def test_what_is_odd_is_reported_and_stops_nothing(counts: dict[str, dict[SplitName, int]], warning: str) -> None:
    assert warning in labels.check(counts, where="raw")


def test_a_label_in_most_of_its_texts_is_reported() -> None:
    warnings = labels.check({"spam": of(80), "ham": of(100)}, held={"spam": 60, "ham": 50})
    assert warnings == [
        "labels: label 'spam' stands in 60 of its 100 texts: a model that reads it there learns nothing of the rest"
    ]


def test_many_odd_labels_are_one_line() -> None:
    counts = {str(number): of(1, 0, 0) for number in range(9)} | {"a": of(50)}
    assert "labels: labels of a single row, which is in one split only: '0', '1', '2', '3', '4' and 4 more" in (
        labels.check(counts)
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
def test_conflicts_are_those_that_a_plain_loop_finds(rows: list[tuple[int, int]]) -> None:
    seen: dict[int, set[int]] = {}
    for key, label in rows:
        seen.setdefault(key, set()).add(label)
    keys, values = (np.array([row[place] for row in rows], np.uint64) for place in (0, 1))
    assert labels.conflicts(keys, values).tolist() == [i for i, (key, _) in enumerate(rows) if len(seen[key]) > 1]
