"""`tuneline use` reads files, finds their task, and refuses what the pipeline cannot use."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recipe_samples import lines, poem, words
from using import empty_project, mix, pairs, reviews, use, use_project, verse

from tuneline import params
from tuneline.commands.use import open_set, use_data
from tuneline.errors import DataError

__all__ = ["empty_project", "use_project"]


def test_a_file_becomes_the_raw_set_under_dvc(tmp_path: Path) -> None:
    messages = use(pairs(tmp_path), group_by="customer")
    p = params.load()
    assert (p.task, p.data.raw, p.data.split.group_by) == ("sft", "data/raw/faq", "customer")
    assert p.registry.model == "faq"
    assert Path("data/raw/faq/faq.jsonl").read_bytes() == (tmp_path / "faq.jsonl").read_bytes()
    assert "md5" in Path("data/raw/faq.dvc").read_text()
    assert messages[0].endswith("faq.jsonl: 60 rows of prompt-completion, 0 set aside")
    assert messages[1] == "  1 file read as question, from question, answer"
    assert messages[-1] == "next: make run"


def test_excluded_files_stay_excluded_next_month(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "docs").mkdir(parents=True)
    pairs(tmp_path).rename(folder / "faq.jsonl")
    (folder / "LICENSE").write_text("MIT License\n\nPermission is hereby granted\n")
    (folder / "docs" / "notes.md").write_text("# Notes\n")
    with pytest.raises(DataError, match=r"exclude the files that only describe the data: --exclude LICENSE") as caught:
        use(folder, exclude=["*.md"])
    assert "text (LICENSE)" in str(caught.value)
    messages = use(folder, exclude=["LICENSE", "*.md"])
    assert f"  warning: {folder}: 2 file(s) left out by LICENSE, *.md: LICENSE, docs/notes.md" in messages
    assert params.load().data.exclude == ["LICENSE", "*.md"]
    assert [path.name for path in Path("data/raw/set").rglob("*") if path.is_file()] == ["faq.jsonl"]
    # Next month's files are read in the same way; another set has its own patterns.
    use(folder)
    assert params.load().data.exclude == ["LICENSE", "*.md"]
    use(pairs(tmp_path), name="faq")
    assert params.load().data.exclude == []


def test_the_present_set_under_another_name_is_refused(tmp_path: Path) -> None:
    path = pairs(tmp_path)
    use(path, name="mine")
    before = Path("params.yaml").read_text()
    with pytest.raises(
        DataError, match=r"holds the file of data/raw/mine; to add to that set, run: tuneline use .* --name mine"
    ):
        use(path)
    assert Path("params.yaml").read_text() == before
    assert not Path("data/raw/faq").exists()
    use(path, name="other")
    assert Path("data/raw/other.dvc").exists()


def test_changed_files_of_the_next_month_are_told(tmp_path: Path) -> None:
    use(pairs(tmp_path))
    messages = use(pairs(tmp_path, 70))
    assert "  compared with data/raw/faq: 0 new files, 1 changed, 0 removed, 0 the same" in messages
    assert any("faq.jsonl: differs from the file in data/raw/faq; rows that `tuneline forget`" in m for m in messages)


def test_an_unknown_group_column_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"--group-by klient: .*faq.jsonl has no such column; columns found: .*customer"
    ):
        use(pairs(tmp_path), group_by="klient")


def test_max_rejected_is_written_to_params_yaml(tmp_path: Path) -> None:
    path = pairs(tmp_path, 30, '{"question": "broken')
    messages = use(path, max_rejected=0.05)
    assert "params.yaml: data.max_rejected_fraction: 0.05" in messages
    assert params.load().data.max_rejected_fraction == 0.05
    use(path)
    assert params.load().data.max_rejected_fraction == 0.05


def test_many_files_with_the_same_problem_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.pdf").write_bytes(b"%PDF-1.7")
        (folder / f"{number:02}.json").write_text("[" + '{"prompt": "p", "completion": "c"},\n' * number)
    with pytest.raises(DataError) as caught:
        use(folder)
    broken, pdf = caught.value.problems
    assert pdf.startswith(
        f"30 files ({folder}/00.pdf, {folder}/01.pdf, {folder}/02.pdf and 27 more): is a PDF: extract"
    )
    assert "27 more): is not JSON: expected a value, found the end of the file; correct it" in broken


def test_labels_that_differ_only_in_case_or_spaces_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "mail.csv"
    rows = [f"{words(n)},{('kargo', 'iade')[n % 2]}" for n in range(60)] + [f"{words(-n)},KARGO " for n in (1, 2, 3)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    for _ in ("the first use", "the next use"):
        [warning] = [line for line in use(path) if "differ only" in line]
        assert warning == (
            "  warning: labels 'kargo' (30) and 'KARGO ' (3) differ only in case or spaces and are different labels; "
            "if they mean the same, use one spelling in the raw files"
        )


def test_labels_that_are_numbers_and_unused_columns_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mail.csv"
    path.write_text("\n".join(["text,urgency,date", *(f"{words(n)},{n % 5 + 1},2026-01-02" for n in range(60))]) + "\n")
    columns = {"text": "text", "label": "urgency"}
    told = use(path, columns=columns)
    assert "  all labels are numbers: with --task regression they are predicted as numbers" in told
    [hint] = [line for line in told if "data.keep_columns" in line]
    assert "data.split.order_by" in hint
    told = use(path, columns=columns, task="regression")
    assert "rows of regression, 0 set aside" in told[0]
    assert not [line for line in told if "--task regression" in line]


def test_a_refused_set_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"faq\.jsonl:61: json"):
        use(pairs(tmp_path, 60, '{"question": "broken'))
    with pytest.raises(DataError, match="--group-by client: "):
        use(pairs(tmp_path), group_by="client")
    with pytest.raises(DataError, match="is not an encoding that Python knows"):
        use(pairs(tmp_path), encoding="utf9")
    with pytest.raises(DataError, match="is not an encoding that Python knows"):
        mix(pairs(tmp_path), name="more", weight=0.5, encoding="rot13")
    with pytest.raises(DataError, match="belongs to the built-in corpus"):
        use(pairs(tmp_path), name="python-docstrings")
    with pytest.raises(DataError, match="--task poetry: is not a task; give one of sft, language-modeling"):
        use(pairs(tmp_path), task="poetry")
    with pytest.raises(DataError, match="contains prompt-completion rows, but the task needs classification rows"):
        use(pairs(tmp_path), task="classification")
    with pytest.raises(DataError, match="cannot be a folder under data/raw"):
        use(pairs(tmp_path), name="../escape")
    with pytest.raises(DataError, match=r"no file is left to read: 1 file\(s\) left out by \*: faq\.jsonl"):
        use(pairs(tmp_path), exclude=["*"])
    assert Path("params.yaml").read_text("utf-8") == before
    assert not Path("data").exists()


def test_a_file_without_a_usable_row_is_an_error_however_small_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "good.jsonl").write_text('{"text": "good"}\n' * 1000)
    (folder / "lost.jsonl").write_text('{"text": ""}\n{broken\n')
    with pytest.raises(DataError) as caught:
        use(folder)
    assert str(caught.value) == (
        f"{folder}/lost.jsonl: none of its 2 rows can be used; the first because of empty: text is empty "
        "(line 1); repair the rows, or remove the file"
    )
    # Each document is a row, so a share of the documents may be unusable.
    for number in range(200):
        (folder / f"{number}.txt").write_text("\0text" if number == 7 else words(number))
    for name in ("good.jsonl", "lost.jsonl"):
        (folder / name).unlink()
    assert use(folder, layout="documents")[0].endswith("199 rows of text, 1 set aside")


def test_plain_chinese_text_gives_the_task_language_modeling(tmp_path: Path) -> None:
    folder = tmp_path / "诗"
    folder.mkdir()
    (folder / "唐.txt").write_text("".join(f"{verse(n)}\n" for n in range(60)), "utf-8")
    use(folder)
    p = params.load()
    assert (p.task, p.data.raw) == ("language-modeling", "data/raw/诗")
    assert [(rule.metric, rule.versus) for rule in p.gate.rules] == [
        ("bits_per_byte", "baseline"),
        ("bits_per_byte", "base"),
        ("bits_per_byte", "champion"),
    ]
    assert p.registry.model == "model"


def test_the_option_task_decides_how_rows_are_read(tmp_path: Path) -> None:
    path = reviews(tmp_path)
    hint = "  if the names of its files are labels (neg, pos), give --task classification"
    assert hint in use(path)
    messages = use(path, task="classification")
    assert messages[0].endswith("reviews: 60 rows of classification, 0 set aside")
    p = params.load()
    assert p.task == "classification"
    assert [(rule.metric, rule.versus) for rule in p.gate.rules] == [
        ("accuracy", "baseline"),
        ("matthews_corrcoef", "value"),
        ("accuracy", "champion"),
    ]


def test_the_present_task_stays_if_the_rows_fit_it(tmp_path: Path) -> None:
    path = tmp_path / "poems.jsonl"
    path.write_text(lines([poem(n) for n in range(60)]))
    messages = use(path, task="language-modeling")
    assert messages[0].endswith("60 rows of text, 0 set aside")
    assert messages[1] == "  1 file read as poem, from title, author, paragraphs"
    use(path)
    assert params.load().task == "language-modeling"


def test_an_empty_file_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "poems"
    folder.mkdir()
    (folder / "poems.jsonl").write_text(lines([poem(n) for n in range(60)]))
    (folder / "void.csv").touch()
    messages = use(folder)
    assert [line for line in messages if "read as" in line] == ["  1 file read as poem, from title, author, paragraphs"]
    assert f"  warning: {folder}/void.csv: is empty" in messages


def test_layout_documents_reads_one_row_per_file(tmp_path: Path) -> None:
    folder = tmp_path / "essays"
    folder.mkdir()
    for n in range(60):
        (folder / f"{n}.txt").write_text(f"{words(n)}\n\n{words(-n - 1)}\n")
    messages = use(folder, layout="documents")
    assert messages[0].endswith("essays: 60 rows of text, 0 set aside")
    assert params.load().data.layout == "documents"


def test_a_closed_output_pipe_does_not_stop_it_half_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tuneline.cli import main; main()", "use", str(pairs(tmp_path))]
    Path("mlflow").mkdir()
    Path("mlflow/tuneline.env").touch()
    reading, writing = os.pipe()
    os.close(reading)
    own = {name: value for name, value in os.environ.items() if name != "TUNELINE_ROOT"}
    subprocess.run(command, stdout=writing, check=False, env=own)
    os.close(writing)
    assert params.load().data.raw == "data/raw/faq"


def test_the_task_follows_from_the_rows(tmp_path: Path) -> None:
    def written(name: str, rows: list[dict[str, Any]]) -> Path:
        (tmp_path / name).write_text(lines(rows))
        return tmp_path / name

    def spoken(n: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": words(n)}, {"role": "assistant", "content": words(f"+{n}")}]

    sets = {
        "preference": [{"prompt": words(n), "chosen": words(f"+{n}"), "rejected": words(f"-{n}")} for n in range(60)],
        # The column of the question could also be read as a conversation.
        "preference-2": [
            {"messages": spoken(n)[:1], "chosen": words(f"+{n}"), "rejected": words(f"-{n}")} for n in range(60)
        ],
        "preference-3": [
            {"prompt": words(n), "completion": words(n), "chosen": words(f"+{n}"), "rejected": words(f"-{n}")}
            for n in range(60)
        ],
        "classification": [{"text": words(n), "label": "ab"[n % 2]} for n in range(60)],
        "sft": [{"messages": spoken(n)} for n in range(60)],
        "sft-2": [{"instruction": words(n), "input": "", "output": words(f"+{n}")} for n in range(60)],
        "language-modeling": [{"text": words(n)} for n in range(60)],
    }
    for present in ("sft", "preference", "language-modeling"):
        for name, rows in sets.items():
            plans = use_data.readers.plan(written(f"{name}.jsonl", rows), use_data.Options())
            task, _ = open_set.open_for_task(Path(name), plans, {}, None, None, None, present, is_new=True)
            assert task == name.removesuffix("-2").removesuffix("-3"), (present, name)
    # Stars can be classes or numbers, and poems can be pairs or text: the present task decides.
    stars = written("stars.jsonl", [{"text": words(n), "stars": n % 5} for n in range(60)])
    poems = written("poems.jsonl", [poem(n) for n in range(60)])
    scores = written("scores.jsonl", [{"text": words(n), "score": n / 7} for n in range(60)])
    for path, present, wanted in (
        (scores, "regression", "regression"),
        (scores, "sft", "language-modeling"),
        (stars, "regression", "regression"),
        (stars, "sft", "language-modeling"),
        (poems, "language-modeling", "language-modeling"),
        (poems, "classification", "sft"),
    ):
        plans = use_data.readers.plan(path, use_data.Options())
        assert open_set.open_for_task(path, plans, {}, None, None, None, present, is_new=True)[0] == wanted  # pyright: ignore[reportArgumentType]


def test_rows_of_the_next_month_keep_the_chosen_task(tmp_path: Path) -> None:
    rows = [{"text": words(n), "label": "ab"[n % 2]} for n in range(60)]
    path = tmp_path / "notes.jsonl"
    path.write_text(lines(rows))
    use(path, task="language-modeling")
    use(path)
    assert params.load().task == "language-modeling"


def test_a_compressed_file_gives_the_name_without_suffixes(tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl.gz"
    path.write_bytes(gzip.compress(pairs(tmp_path).read_bytes()))
    use(path)
    assert params.load().data.raw == "data/raw/faq"
