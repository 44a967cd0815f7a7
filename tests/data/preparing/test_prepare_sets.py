"""Every row goes out or is dropped with its reason, and no training row leaks a held-out row."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preparing import SPLITS, both, data, in_split, pair, prepare, sentence, some_pairs, some_texts, text

from tuneline.data.mapping import raw_set
from tuneline.data.preparing import prepare_sets
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.errors import DataError


def test_clean_rows_have_id_source_and_cluster() -> None:
    group = in_split("test", 1)
    table = both([pair("Q\r\n", "e\u0301\x07", group)]).clean["test"]
    assert table.column_names == ["id", "source", "cluster", "prompt", "completion"]
    row = table.to_pylist()[0]
    assert (row["source"], row["prompt"], row["completion"]) == ("a.jsonl:1", "Q\n", "é")
    assert (len(row["id"]), len(row["cluster"])) == (16, 16)


def test_of_duplicates_the_held_out_row_stays() -> None:
    answer = sentence("same")
    prepared = both(
        [
            pair("the same question", answer, in_split("train")),
            pair("the same question", answer, in_split("test")),
            pair("THE same  question", answer, in_split("validation")),
        ]
    )
    assert "a.jsonl:2" in prepared.sources("test")
    assert prepared.reasons() == [("raw", "a.jsonl:1", "duplicate"), ("raw", "a.jsonl:3", "duplicate")]
    assert prepared.quarantine[0]["detail"] == "the same as a.jsonl:2"
    assert prepared.report["raw"]["largest_clusters"] == [{"kept": "a.jsonl:2", "dropped": 2}]


def test_a_held_out_group_is_not_pretrained_on() -> None:
    prepared = both(texts=[text(sentence("more"), in_split("test"))])
    assert prepared.pretraining["train"].num_rows == 1
    assert prepared.pretraining["validation"].num_rows == 3


def test_a_text_with_a_held_out_answer_is_dropped() -> None:
    answer = sentence("answer", 12)
    prepared = both(
        [pair("a question that is long enough to outweigh its answer " * 3, answer, in_split("test"))],
        [
            text(f"{sentence(1)} {answer} {sentence(2)}", in_split("train", 1)),
            text(answer.upper(), in_split("train", 2)),
        ],
    )
    assert prepared.reasons() == [("text", "a.jsonl:1", "overlap"), ("text", "a.jsonl:2", "held-out")]
    assert prepared.quarantine[0]["detail"] == "contains 100% of raw/a.jsonl:1, which is held out"


def test_a_training_pair_that_leaks_a_held_out_text_is_dropped() -> None:
    held = sentence("text")
    prepared = both(
        [pair("a question", f"{held} and more", in_split("train", 1))], [text(held, in_split("validation", 1))]
    )
    assert prepared.reasons() == [("raw", "a.jsonl:1", "overlap")]


def test_rows_with_pieces_that_leak_a_held_out_row_together_are_dropped_from_all_sets() -> None:
    answer = sentence("answer", 60).split()
    pieces = [" ".join(answer[start : start + 19]) for start in (0, 20, 40)]
    own = [f"{sentence(f'own {n}', 50)} {piece}" for n, piece in enumerate(pieces)]
    rows = [pair("what", " ".join(answer), in_split("test")), pair("a", own[0], in_split("train", 1))]
    texts = [text(own[1], in_split("train", 2)), text(own[2], in_split("train", 3))]
    prepared = both(rows, texts)
    assert prepared.reasons() == [
        ("raw", "a.jsonl:2", "spread"), ("text", "a.jsonl:1", "spread"), ("text", "a.jsonl:2", "spread"),
    ]  # fmt: skip
    detail = "contains a part of raw/a.jsonl:1, which is held out; several rows together contain 95% of it"
    assert prepared.quarantine[0]["detail"] == detail
    # The answer by itself, and with its question.
    assert prepared.report["overlap"]["held_out_texts_in_pieces"] == 2
    # Two of the three are less than most of it.
    assert both(rows, texts[:1]).reasons() == []


def unheard(seed: object, length: int) -> str:
    """Words of this seed alone."""
    drawn = random.Random(str(seed))
    return " ".join("".join(drawn.choices("abcdefghijklmnop", k=6)) for _ in range(length))


def test_a_disclaimer_of_many_rows_costs_none_of_them() -> None:
    disclaimer = unheard("disclaimer", 40)
    rows = [pair(f"q{n}", f"{unheard(n, 30)} {disclaimer}", in_split("train", n)) for n in range(30)]
    rows.append(pair("held out", f"{unheard('own', 30)} {disclaimer}", in_split("test")))
    prepared = both(rows)
    assert prepared.reasons() == []
    assert prepared.report["overlap"]["kept_as_boilerplate"] == 30


def test_a_set_that_is_raw_and_pretraining_counts_a_row_once_as_wording_of_many_rows(tmp_path: Path) -> None:
    leaked = unheard("leaked", 40)
    groups = [in_split("train", n) for n in range(210)]
    rows = [text(f"{unheard(n, 30)} {leaked if n < 6 else unheard(-n - 1, 40)}", groups[n]) for n in range(210)]
    rows += [text(f"{leaked} {unheard('own', 3)}", in_split("test")), *some_texts()]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    raw = raw_set.open_set(
        tmp_path, readers.plan(tmp_path, Options()), columns={}, record_types=("text",), group_by="module"
    )
    reports = []
    for number, sets in enumerate((raw_set.RawSets(raw, raw, {}), raw_set.RawSets(raw, other_text(tmp_path), {}))):
        places = [tmp_path.with_name(f"{tmp_path.name}-{number}") / name for name in ("work", "clean", "pretraining")]
        for place in places:
            place.mkdir(parents=True)
        work, clean, pretraining = places
        paths = prepare_sets.Paths(work, clean, pretraining, work / "quarantine.jsonl")
        reports.append(prepare_sets.prepare(sets, data(), paths)["raw"]["dropped"])
    assert reports == [{"overlap": 6}] * 2


def other_text(beside: Path) -> raw_set.RawSet:
    """A pretraining text that has nothing in common with the raw set."""
    folder = beside.with_name(f"{beside.name}-other")
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(text(unheard(seed, 30), 'g'))}\n" for seed in "abc"))
    return raw_set.open_set(
        folder, readers.plan(folder, Options()), columns={}, record_types=("text",), group_by="module"
    )


def test_short_rows_that_differ_only_in_punctuation_or_spaces_are_duplicates_and_the_held_out_row_stays() -> None:
    rows = [
        pair("How are you", "Fine, thanks!", in_split("train")),
        pair("how are you?", "fine thanks", in_split("test")),
        pair("\u4f60\u597d\u5417\uff1f", "\u5f88\u597d\u3002", in_split("train", 1)),
        pair("\u4f60\u597d\u5417", "\u5f88 \u597d", in_split("train", 1)),
        pair("is it 1.5", "no", in_split("train", 1)),
        pair("is it 15", "no", in_split("train", 1)),
    ]
    prepared = both(rows, [text("Fine. Thanks", in_split("train", 2))])
    assert prepared.reasons() == [
        ("raw", "a.jsonl:1", "duplicate"), ("raw", "a.jsonl:4", "duplicate"), ("text", "a.jsonl:1", "held-out"),
    ]  # fmt: skip


def test_short_texts_with_different_labels_are_not_duplicates() -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2], "module": f"g{n}"} for n in range(60)]
    rows += [
        {"text": f"really{mark}", "label": label, "module": "m"} for mark, label in (("?", "a"), ("!", "b"), ("", "b"))
    ]
    assert prepare(rows, some_texts()).reasons() == [("raw", "a.jsonl:63", "duplicate")]


def test_a_row_of_control_characters_is_empty() -> None:
    prepared = both([pair("q", "\x01\x02", in_split("train"))])
    assert prepared.reasons() == [("raw", "a.jsonl:1", "empty")]


def test_damage_is_counted_repaired_or_dropped_and_the_counts_add_up() -> None:
    rows = [
        pair("what", "the caf\u00c3\u00a9 is open", in_split("train", 1)),
        pair("how", "\x93so\x94", in_split("train", 2)),
        pair("where", "lost \ufffd", in_split("train", 3)),
        pair("who", "\u200b\u3000", in_split("train", 4)),
        pair("when", "now\u200b", in_split("train", 5)),
    ]
    policy = {
        "mojibake": "repair",
        "control": "repair",
        "direction": "report",
        "invisible": "report",
        "replacement": "drop",
    }
    prepared = both(rows, chosen=data(damaged=policy))
    assert prepared.reasons() == [("raw", "a.jsonl:3", "damaged"), ("raw", "a.jsonl:4", "empty")]
    assert prepared.quarantine[0]["detail"] == "has damage: replacement; data.damaged drops such rows"
    kept = dict(zip(*(prepared.clean["train"][name].to_pylist() for name in ("prompt", "completion")), strict=True))
    assert (kept["what"], kept["how"], kept["when"]) == (
        "the caf\u00e9 is open",
        "\u201cso\u201d",
        "now\u200b",
    )
    report = prepared.report["raw"]
    assert {kind: (found["rows"], found["repaired"]) for kind, found in report["damaged"].items()} == {
        "mojibake": (1, 1), "replacement": (1, 0), "control": (1, 1), "invisible": (2, 0), "blank": (1, 0),
    }  # fmt: skip
    assert (
        report["damaged"]["mojibake"]["first"] == "a.jsonl:1: 'the caf\u00c3\u00a9 is open' is 'the caf\u00e9 is open'"
    )
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values())


def test_a_damaged_label_is_repaired_too() -> None:
    rows = [
        {"text": sentence(n), "label": "caf\u00c3\u00a9" if n % 2 else "th\u00e9", "module": f"g{n}"} for n in range(60)
    ]
    prepared = prepare(
        rows,
        some_texts(),
        data(
            damaged=dict.fromkeys(("mojibake", "control", "direction", "invisible"), "repair")
            | {"replacement": "report"}
        ),
    )
    assert prepared.report["raw"]["labels"].keys() == {"caf\u00e9", "th\u00e9"}


def test_at_most_500_held_out_texts_are_kept_and_they_stay_when_texts_are_added() -> None:
    texts = [text(sentence(n), in_split("validation")) for n in range(700)]
    few, all_ = both(texts=texts[:600]), both(texts=texts)
    kept = [set(one.pretraining["validation"]["id"].to_pylist()) for one in (few, all_)]
    assert [len(ids) for ids in kept] == [500, 500]
    assert few.report["pretraining"]["dropped"] == {"held-out-group": 102}
    assert len(kept[0] & kept[1]) > 400


def test_the_counts_of_the_report_add_up() -> None:
    pairs = [pair(f"q{n % 7}", sentence(n % 50), f"group{n % 40}") for n in range(200)]
    texts = [text(row["completion"], row["module"]) for row in pairs]
    prepared = prepare([*pairs, '{"prompt": '], texts)
    for name, tables, total in (("raw", prepared.clean, 201), ("pretraining", prepared.pretraining, 200)):
        report = prepared.report[name]
        assert report["rows_in"] == total == report["rows_out"] + sum(report["dropped"].values())
        assert report["rows"] == {split: table.num_rows for split, table in tables.items()}
        assert sum(report["rows"].values()) == report["rows_out"]
    assert prepared.report["raw"]["dropped"]["json"] == 1
    assert Counter(row["reason"] for row in prepared.quarantine) == sum(
        (Counter(prepared.report[name]["dropped"]) for name in ("raw", "pretraining")), Counter()
    )


def test_without_a_column_rows_with_the_same_prompt_stay_together() -> None:
    pairs = [pair(f"Question {n % 30}", sentence(n)) for n in range(90)]
    prepared = prepare(pairs, [text(sentence(f"t{n}")) for n in range(90)], data(group_by=None))
    prompts = [set(table["prompt"].to_pylist()) for table in prepared.clean.values()]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
    assert sum(map(len, prompts)) == 30


def test_the_newest_rows_are_held_out_and_a_group_goes_with_its_newest_row() -> None:
    pairs = [
        pair(f"question {n}", sentence(n), f"m{n}", day=f"2024-{1 + n // 28:02d}-{1 + n % 28:02d}") for n in range(200)
    ]
    pairs += [
        pair(f"old {n}", sentence(f"o{n}"), "both", day=day) for n, day in enumerate(("2020-01-01", "2024-08-01"))
    ]
    pairs += [pair("when", sentence("when"), "m", day="yesterday")]
    chosen = data(order_by="day", validation_from="2024-05-01", test_from="2024-07-01T00:00:00")
    prepared = prepare(pairs, some_texts(), chosen)
    rows = {split: [int(source.split(":")[1]) for source in prepared.sources(split)] for split in SPLITS}
    assert rows == {
        "train": list(range(1, 113)),
        "validation": list(range(113, 169)),
        "test": [*range(169, 201), 201, 202],
    }
    assert prepared.reasons() == [("raw", "a.jsonl:203", "order")]


def test_folds_keep_groups_together_and_test_rows_have_none() -> None:
    pairs = [pair(f"question {n}", sentence(n), f"group{n % 60}") for n in range(300)]
    prepared = prepare(pairs, some_texts(), data(folds=4))
    assert "fold" not in prepared.clean["test"].column_names
    of_group: dict[str, set[str]] = {}
    for row in prepared.clean["train"].to_pylist():
        of_group.setdefault(row["cluster"], set()).add(row["fold"])
    assert {len(folds) for folds in of_group.values()} == {1}
    assert set.union(*of_group.values()) == {"0", "1", "2", "3"}


def test_secrets_are_masked_or_drop_the_row_and_are_never_in_the_quarantine() -> None:
    chosen = data(secrets={"email": "mask", "phone": "report", "id_number": "report", "card": "drop", "key": "report"})
    prepared = both(
        [
            pair("who", "write to jane.doe@acme-mail.net today", in_split("train", 1)),
            pair("card", "4111 1111 1111 1111 is my card", in_split("train", 1)),
        ],
        chosen=chosen,
    )
    assert "write to <EMAIL> today" in prepared.clean["train"]["completion"].to_pylist()
    assert prepared.reasons() == [("raw", "a.jsonl:2", "secret")]
    assert "4111" not in prepared.quarantine[0]["row"]
    found = prepared.report["raw"]["secrets"]
    assert (found["email"], found["card"]) == (1, 1)


def test_the_same_text_with_two_labels_is_dropped() -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2], "module": f"g{n}"} for n in range(60)]
    rows += [{"text": "Which is it?", "label": label, "module": in_split("train")} for label in "ab"]
    prepared = prepare(rows, some_texts())
    assert prepared.reasons() == [("raw", "a.jsonl:61", "label-conflict"), ("raw", "a.jsonl:62", "label-conflict")]
    counts = prepared.report["raw"]["labels"]
    assert {label: sum(splits.values()) for label, splits in counts.items()} == {"a": 30, "b": 30}


def test_one_class_is_an_error() -> None:
    rows = [{"text": sentence(n), "label": "a", "module": f"g{n}"} for n in range(60)]
    with pytest.raises(DataError, match="all 60 rows have the label 'a'"):
        prepare(rows, some_texts())


def test_an_empty_split_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError) as caught:
        prepare([pair(f"q{n}", f"a{n}", in_split("train")) for n in range(5)], some_texts())
    assert "no rows for validation and test: 5 rows in 1 groups by the column 'module'" in str(caught.value)
    assert "group by another column" in str(caught.value)


def test_no_text_to_pretrain_on_is_an_error() -> None:
    with pytest.raises(DataError, match="no text is left to pretrain on"):
        prepare(some_pairs(), [text(sentence("t"), in_split("test"))])


OLD = [*some_pairs(), *(pair(f"question {n}", sentence(n), f"group{n % 13}") for n in range(60))]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 25), st.booleans()), min_size=1, max_size=6))
def test_adding_rows_moves_no_row_out_of_test(new: list[tuple[int, int, bool]]) -> None:
    """An added row may be new, a copy of an old one, or nearly one, in any group."""
    added = [
        pair(f"question {n}", sentence(n) + " changed" * changed, f"group{group + 5}") for n, group, changed in new
    ]
    before, after = prepare(OLD, some_texts()), prepare([*OLD, *added], some_texts())
    tested = set(after.sources("test"))
    stays_for = {row["source"]: row["detail"].rsplit(" ", 1)[1] for row in after.quarantine if row["set"] == "raw"}
    for source in before.sources("test"):
        assert source in tested or stays_for[source] in tested


def labelled(n: int, label: str) -> dict[str, str]:
    return {"text": sentence(f"{label} {n}"), "label": label}


def test_with_a_test_file_validation_is_taken_from_train_and_has_every_label() -> None:
    train = [labelled(n, label) for label in "abcdefgh" for n in range(8)]
    test = [labelled(n, label) for label in "abcdefgh" for n in range(100, 103)]
    chosen = data(group_by=None, validation=0.2)
    prepared = prepare([], some_texts(), chosen, files_of_raw={"train.jsonl": train, "test.jsonl": test})
    assert prepared.sources("test") == [f"test.jsonl:{n}" for n in range(1, 25)]
    assert {source.split(":")[0] for split in ("train", "validation") for source in prepared.sources(split)} == {
        "train.jsonl"
    }
    assert {split for label in prepared.report["raw"]["labels"].values() for split in label} == set(SPLITS)
    assert all(len(label) == 3 for label in prepared.report["raw"]["labels"].values())
    # More rows behind the others move none of them out of validation, and other shares of test none at all.
    more = [*train, *(labelled(n, label) for label in "abcdefgh" for n in range(8, 20))]
    again = prepare(
        [],
        some_texts(),
        data(group_by=None, validation=0.2, test=0.4),
        files_of_raw={"train.jsonl": more, "test.jsonl": test},
    )
    assert set(prepared.sources("validation")) <= set(again.sources("validation"))


def test_a_prompt_of_a_test_file_drops_the_training_row_and_rows_that_leave_the_test_set_are_reported() -> None:
    train = [pair(f"question {n}", sentence(n)) for n in range(60)]
    test = [pair(f"question {n}", sentence(f"other {n}")) for n in range(55, 70)]
    test += [pair("question 60!", sentence("other 60")), '{"prompt": ']
    prepared = prepare([], some_texts(), data(group_by=None), files_of_raw={"train.jsonl": train, "test.jsonl": test})
    assert prepared.reasons() == [
        ("raw", "test.jsonl:16", "duplicate"),
        ("raw", "test.jsonl:17", "json"),
        *(("raw", f"train.jsonl:{n}", "held-out-group") for n in range(56, 61)),
    ]
    report = prepared.report["raw"]
    assert report["changed_splits"] == {"test": {"rows_in": 17, "rows_out": 15, "dropped": {"duplicate": 1, "json": 1}}}
    (said,) = report["warnings"]
    assert said.endswith("your test set changed: 15 of 17 rows are left, because 1 duplicate, 1 json")
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values())


def test_a_text_with_another_label_in_the_test_file_is_still_tested() -> None:
    train = [labelled(n, "ab"[n % 2]) for n in range(40)]
    test = [labelled(n, "ab"[n % 2]) for n in range(100, 110)] + [train[0] | {"label": "b"}]
    prepared = prepare([], some_texts(), data(group_by=None), files_of_raw={"train.jsonl": train, "test.jsonl": test})
    assert prepared.reasons() == [("raw", "train.jsonl:1", "held-out-group")]
    assert len(prepared.sources("test")) == 11


def test_too_few_rows_for_a_validation_set_beside_a_test_file_say_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        prepare([], some_texts(), data(group_by=None, validation=0.001), files_of_raw={
            "train.jsonl": [pair(f"q{n}", sentence(n)) for n in range(9)], "test.jsonl": [pair("q", sentence("t"))],
        })  # fmt: skip
    assert "no rows for validation: files named train and test keep their split" in str(caught.value)
    assert "data.split.validation) of the 9 groups of the other files; raise it" in str(caught.value)
