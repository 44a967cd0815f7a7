"""Sets of a mixture: all their rows are for training, and none leaks a held-out row."""

from pathlib import Path

import pytest
from preparing import data, in_split, pair, prepare, sentence, some_pairs, some_texts, text

from tuneline import params
from tuneline.data.mapping import raw_set
from tuneline.errors import DataError
from tuneline.params import editing


def test_rows_of_a_mixture_are_for_training_and_change_no_split() -> None:
    others = [pair(f"other {n}", sentence(f"other {n}")) for n in range(30)]
    raw = [*some_pairs(), *(pair(f"q{n}", sentence(f"q{n}"), f"m{n % 20}") for n in range(60))]
    alone = prepare(raw, some_texts())
    mixed = prepare(raw, some_texts(), mixture={"faq": others, "notes": [text(sentence(n)) for n in range(9)]})
    assert (mixed.clean["faq"].num_rows, mixed.clean["notes"].num_rows) == (30, 9)
    assert mixed.clean["faq"]["completion"].to_pylist() == [row["completion"] for row in others]
    for split in ("train", "validation", "test"):
        assert mixed.clean[split].equals(alone.clean[split])
    assert mixed.report["mixture"]["faq"]["rows"] == {"train": 30}
    assert mixed.report["pretraining"]["bytes"] == alone.report["pretraining"]["bytes"]


def test_rows_of_a_mixture_that_leak_held_out_rows_are_dropped_with_their_reason() -> None:
    held = pair("the question of a test", sentence("its answer"), in_split("test", 3))
    text_held = sentence("a text of a held-out module")
    mixed = prepare(
        [*some_pairs(), held],
        [*some_texts(), text(text_held, in_split("test", 4))],
        data(near_duplicates=None),
        mixture={
            "faq": [
                pair("asked in other words", held["completion"], "mine"),
                pair("of a held-out module", sentence("x"), in_split("validation")),
                pair("fine", sentence("fine"), "mine"),
                pair("fine", sentence("fine"), "mine"),
            ],
            "notes": [text(f"{sentence('before')} {text_held} {sentence('behind')}"), text(sentence("fine too"))],
        },
    )
    assert [row for row in mixed.reasons() if row[0] in ("faq", "notes")] == [
        ("faq", "a.jsonl:1", "overlap"),
        ("faq", "a.jsonl:2", "held-out-group"),
        ("faq", "a.jsonl:4", "duplicate"),
        ("notes", "a.jsonl:1", "overlap"),
    ]
    assert (mixed.clean["faq"].num_rows, mixed.clean["notes"].num_rows) == (1, 1)
    report = mixed.report["mixture"]["faq"]
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values()) == 4


def test_a_group_is_held_out_although_its_only_row_is_a_duplicate() -> None:
    same = sentence("asked twice")
    groups = in_split("test", 5), in_split("test", 6)
    mixed = prepare(
        [*some_pairs(), *(pair("q", same, group) for group in groups)],
        some_texts(),
        mixture={"faq": [pair(f"else {group}", sentence(group), group) for group in (*groups, "mine")]},
    )
    assert [row for row in mixed.reasons() if row[0] == "faq"] == [
        ("faq", "a.jsonl:1", "held-out-group"),
        ("faq", "a.jsonl:2", "held-out-group"),
    ]


def test_a_set_of_a_mixture_without_rows_left_is_named() -> None:
    held = pair("q", sentence("its answer"), in_split("test", 3))
    with pytest.raises(DataError, match=r"faq: no row is left to train on \(dropped: overlap 1\)"):
        prepare([*some_pairs(), held], some_texts(), mixture={"faq": [pair("other", held["completion"])]})


def test_a_mixture_prepared_by_more_processes_has_the_same_bytes() -> None:
    raw = [*some_pairs(), *(pair(f"q{n}", sentence(f"q{n}"), f"m{n % 20}") for n in range(60))]
    mixture = {name: [pair(f"{name} {n}", sentence(f"{name} {n}")) for n in range(40)] for name in ("a", "b")}
    alone = prepare(raw, some_texts(), data(), mixture=mixture)
    assert prepare(raw, some_texts(), data(workers=2), inline=0, mixture=mixture).digest == alone.digest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)
    for name, line in (("raw/python-docstrings", '{"prompt": "q", "completion": "a", "module": "m"}'),) * 1 + (
        ("raw/python-text", '{"text": "t", "module": "m"}'),
        ("mixture/chats", '{"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}'),
        ("mixture/texts", '{"text": "t"}'),
    ):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "rows.jsonl").write_text(f"{line}\n")
    return tmp_path


def test_every_folder_of_a_mixture_is_a_set_with_its_own_type(project: Path) -> None:
    Path("data/mixture/README.md").write_text("what this is")
    Path("data/mixture/chats.dvc").write_text("outs: []")
    sets = raw_set.open_all(params.load())
    assert {name: one.form.record_type for name, one in sets.mixture.items()} == {"chats": "messages", "texts": "text"}


def test_what_a_mixture_cannot_take_is_named_all_at_once(project: Path) -> None:
    Path("data/mixture/loose.jsonl").write_text('{"text": "t"}\n')
    Path("data/mixture/raw").mkdir()
    Path("data/raw/python-text/rows.jsonl").write_text('{"label": 1}\n')
    with pytest.raises(DataError) as caught:
        raw_set.open_all(params.load())
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "data/mixture/loose.jsonl",
        "data/mixture/raw",
        "data/raw/python-text/rows.jsonl",
    ]


def test_a_test_file_in_a_mixture_is_not_trained(project: Path) -> None:
    Path("data/mixture/texts/test.jsonl").write_text('{"text": "held out"}\n')
    one = raw_set.open_all(params.load()).mixture["texts"]
    assert [shape.split for shape in one.shapes] == [None, "test"]
    assert one.warnings == ()


def test_a_mixture_without_its_folder_is_an_error_that_names_the_folders(project: Path) -> None:
    editing.set_values(Path("params.yaml"), {"data.mixture": {"chat": {"weight": 1.0}, "pretraining": {"weight": 1.0}}})
    with pytest.raises(DataError, match=r"^data\.mixture\.chat: no set .* the sets are chats, texts, pretraining$"):
        raw_set.open_all(params.load())


def test_preferences_cannot_be_in_a_mixture(project: Path) -> None:
    Path("data/mixture/texts/rows.jsonl").write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')
    with pytest.raises(DataError, match=r"data/mixture/texts/rows\.jsonl: contains preference rows, but"):
        raw_set.open_all(params.load())


def test_a_task_without_mixtures_ignores_the_folder(project: Path) -> None:
    Path("data/raw/python-docstrings/rows.jsonl").write_text('{"text": "t", "label": "l"}\n')
    rule = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}
    editing.set_values(
        Path("params.yaml"), {"task": "classification", "gate.rules": [rule], "data.split.group_by": None}
    )
    assert raw_set.open_all(params.load()).mixture == {}
