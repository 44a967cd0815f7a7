import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuneline import params, rawsets
from tuneline.errors import DataError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    root = tmp_path / "my project"
    root.mkdir()
    monkeypatch.chdir(root)
    Path("params.yaml").write_text(params_text, "utf-8")
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    return root


def pairs(tmp_path: Path, count: int = 30, *more: str) -> Path:
    path = tmp_path / "faq.jsonl"
    rows = [json.dumps({"question": f"q{n}?", "answer": f"a {n}.", "customer": f"c{n % 9}"}) for n in range(count)]
    path.write_text("\n".join([*rows, *more]) + "\n")
    return path


def use(path: Path, **more: object) -> list[str]:
    arguments = {"name": None, "group_by": None, "columns": {}, "encoding": None} | more
    return list(rawsets.use(path, **arguments))  # pyright: ignore[reportArgumentType]


def test_a_file_becomes_the_raw_set_under_dvc(tmp_path: Path) -> None:
    said = use(pairs(tmp_path), group_by="customer")
    p = params.load()
    assert (p.task, p.data.raw, p.data.split.group_by) == ("sft", "data/raw/faq", "customer")
    assert p.registry.model == "faq"
    assert Path("data/raw/faq/faq.jsonl").read_bytes() == (tmp_path / "faq.jsonl").read_bytes()
    assert "md5" in Path("data/raw/faq.dvc").read_text()
    assert said[0].endswith("faq.jsonl: 30 rows of prompt-completion, 0 set aside")
    assert said[1] == "  1 file read as question, from question, answer"
    assert said[-1] == "next: make run"


def test_next_month_s_files_are_split_as_the_last_ones_were(tmp_path: Path) -> None:
    use(pairs(tmp_path), group_by="customer", columns={"prompt": "question", "completion": "answer"})
    before = Path("data/raw/faq.dvc").read_text()
    use(pairs(tmp_path, 40))
    assert Path("data/raw/faq.dvc").read_text() != before
    p = params.load()
    assert p.data.split.group_by == "customer"
    assert p.data.columns == {"prompt": "question", "completion": "answer"}


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"faq\.jsonl:31: json"):
        use(pairs(tmp_path, 30, '{"question": "broken'))
    with pytest.raises(DataError, match="has no column 'nobody'"):
        use(pairs(tmp_path), group_by="nobody")
    with pytest.raises(DataError, match="is no encoding that Python knows"):
        use(pairs(tmp_path), encoding="utf9")
    with pytest.raises(DataError, match="belongs to the built-in corpus"):
        use(pairs(tmp_path), name="python-docstrings")
    with pytest.raises(DataError, match="--task poetry: is no task; give one of sft, language-modeling"):
        use(pairs(tmp_path), task="poetry")
    with pytest.raises(DataError, match="holds prompt-completion rows, but classification rows are needed"):
        use(pairs(tmp_path), task="classification")
    with pytest.raises(DataError, match="is no name for a folder"):
        use(pairs(tmp_path), name="../escape")
    assert Path("params.yaml").read_text("utf-8") == before
    assert not Path("data").exists()


def test_a_file_of_which_no_row_is_usable_is_not_lost_in_the_crowd(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "good.jsonl").write_text('{"text": "good"}\n' * 1000)
    (folder / "lost.jsonl").write_text('{"text": ""}\n{broken\n')
    with pytest.raises(DataError) as caught:
        use(folder)
    assert str(caught.value) == (
        f"{folder}/lost.jsonl: none of its 2 rows can be used, the first for empty: text is empty (line 1); "
        "mend them, or take the file away"
    )
    # Of documents, each of which is a row, a share may be set aside as of rows.
    for number in range(200):
        (folder / f"{number}.txt").write_text("\0text" if number == 7 else f"text {number}")
    for name in ("good.jsonl", "lost.jsonl"):
        (folder / name).unlink()
    assert use(folder, layout="documents")[0].endswith("199 rows of text, 1 set aside")


def test_plain_chinese_text_is_a_language_model_s(tmp_path: Path) -> None:
    folder = tmp_path / "诗"
    folder.mkdir()
    (folder / "唐.txt").write_text("".join(f"床前明月光，疑是地上霜{n}。\n" for n in range(30)), "utf-8")
    use(folder)
    p = params.load()
    assert (p.task, p.data.raw) == ("language-modeling", "data/raw/诗")
    assert [rule.metric for rule in p.gate.rules] == ["bits_per_byte", "bits_per_byte"]
    assert p.registry.model == "model"


def reviews(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    for label in ("pos", "neg"):
        (folder / f"{label}.txt").write_text("".join(f"{label} {n}\n" for n in range(30)), "utf-8")
    return folder


def test_the_task_decides_what_is_read(tmp_path: Path) -> None:
    path = reviews(tmp_path)
    hint = "  the names of its files could be labels (neg, pos): if they are, give --task classification"
    assert hint in use(path)
    said = use(path, task="classification")
    assert said[0].endswith("reviews: 60 rows of classification, 0 set aside")
    p = params.load()
    assert p.task == "classification"
    assert [(rule.metric, rule.versus) for rule in p.gate.rules] == [("accuracy", "baseline")]


def test_the_present_task_is_kept_where_the_rows_fit_it(tmp_path: Path) -> None:
    path = tmp_path / "poems.jsonl"
    path.write_text(
        "".join(json.dumps({"title": f"t{n}", "author": "a", "paragraphs": ["x"]}) + "\n" for n in range(30))
    )
    said = use(path, task="language-modeling")
    assert said[0].endswith("30 rows of text, 0 set aside")
    assert said[1] == "  1 file read as poem, from title, author, paragraphs"
    use(path)
    assert params.load().task == "language-modeling"


def test_documents_are_kept_whole(tmp_path: Path) -> None:
    folder = tmp_path / "essays"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.txt").write_text("one\n\ntwo\n")
    said = use(folder, layout="documents")
    assert said[0].endswith("essays: 3 rows of text, 0 set aside")
    assert params.load().data.layout == "documents"


def test_another_set_is_not_ordered_by_the_column_of_the_last_one(tmp_path: Path) -> None:
    text = Path("params.yaml").read_text("utf-8")
    for key, value in (("order_by", "day"), ("validation_from", '"2024"'), ("test_from", '"2025"')):
        text = text.replace(f"    {key}: null", f"    {key}: {value}")
    Path("params.yaml").write_text(text, "utf-8")
    use(pairs(tmp_path))
    assert params.load().data.split.order_by is None


def test_a_set_is_mixed_in_and_another_beside_it(tmp_path: Path) -> None:
    before = params.load()
    said = list(rawsets.mix(pairs(tmp_path), name=None, weight=0.5))
    assert said[0].endswith("faq.jsonl: 30 rows of prompt-completion, 0 set aside")
    assert said[-2:] == ["params.yaml: data.mixture: {'faq': {'weight': 0.5}}", "next: make run"]
    assert "md5" in Path("data/mixture/faq.dvc").read_text()
    notes = tmp_path / "notes.txt"
    notes.write_text("a line\nanother one\n")
    list(rawsets.mix(notes, name="general", weight=0.1))
    list(rawsets.mix(pairs(tmp_path, 40), name=None, weight=2.0))
    p = params.load()
    assert {name: one.weight for name, one in p.data.mixture.items()} == {"faq": 2.0, "general": 0.1}
    assert (p.data.raw, p.task, p.registry) == (before.data.raw, before.task, before.registry)


def test_what_cannot_be_mixed_in_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"^data/mixture/pretraining: is no name for a set of a mixture"):
        list(rawsets.mix(pairs(tmp_path), name="pretraining", weight=1.0))
    with pytest.raises(DataError, match=r"faq\.jsonl:31: json"):
        list(rawsets.mix(pairs(tmp_path, 30, '{"question": "broken'), name=None, weight=1.0))
    with pytest.raises(DataError, match=r"^data/mixture/faq\.dvc: is no name for a set of a mixture"):
        list(rawsets.mix(pairs(tmp_path), name="faq.dvc", weight=1.0))
    with pytest.raises(DataError, match=r"^--mix: 5000: input should be less than or equal to 1000"):
        list(rawsets.mix(pairs(tmp_path), name=None, weight=5000.0))
    assert Path("params.yaml").read_text("utf-8") == before
    assert not Path("data/mixture").exists()
    use(reviews(tmp_path), task="classification")
    with pytest.raises(DataError, match=r"^--mix: has no meaning for task classification"):
        list(rawsets.mix(pairs(tmp_path), name=None, weight=1.0))


def test_another_task_leaves_behind_what_does_not_go_with_it(tmp_path: Path) -> None:
    list(rawsets.mix(pairs(tmp_path), name=None, weight=1.0))
    use(reviews(tmp_path), task="classification")
    assert params.load().data.mixture == {}


def test_another_set_is_told_what_holds_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "alt.jsonl"
    path.write_text('{"prompt": "caf\u00e9?", "completion": "oui"}\n' * 20, "latin-1")
    said = use(path, encoding="latin-1")
    assert not [line for line in said if "registry.model stays" in line]
    # The encoding is that of one set: the same again is read so, another one as UTF-8.
    use(path)
    assert params.load().data.encoding == "latin-1"
    said = use(pairs(tmp_path))
    assert params.load().data.encoding == "utf-8"
    assert any("registry.model stays alt: " in line for line in said)
    assert not [line for line in use(pairs(tmp_path)) if "registry.model stays" in line]
    labels = tmp_path / "mood.csv"
    labels.write_text("text,label\n" + "".join(f"text number {n},{'ab'[n % 2]}\n" for n in range(40)))
    said = use(labels, encoding="utf-8")
    assert any(line.startswith("  gate.rules on ") and "bits_per_byte" in line for line in said)


def test_a_reader_who_goes_away_does_not_stop_it_half_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tuneline.cli import main; main()", "use", str(pairs(tmp_path))]
    Path("mlflow").mkdir()
    Path("mlflow/tuneline.env").touch()
    reading, writing = os.pipe()
    os.close(reading)
    own = {name: value for name, value in os.environ.items() if name != "TUNELINE_ROOT"}
    subprocess.run(command, stdout=writing, check=False, env=own)
    os.close(writing)
    assert params.load().data.raw == "data/raw/faq"
