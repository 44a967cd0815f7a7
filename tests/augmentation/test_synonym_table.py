import importlib.util
import os
from pathlib import Path

import pytest

from tuneline.augmentation import synonym_table
from tuneline.errors import DataError


def read(path: Path, content: str) -> synonym_table.Table:
    path.write_text(content, "utf-8")
    return synonym_table.read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv", 'Good,fine,"nice"\n\n房间,客房\n'),
        ("table.tsv", "\ufeffGood\tfine\tnice\t\n房间\t客房\n"),
        ("table.yaml", "Good: [fine, nice]\n房间: 客房\n"),
    ],
)
def test_a_table_has_a_word_and_its_synonyms_in_each_line(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path / name, content) == {"good": ("fine", "nice"), "房间": ("客房",)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "good\n", ":1: 'good' has no synonym; write one after it, or remove the line"),
        ("t.csv", "good,fine\n,nice\n", ":2: the word is missing before its synonyms"),
        (
            "t.csv",
            "good,fine\nbad,poor\nGOOD,nice\n",
            ":3: 'GOOD' is in line 1 already; put its synonyms into one line",
        ),
        ("t.csv", "good,Good\n", ":1: 'good' is a synonym of itself; remove it there"),
        ("t.csv", "air conditioning,fan\n", ":1: 'air conditioning' is not one word, and only single words are looked"),
        ("t.csv", "good,a\x07b\n", r":1: 'a\x07b' has a control character"),
        ("t.csv", "", ": holds no word; write lines such as `good,fine,nice`"),
        ("t.csv", 'good,"fine\n', ": cannot be read: "),
        ("t.yaml", "a: [b\n", ": cannot be read: "),
        ("t.yaml", "- good\n", ": must be a mapping of words, such as `good: [fine, nice]`"),
        ("t.yaml", "x: [y]\ngood:\n", ":2: 'good' has no synonym"),
        ("t.yaml", "x: y\ngood: [[fine, nice]]\n", ":2: the synonyms of 'good' must be texts"),
        ("t.yaml", "good: {fine: nice}\n", ":1: the synonyms of 'good' must be texts"),
        ("t.yaml", "<<: {good: [fine]}\n", ":1: has the key <<; write the words themselves"),
        ("t.yaml", "a: &a {good: [fine]}\n<<: *a\n", ":1: has the key <<; write the words themselves"),
        ("t.csv", "café,bar\ncafe\u0301,bistro\n", ":2: 'café' is in line 1 already; put its synonyms into one line"),
        ("t.txt", "good,fine\n", ": must end with .csv, .tsv, .yaml or .yml, which says how it is read"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path / name, content)
    [problem] = refused.value.problems
    assert problem.removeprefix(str(tmp_path / name)).startswith(said)


def test_all_mistakes_are_told_at_once_and_other_encodings_too(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path / "t.csv", "".join(f"word{n}\n" for n in range(30)))
    assert (len(refused.value.problems), refused.value.problems[-1]) == (21, f"{tmp_path}/t.csv: and 10 more problems")
    (tmp_path / "t.csv").write_bytes("gut,schön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv: is not UTF-8 \(byte \d+\); save it as UTF-8"):
        synonym_table.read(tmp_path / "t.csv")


def test_each_word_of_the_table_is_replaced_as_often_as_p_says_and_a_capital_stays() -> None:
    replace = synonym_table.Replacer({"good": ("fine", "nice"), "bad": ("poor",)})
    made = [replace("Good, but not bad-tempered: good.", 0.3, seed) for seed in range(1_000)]
    assert sum("Fine" in text or "Nice" in text for text in made) == pytest.approx(300, abs=50)
    assert sum(text.endswith(("fine.", "nice.")) for text in made) == pytest.approx(300, abs=50)
    assert all(", but not bad-tempered: " in text for text in made)
    assert replace("Good!", 0.3, 5) == replace("Good!", 0.3, 5)


def test_a_longer_table_replaces_the_old_words_as_before() -> None:
    text = "one two three four five six seven eight nine ten"
    short, long = {"two": ("2",), "nine": ("9",)}, {"two": ("2",), "nine": ("9",), "five": ("5",)}
    for seed in range(50):
        first, second = (synonym_table.Replacer(table)(text, 0.5, seed) for table in (short, long))
        assert first == second.replace("5", "five")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("rjieba") is None, reason="needs make setup EXTRAS=augment")
def test_chinese_words_of_the_table_are_found_though_the_dictionary_lacks_them() -> None:
    replace = synonym_table.Replacer({"房间": ("客房",), "早餐太": ("早点太",)})
    assert replace("房间很好，早餐太差。", 0.999999, 0) == "客房很好，早点太差。"


def test_what_is_not_a_file_is_told_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "endless.csv").symlink_to("/dev/zero")
    for name in ("folder.csv", "pipe.csv", "endless.csv"):
        with pytest.raises(DataError, match=f"{name}: is not a file; put the table there, or correct the path"):
            synonym_table.read(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="no such file"):
        synonym_table.read(tmp_path / "file/table.csv")


def test_a_word_that_was_written_in_two_characters_is_the_word_of_the_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "cafe\u0301,bistro\u0302t\n") == {"caf\u00e9": ("bistr\u00f4t",)}
