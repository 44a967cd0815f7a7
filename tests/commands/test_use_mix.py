"""`tuneline use --mix` trains a set in addition to the raw set."""

from pathlib import Path

import pytest
from recipe_samples import lines, words
from using import empty_project, mix, pairs, reviews, use, use_project

from tuneline import params
from tuneline.data.mapping import raw_set
from tuneline.errors import DataError
from tuneline.params import editing

__all__ = ["empty_project", "use_project"]


def test_two_sets_are_mixed_in(tmp_path: Path) -> None:
    before = params.load()
    messages = mix(pairs(tmp_path), name=None, weight=0.5)
    assert messages[0].endswith("faq.jsonl: 60 rows of prompt-completion, 0 set aside")
    assert messages[-2:] == ["params.yaml: data.mixture: {faq: {weight: 0.5}}", "next: make run"]
    assert "md5" in Path("data/mixture/faq.dvc").read_text()
    notes = tmp_path / "notes.txt"
    notes.write_text("a line\nanother one\n")
    mix(notes, name="general", weight=0.1)
    mix(pairs(tmp_path, 40), name=None, weight=2.0)
    p = params.load()
    assert {name: one.weight for name, one in p.data.mixture.items()} == {"faq": 2.0, "general": 0.1}
    assert (p.data.raw, p.task, p.registry) == (before.data.raw, before.task, before.registry)


def test_a_refused_mixed_in_set_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"^data/mixture/pretraining: is not a valid name for a set of a mixture"):
        mix(pairs(tmp_path), name="pretraining", weight=1.0)
    with pytest.raises(DataError, match=r"faq\.jsonl:61: json"):
        mix(pairs(tmp_path, 60, '{"question": "broken'), name=None, weight=1.0)
    with pytest.raises(DataError, match=r"^data/mixture/faq\.dvc: is not a valid name for a set of a mixture"):
        mix(pairs(tmp_path), name="faq.dvc", weight=1.0)
    with pytest.raises(DataError, match=r"^--mix: 5000: input should be less than or equal to 1000"):
        mix(pairs(tmp_path), name=None, weight=5000.0)
    assert Path("params.yaml").read_text("utf-8") == before
    assert not Path("data/mixture").exists()
    use(reviews(tmp_path), task="classification")
    with pytest.raises(DataError, match=r"only texts with labels can be mixed in; .*columns `text` and `label`$"):
        mix(pairs(tmp_path), name=None, weight=1.0)


def test_texts_with_labels_are_mixed_into_a_classification(tmp_path: Path) -> None:
    use(reviews(tmp_path), task="classification")
    path = tmp_path / "more.jsonl"
    path.write_text(lines([{"text": words(f"more {n}"), "label": ("pos", "neg")[n % 2]} for n in range(20)]))
    messages = mix(path, name=None, weight=0.5)
    assert messages[0].endswith("more.jsonl: 20 rows of classification, 0 set aside")
    # A set that only another task can read waits for that task.
    for folder, text in (("faq", '{"prompt": "a", "completion": "b"}\n'), ("notes", "a line\n")):
        Path("data/mixture", folder).mkdir()
        Path("data/mixture", folder, "a.jsonl" if folder == "faq" else "a.txt").write_text(text)
    Path("data/raw/python-text").mkdir()
    Path("data/raw/python-text/a.txt").write_text("a text\n")
    p = params.load()
    assert list(raw_set.open_all(p).mixture) == ["more"]
    editing.set_values(Path("params.yaml"), {"data.mixture": {"faq": {"weight": 1.0}}})
    with pytest.raises(DataError, match=r"data/mixture/faq"):
        raw_set.open_all(params.load())


def test_a_mixed_in_set_has_its_own_encoding_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "alt.jsonl"
    path.write_text("".join(f'{{"frage": "caf\u00e9 {n}?", "antwort": "oui {n}"}}\n' for n in range(20)), "cp1252")
    with pytest.raises(DataError, match=r"it looks like cp1252: .*`data.reading.alt.encoding: cp1252` \(`--encoding"):
        list(mix(path, name=None, weight=1.0))
    columns = {"prompt": "frage", "completion": "antwort"}
    list(mix(path, name=None, weight=1.0, columns=columns, encoding="cp1252"))
    p = params.load()
    assert p.data.reading["alt"].model_dump(exclude_defaults=True) == {"encoding": "cp1252", "columns": columns}
    assert (p.data.encoding, p.data.columns) == ("utf-8", {})
    # The next month's files are read as the last month's were.
    list(mix(path, name=None, weight=0.5))
    assert params.load().data.mixture["alt"].weight == 0.5


def test_a_task_that_cannot_be_mixed_empties_the_mixture(tmp_path: Path) -> None:
    mix(pairs(tmp_path), name=None, weight=1.0)
    use(reviews(tmp_path), task="classification")
    assert params.load().data.mixture == {}


def test_a_comparison_goes_with_what_it_leaves_out(tmp_path: Path) -> None:
    mix(pairs(tmp_path), name=None, weight=1.0)
    mix(pairs(tmp_path), name="more", weight=1.0)
    with Path("params.yaml").open("a") as file:
        file.write("report:\n  without: {plain: [mixture], both: [faq, more]}\n")
    messages = mix(pairs(tmp_path), name="more", weight=None)
    assert "params.yaml: report.without: {plain: [mixture], both: [faq]}" in messages
    use(reviews(tmp_path), task="classification")
    assert params.load().report.without == {}


def test_the_error_of_a_record_type_that_cannot_be_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "better.jsonl"
    path.write_text(lines([{"prompt": words(n), "chosen": "a", "rejected": "b"} for n in range(9)]))
    with pytest.raises(DataError) as caught:
        mix(path, name=None, weight=1.0)
    assert str(caught.value) == (
        f"{path}: holds preference rows, and only pairs, conversations and plain text can be mixed in; make it the raw "
        f"set (`tuneline use {path}`), or give the text in a column `text`, or in `prompt` and `completion`"
    )


def test_general_text_is_brought_and_not_trained(tmp_path: Path) -> None:
    messages = mix(pairs(tmp_path), name=None, weight=None)
    assert messages[-2:] == ["params.yaml: data.general: faq", "next: make run"]
    p = params.load()
    assert (p.data.general, p.data.mixture) == ("faq", {})
    assert "md5" in Path("data/mixture/faq.dvc").read_text()
    mix(pairs(tmp_path), name="spoken", weight=0.5)
    mix(pairs(tmp_path, 40), name="spoken", weight=None)
    p = params.load()
    assert (p.data.general, p.data.mixture) == ("spoken", {})
    use(reviews(tmp_path), task="classification")
    with pytest.raises(DataError, match=r"^--general: does not go with task classification; only .* can write general"):
        mix(pairs(tmp_path), name=None, weight=None)
