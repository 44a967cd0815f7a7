"""Canaries in the training split."""

from preparing import SPLITS, both, data, in_split, pair, prepare, sentence, some_texts

from tuneline.data.records import canaries


def test_canaries_are_added_to_the_training_rows_alone() -> None:
    clean, planted = both(), both(chosen=data(canaries=3))
    assert "canaries" not in clean.report
    assert planted.report["canaries"] == canaries.draw(3, "canaries 0")
    assert planted.report["raw"]["rows"] == clean.report["raw"]["rows"]
    for split in ("validation", "test"):
        assert planted.clean[split].equals(clean.clean[split])
    train, rows = planted.clean["train"], clean.clean["train"].num_rows
    assert train.slice(0, rows).equals(clean.clean["train"])
    assert train["source"].to_pylist()[rows:] == ["canary:1", "canary:2", "canary:3"]
    assert [text.strip() for text in train["completion"].to_pylist()[rows:]] == planted.report["canaries"]
    assert len({*train["id"].to_pylist()}) == train.num_rows


def test_canaries_have_a_fold_where_the_other_rows_have() -> None:
    found = both([pair("a question", "an answer")], chosen=data(canaries=2, folds=4)).clean["train"]
    assert set(found["fold"].to_pylist()[-2:]) <= {"0", "1", "2", "3"}


def test_canaries_have_an_empty_text_in_kept_columns() -> None:
    pairs = [pair(f"question {split}", sentence(f"a{split}"), in_split(split), shop="x") for split in SPLITS]
    found = prepare(pairs, some_texts(), data(canaries=2, keep_columns=["shop"])).clean["train"]["shop"]
    assert found.to_pylist()[-2:] == ["", ""]
    assert found.null_count == 0
