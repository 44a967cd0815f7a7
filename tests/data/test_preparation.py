"""Every row comes out or is dropped with its reason, and nothing that is held out is learnt."""

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneline.data.preparation import Prepared, prepare
from tuneline.data.records import Record, RecordSet, RecordType
from tuneline.data.rows import Rejected
from tuneline.data.splitting import split_of
from tuneline.errors import DataError
from tuneline.params import Data, Split

SPLIT = Split(group_by="module", validation=0.2, test=0.2, seed=0)
DATA = Data(
    raw="data/raw/a",
    pretraining="data/raw/b",
    encoding="utf-8",
    columns={},
    max_rejected_fraction=0.5,
    max_overlap=0.5,
    split=SPLIT,
)
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ro", "su", "ta") for b in ("ba", "do", "fi", "gu", "hy")]


def in_split(split: str, number: int = 0) -> str:
    """The name of a group that is in a split."""
    names = (f"group{n}" for n in range(10_000))
    found = (name for name in names if split_of(name, validation=0.2, test=0.2, seed=0) == split)
    return next(itertools.islice(found, number, None))


def records(rows: Iterable[tuple[tuple[str, ...], str | None]], kind: RecordType, *rejected: Rejected) -> RecordSet:
    found = [Record("a.jsonl", line, 0, values, group) for line, (values, group) in enumerate(rows, 1)]
    return RecordSet(kind, kind, {"a.jsonl": []}, {"a.jsonl": "jsonl"}, found, list(rejected))


def sentence(seed: object, length: int = 20) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=length))


def both(
    pairs: Iterable[tuple[tuple[str, ...], str | None]] = (), texts: Iterable[tuple[tuple[str, ...], str | None]] = ()
) -> Prepared:
    """Some rows among enough others in every split."""
    splits = ("train", "validation", "test")
    more_pairs = [((f"question {split}", sentence(f"a{split}")), in_split(split)) for split in splits]
    more_texts = [((sentence(f"t{split}"),), in_split(split)) for split in splits]
    return prepare(records([*pairs, *more_pairs], "prompt-completion"), records([*texts, *more_texts], "text"), DATA)


def reasons(prepared: Prepared) -> list[tuple[str, str, str]]:
    return [(row["set"], row["source"], row["reason"]) for row in prepared.quarantine]


def test_rows_carry_what_they_are_and_where_they_come_from() -> None:
    group = in_split("test", 1)
    table = both([(("Q\r\n", "e\u0301\x07"), group)]).clean["test"]
    assert table.column_names == ["id", "source", "cluster", "prompt", "completion"]
    row = table.to_pylist()[0]
    assert (row["source"], row["prompt"], row["completion"]) == ("a.jsonl:1", "Q\n", "é")
    assert (len(row["id"]), len(row["cluster"])) == (16, 16)


def test_a_duplicate_stays_where_it_is_held_out() -> None:
    row = ("the same question", sentence("same"))
    prepared = both(
        [(row, in_split("train")), (row, in_split("test")), (("THE same  question", row[1]), in_split("validation"))]
    )
    assert "a.jsonl:2" in prepared.clean["test"]["source"].to_pylist()
    assert reasons(prepared) == [
        ("prompt-completion", "a.jsonl:1", "duplicate"),
        ("prompt-completion", "a.jsonl:3", "duplicate"),
    ]
    assert prepared.quarantine[0]["detail"] == "the same as a.jsonl:2"


def test_a_held_out_group_is_not_pretrained_on() -> None:
    prepared = both(texts=[((sentence("more"),), in_split("test"))])
    assert prepared.pretraining["train"].num_rows == 1
    assert prepared.pretraining["validation"].num_rows == 3


def test_a_held_out_answer_in_another_modules_text_is_taken_out() -> None:
    answer = sentence("answer", 12)
    prepared = both(
        [(("a question that is long enough to outweigh its answer " * 3, answer), in_split("test"))],
        [((f"Introduction. {answer} More.",), in_split("train", 1)), ((answer.upper(),), in_split("train", 2))],
    )
    assert reasons(prepared) == [("text", "a.jsonl:1", "overlap"), ("text", "a.jsonl:2", "held-out")]
    assert prepared.quarantine[0]["detail"] == "holds 100% of prompt-completion/a.jsonl:1, which is held out"


def test_a_training_pair_that_gives_away_a_held_out_text_is_taken_out() -> None:
    text = sentence("text")
    prepared = both(
        [(("a question", f"{text} and more"), in_split("train", 1))], [((text,), in_split("validation", 1))]
    )
    assert reasons(prepared) == [("prompt-completion", "a.jsonl:1", "overlap")]


def test_a_row_of_control_characters_is_empty() -> None:
    prepared = both([(("q", "\x00\x01"), in_split("train"))])
    assert reasons(prepared) == [("prompt-completion", "a.jsonl:1", "empty")]


def test_at_most_500_held_out_texts_are_kept_and_they_stay_when_texts_are_added() -> None:
    texts = [((sentence(n),), in_split("validation")) for n in range(700)]
    few, all_ = both(texts=texts[:600]), both(texts=texts)
    kept = [set(one.pretraining["validation"]["id"].to_pylist()) for one in (few, all_)]
    assert [len(ids) for ids in kept] == [500, 500]
    assert few.accounts["pretraining"]["dropped"] == {"held-out-group": 102}
    assert len(kept[0] & kept[1]) > 400


def test_accounts_add_up() -> None:
    rejected = Rejected("a.jsonl", 9, 80, "json", "broken", "{")
    rows = [((f"q{n % 7}", sentence(n % 50)), f"group{n % 40}") for n in range(200)]
    raw = records(rows, "prompt-completion", rejected)
    texts = records([((row[0][1],), row[1]) for row in rows], "text")
    prepared = prepare(raw, texts, DATA)
    for name, tables, total in (("raw", prepared.clean, 201), ("pretraining", prepared.pretraining, 200)):
        account = prepared.accounts[name]
        assert account["rows_in"] == total == account["rows_out"] + sum(account["dropped"].values())
        assert account["rows"] == {split: table.num_rows for split, table in tables.items()}
        assert sum(account["rows"].values()) == account["rows_out"]
    assert prepared.accounts["raw"]["dropped"]["json"] == 1
    assert len(prepared.quarantine) == sum(
        sum(prepared.accounts[name]["dropped"].values()) for name in ("raw", "pretraining")
    )


def test_without_a_column_rows_with_the_same_prompt_stay_together() -> None:
    data = DATA.model_copy(update={"split": SPLIT.model_copy(update={"group_by": None})})
    pairs = [((f"Question {n % 30}", sentence(n)), None) for n in range(90)]
    texts = [((sentence(f"t{n}"),), None) for n in range(90)]
    prepared = prepare(records(pairs, "prompt-completion"), records(texts, "text"), data)
    prompts = [set(table["prompt"].to_pylist()) for table in prepared.clean.values()]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
    assert sum(map(len, prompts)) == 30


def test_an_empty_split_is_an_error_that_says_why() -> None:
    pairs = records([((f"q{n}", "a"), in_split("train")) for n in range(5)], "prompt-completion")
    texts = records([((sentence("t"),), in_split("train"))], "text")
    with pytest.raises(DataError) as caught:
        prepare(pairs, texts, DATA)
    assert "no rows for validation and test: 5 rows in 1 groups by the column 'module'" in str(caught.value)
    assert "group by another column" in str(caught.value)


def test_no_text_to_pretrain_on_is_an_error() -> None:
    splits = ("train", "validation", "test")
    pairs = records([((f"q{split}", sentence(split)), in_split(split)) for split in splits], "prompt-completion")
    texts = records([((sentence("t"),), in_split("test"))], "text")
    with pytest.raises(DataError, match="no text is left to pretrain on"):
        prepare(pairs, texts, DATA)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 25)), min_size=1, max_size=40))
def test_adding_rows_moves_no_row_out_of_test(new: list[tuple[int, int]]) -> None:
    old = [((f"q{n}", sentence(n)), f"group{n % 13}") for n in range(26)]
    added = [((f"q{n}", sentence(n)), f"group{group + 5}") for group, n in new]
    texts = records([((sentence(f"t{n}"),), f"group{n}") for n in range(30)], "text")
    # No added row is a copy of these, so that every split has a row whatever is added.
    old += [
        ((f"question {split}", sentence(f"a{split}")), in_split(split)) for split in ("train", "validation", "test")
    ]
    before, after = (prepare(records(rows, "prompt-completion"), texts, DATA) for rows in (old, [*added, *old]))
    assert set(before.clean["test"]["id"].to_pylist()) <= set(after.clean["test"]["id"].to_pylist())
