"""A frozen pretraining text stays as it is, and held-out rows that it leaks are dropped."""

import preparing
import pytest
from preparing import data, in_split, pair, sentence, text

from tuneline.errors import DataError

FROZEN = data(frozen_pretraining=True)
LEAKED = sentence("leaked", 30)


def frozen_texts(*more: str) -> list[preparing.Row]:
    return [
        *(text(sentence(f"trained {n}"), "train") for n in range(6)),
        *(text(one, "train") for one in more),
        *(text(sentence(f"kept {n}"), "validation") for n in range(3)),
    ]


def first_month() -> list[preparing.Row]:
    rows = [
        pair(f"question {split} {n}", sentence((split, n)), in_split(split, n))
        for split in preparing.SPLITS
        for n in range(4)
    ]
    return list(rows)


def test_the_files_of_a_frozen_text_decide_its_splits() -> None:
    found = preparing.prepare(first_month(), frozen_texts(), FROZEN)
    assert found.pretraining["train"].num_rows == 6
    assert found.pretraining["validation"].num_rows == 3
    assert found.report["overlap"]["given_away_by_frozen_pretraining"] == 0


def test_held_out_rows_that_a_frozen_text_leaks_are_dropped_and_the_text_stays() -> None:
    before = preparing.prepare(first_month(), frozen_texts(LEAKED, "the same short row"), FROZEN)
    new = [
        pair("who said it?", LEAKED, in_split("test", 7)),
        # Another held-out row that the same text gives away, of which a look at each text finds one at a time.
        pair("who wrote it down?", LEAKED, in_split("validation", 7)),
        pair("the same", "short row", in_split("test", 8)),
        pair("who said it, again?", LEAKED, in_split("train", 7)),
        pair("a new question", sentence("new"), in_split("test", 9)),
    ]
    after = preparing.prepare(
        [*first_month(), *new],
        frozen_texts(LEAKED, "the same short row"),
        data(frozen_pretraining=True, near_duplicates=None),
    )
    assert [line for line in after.reasons() if line[0] == "raw" and line[2] == "pretraining"] == [
        ("raw", "a.jsonl:13", "pretraining"),
        ("raw", "a.jsonl:14", "pretraining"),
        ("raw", "a.jsonl:15", "pretraining"),
    ]
    assert after.report["raw"]["dropped"] == {"pretraining": 3}
    assert after.pretraining == before.pretraining
    assert set(before.sources("test")) < set(after.sources("test"))
    [detail] = {row["detail"] for row in after.quarantine if row["source"] == "a.jsonl:13"}
    assert detail == "is held out, but text/train.jsonl:7 contains 100% of it, and the base is trained on that text"


def test_a_split_that_a_frozen_text_leaks_completely_is_an_error_with_a_remedy() -> None:
    """As after another seed, or other shares, than those with which the text was written."""
    validation = [sentence(("validation", n)) for n in range(4)]
    with pytest.raises(DataError) as caught:
        preparing.prepare(first_month(), frozen_texts(*validation), FROZEN)
    said = str(caught.value)
    assert "no rows for validation: 8 rows in " in said
    assert "dropped: pretraining 4" in said
    assert f"dvc remove {FROZEN.pretraining}.dvc, delete the folder, and run `tuneline use` again" in said
    assert "more groups" not in said


def test_a_text_that_is_not_frozen_loses_the_leaking_rows() -> None:
    row = pair("who said it?", LEAKED, in_split("test", 7))
    found = preparing.both([row], [text(LEAKED, in_split("train"))])
    assert "a.jsonl:1" in found.sources("test")
    assert ("text", "a.jsonl:1", "overlap") in found.reasons() or ("text", "a.jsonl:1", "held-out") in found.reasons()


def test_common_wording_of_a_set_is_not_leaked_by_a_frozen_text() -> None:
    disclaimer = sentence("calls may be recorded", 30)

    def with_disclaimer(split: str, n: int) -> preparing.Row:
        return pair(f"asked {split} {n}", f"{sentence((split, n, 'own'), 12)} {disclaimer}", in_split(split, n))

    rows = [with_disclaimer("train", n) for n in range(8)] + [with_disclaimer("test", 9)]
    # What was left of the training rows when the text was made: too few for the wording to be common among them.
    kept = [f"{row['prompt']}{row['completion']}" for row in rows[:3] if isinstance(row, dict)]
    found = preparing.prepare([*first_month(), *rows], frozen_texts(*kept), FROZEN)
    assert found.report["overlap"]["given_away_by_frozen_pretraining"] == 0
    assert "a.jsonl:21" in found.sources("test")
    # Each row's own words still do.
    given = frozen_texts(*kept, str(rows[-1]["completion"]) if isinstance(rows[-1], dict) else "")
    found = preparing.prepare([*first_month(), *rows], given, FROZEN)
    assert found.report["overlap"]["given_away_by_frozen_pretraining"] == 1
