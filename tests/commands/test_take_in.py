import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_samples import conversation, lines, poem, words

from tuneline import params
from tuneline.commands.use import open_set, take_in
from tuneline.commands.use.open_set import ReadingArguments
from tuneline.core import files
from tuneline.data.preparing import splits
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import text_hash
from tuneline.errors import DataError, ParamsError
from tuneline.params import editing
from tuneline.stages import prepare


@pytest.fixture(scope="module")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty") / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=root)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, cwd=root)
    return root


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str, empty_project: Path) -> Path:
    root = tmp_path / "my project"
    shutil.copytree(empty_project, root)
    monkeypatch.chdir(root)
    Path("params.yaml").write_text(params_text, "utf-8")
    return root


def asked(n: int) -> dict[str, Any]:
    return {"question": f"{words(f'q{n}', 6)}?", "answer": words(f"a{n}", 10), "customer": f"c{n % 30}"}


def pairs(tmp_path: Path, count: int = 60, *more: str) -> Path:
    path = tmp_path / "faq.jsonl"
    path.write_text("\n".join([*(json.dumps(asked(n)) for n in range(count)), *more]) + "\n")
    return path


_READ = ("columns", "encoding", "layout", "exclude")


def _asked(more: dict[str, Any]) -> ReadingArguments:
    return ReadingArguments(**{key: more.pop(key) for key in _READ if key in more})


def use(path: Path, **more: Any) -> list[str]:
    return take_in.use(path, _asked(more), **more)


def mix(path: Path, **more: Any) -> list[str]:
    return take_in.mix(path, _asked(more), **more)


def test_a_file_becomes_the_raw_set_under_dvc(tmp_path: Path) -> None:
    said = use(pairs(tmp_path), group_by="customer")
    p = params.load()
    assert (p.task, p.data.raw, p.data.split.group_by) == ("sft", "data/raw/faq", "customer")
    assert p.registry.model == "faq"
    assert Path("data/raw/faq/faq.jsonl").read_bytes() == (tmp_path / "faq.jsonl").read_bytes()
    assert "md5" in Path("data/raw/faq.dvc").read_text()
    assert said[0].endswith("faq.jsonl: 60 rows of prompt-completion, 0 set aside")
    assert said[1] == "  1 file read as question, from question, answer"
    assert said[-1] == "next: make run"


def test_next_month_s_files_are_split_as_the_last_ones_were(tmp_path: Path) -> None:
    use(pairs(tmp_path), group_by="customer", columns={"prompt": "question", "completion": "answer"})
    before = Path("data/raw/faq.dvc").read_text()
    use(pairs(tmp_path, 80))
    assert Path("data/raw/faq.dvc").read_text() != before
    p = params.load()
    assert p.data.split.group_by == "customer"
    assert p.data.columns == {"prompt": "question", "completion": "answer"}


def test_a_file_of_next_month_that_is_read_before_the_last_one_is_told(tmp_path: Path) -> None:
    def month(name: str, number: int) -> None:
        rows = [{"text": words(f"{name} {n}"), "label": ("pos", "neg")[n % 2]} for n in range(60)]
        (folder / f"{number}-{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    folder = tmp_path / "tickets"
    folder.mkdir()
    month("setembro", 9)
    assert not any("read before" in line for line in use(folder, task="classification"))
    month("outubro", 10)
    month("novembro", 91)
    [warning] = [line for line in use(folder) if "read before" in line]
    assert warning.startswith("  warning: 10-outubro.jsonl: read before 9-setembro.jsonl, so rows of a label ")


def test_what_cleaning_will_leave_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    path = pairs(tmp_path, 200)
    rows = [json.dumps(asked(n % 4) | {"id": n}) for n in range(400)]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    said = use(path)
    [left] = [line for line in said if line.startswith("rows: ")]
    counts = {name: int(count) for name, count in re.findall(r"(train|validation|test) (\d+)", left)}
    assert f"rows: {sum(counts.values())} will be left (" in left
    assert left.endswith("; dropped: duplicate 400")
    assert sum(counts.values()) == 200
    [warning] = [line for line in said if "are left to train on" in line]
    assert warning.startswith(f"  warning: only {counts['train']} rows are left to train on, of about ")


def test_the_test_rows_of_next_month_are_told_by_what_the_last_month_s_came_to(tmp_path: Path) -> None:
    use(pairs(tmp_path, 100))
    Path("reports").mkdir()
    last = {"set": "data/raw/faq", "rows_in": 100, "rows": {"train": 60, "validation": 5, "test": 10}}
    Path("reports/prepare.json").write_text(json.dumps({"raw": last}))
    assert any(line.startswith("gate: with 20 test rows") for line in use(pairs(tmp_path, 200)))
    # Another set tells nothing of this one.
    for broken in ("", "[]", '{"raw": null}', json.dumps({"raw": last | {"rows": [1]}})):
        Path("reports/prepare.json").write_text(broken)
        assert any(line.startswith("gate: with 40 test rows") for line in use(pairs(tmp_path, 200)))
    Path("reports/prepare.json").write_text(json.dumps({"raw": last | {"set": "data/raw/other"}}))
    assert any(line.startswith("gate: with 40 test rows") for line in use(pairs(tmp_path, 200)))


def test_what_only_tells_of_the_data_is_left_out_now_and_next_month(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "docs").mkdir(parents=True)
    pairs(tmp_path).rename(folder / "faq.jsonl")
    (folder / "LICENSE").write_text("MIT License\n\nPermission is hereby granted\n")
    (folder / "docs" / "notes.md").write_text("# Notes\n")
    with pytest.raises(DataError, match=r"leave out what only tells of the data: --exclude LICENSE") as caught:
        use(folder, exclude=["*.md"])
    assert "text (LICENSE)" in str(caught.value)
    said = use(folder, exclude=["LICENSE", "*.md"])
    assert f"  warning: {folder}: 2 file(s) left out by LICENSE, *.md: LICENSE, docs/notes.md" in said
    assert params.load().data.exclude == ["LICENSE", "*.md"]
    assert [path.name for path in Path("data/raw/set").rglob("*") if path.is_file()] == ["faq.jsonl"]
    # The next month's files are read as these were; another set has its own.
    use(folder)
    assert params.load().data.exclude == ["LICENSE", "*.md"]
    use(pairs(tmp_path))
    assert params.load().data.exclude == []


def test_how_many_rows_may_be_set_aside_is_said_on_the_command_line(tmp_path: Path) -> None:
    path = pairs(tmp_path, 30, '{"question": "broken')
    said = use(path, max_rejected=0.05)
    assert "params.yaml: data.max_rejected_fraction: 0.05" in said
    assert params.load().data.max_rejected_fraction == 0.05
    use(path)
    assert params.load().data.max_rejected_fraction == 0.05


def test_many_files_that_are_refused_alike_are_one_line(tmp_path: Path) -> None:
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
    assert "27 more): is no JSON: a value is missing here; mend it" in broken


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"faq\.jsonl:61: json"):
        use(pairs(tmp_path, 60, '{"question": "broken'))
    with pytest.raises(DataError, match="has no column 'nobody'"):
        use(pairs(tmp_path), group_by="nobody")
    with pytest.raises(DataError, match="is no encoding that Python knows"):
        use(pairs(tmp_path), encoding="utf9")
    with pytest.raises(DataError, match="is no encoding that Python knows"):
        mix(pairs(tmp_path), name="more", weight=0.5, encoding="rot13")
    with pytest.raises(DataError, match="belongs to the built-in corpus"):
        use(pairs(tmp_path), name="python-docstrings")
    with pytest.raises(DataError, match="--task poetry: is no task; give one of sft, language-modeling"):
        use(pairs(tmp_path), task="poetry")
    with pytest.raises(DataError, match="holds prompt-completion rows, but classification rows are needed"):
        use(pairs(tmp_path), task="classification")
    with pytest.raises(DataError, match="is no name for a folder"):
        use(pairs(tmp_path), name="../escape")
    with pytest.raises(DataError, match=r"no file is left to read: 1 file\(s\) left out by \*: faq\.jsonl"):
        use(pairs(tmp_path), exclude=["*"])
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
        (folder / f"{number}.txt").write_text("\0text" if number == 7 else words(number))
    for name in ("good.jsonl", "lost.jsonl"):
        (folder / name).unlink()
    assert use(folder, layout="documents")[0].endswith("199 rows of text, 1 set aside")


def verse(n: int) -> str:
    return "".join(poem(n)["paragraphs"])


def test_plain_chinese_text_is_a_language_model_s(tmp_path: Path) -> None:
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


def reviews(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    for label in ("pos", "neg"):
        (folder / f"{label}.txt").write_text("".join(f"{words(f'{label} {n}')}\n" for n in range(30)), "utf-8")
    return folder


def test_the_task_decides_what_is_read(tmp_path: Path) -> None:
    path = reviews(tmp_path)
    hint = "  the names of its files could be labels (neg, pos): if they are, give --task classification"
    assert hint in use(path)
    said = use(path, task="classification")
    assert said[0].endswith("reviews: 60 rows of classification, 0 set aside")
    p = params.load()
    assert p.task == "classification"
    assert [(rule.metric, rule.versus) for rule in p.gate.rules] == [
        ("accuracy", "baseline"),
        ("matthews_corrcoef", "value"),
        ("accuracy", "champion"),
    ]


def test_the_present_task_is_kept_where_the_rows_fit_it(tmp_path: Path) -> None:
    path = tmp_path / "poems.jsonl"
    path.write_text(lines([poem(n) for n in range(60)]))
    said = use(path, task="language-modeling")
    assert said[0].endswith("60 rows of text, 0 set aside")
    assert said[1] == "  1 file read as poem, from title, author, paragraphs"
    use(path)
    assert params.load().task == "language-modeling"


def test_an_empty_file_is_a_warning_and_no_way_to_read(tmp_path: Path) -> None:
    folder = tmp_path / "poems"
    folder.mkdir()
    (folder / "poems.jsonl").write_text(lines([poem(n) for n in range(60)]))
    (folder / "void.csv").touch()
    said = use(folder)
    assert [line for line in said if "read as" in line] == ["  1 file read as poem, from title, author, paragraphs"]
    assert f"  warning: {folder}/void.csv: is empty" in said


def test_documents_are_kept_whole(tmp_path: Path) -> None:
    folder = tmp_path / "essays"
    folder.mkdir()
    for n in range(60):
        (folder / f"{n}.txt").write_text(f"{words(n)}\n\n{words(-n - 1)}\n")
    said = use(folder, layout="documents")
    assert said[0].endswith("essays: 60 rows of text, 0 set aside")
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
    said = mix(pairs(tmp_path), name=None, weight=0.5)
    assert said[0].endswith("faq.jsonl: 60 rows of prompt-completion, 0 set aside")
    assert said[-2:] == ["params.yaml: data.mixture: {faq: {weight: 0.5}}", "next: make run"]
    assert "md5" in Path("data/mixture/faq.dvc").read_text()
    notes = tmp_path / "notes.txt"
    notes.write_text("a line\nanother one\n")
    mix(notes, name="general", weight=0.1)
    mix(pairs(tmp_path, 40), name=None, weight=2.0)
    p = params.load()
    assert {name: one.weight for name, one in p.data.mixture.items()} == {"faq": 2.0, "general": 0.1}
    assert (p.data.raw, p.task, p.registry) == (before.data.raw, before.task, before.registry)


def test_what_cannot_be_mixed_in_changes_nothing(tmp_path: Path) -> None:
    before = Path("params.yaml").read_text("utf-8")
    with pytest.raises(DataError, match=r"^data/mixture/pretraining: is no name for a set of a mixture"):
        mix(pairs(tmp_path), name="pretraining", weight=1.0)
    with pytest.raises(DataError, match=r"faq\.jsonl:61: json"):
        mix(pairs(tmp_path, 60, '{"question": "broken'), name=None, weight=1.0)
    with pytest.raises(DataError, match=r"^data/mixture/faq\.dvc: is no name for a set of a mixture"):
        mix(pairs(tmp_path), name="faq.dvc", weight=1.0)
    with pytest.raises(DataError, match=r"^--mix: 5000: input should be less than or equal to 1000"):
        mix(pairs(tmp_path), name=None, weight=5000.0)
    assert Path("params.yaml").read_text("utf-8") == before
    assert not Path("data/mixture").exists()
    use(reviews(tmp_path), task="classification")
    with pytest.raises(DataError, match=r"^--mix: has no meaning for task classification"):
        mix(pairs(tmp_path), name=None, weight=1.0)


def test_a_set_of_a_mixture_has_its_own_encoding_and_columns(tmp_path: Path) -> None:
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


def test_another_task_leaves_behind_what_does_not_go_with_it(tmp_path: Path) -> None:
    mix(pairs(tmp_path), name=None, weight=1.0)
    use(reviews(tmp_path), task="classification")
    assert params.load().data.mixture == {}


def test_another_set_is_told_what_holds_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "alt.jsonl"
    rows = [{"prompt": f"caf\u00e9 {words(n)}?", "completion": words(-n - 1)} for n in range(60)]
    path.write_text(lines(rows), "latin-1")
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
    labels.write_text("text,label\n" + "".join(f"{words(n)},{'ab'[n % 2]}\n" for n in range(60)))
    use(labels, encoding="utf-8")
    assert params.load().task == "classification"


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


def test_the_task_is_what_the_rows_show(tmp_path: Path) -> None:
    def written(name: str, rows: list[dict[str, Any]]) -> Path:
        (tmp_path / name).write_text(lines(rows))
        return tmp_path / name

    def spoken(n: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": words(n)}, {"role": "assistant", "content": words(f"+{n}")}]

    sets = {
        "preference": [{"prompt": words(n), "chosen": words(f"+{n}"), "rejected": words(f"-{n}")} for n in range(60)],
        # Beside the answers the question stands in a column that a conversation could be read from.
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
            plans = take_in.readers.plan(written(f"{name}.jsonl", rows), take_in.Options())
            task, _ = open_set.open_for_task(Path(name), plans, {}, None, None, None, present, is_new=True)
            assert task == name.removesuffix("-2").removesuffix("-3"), (present, name)
    # Stars may be classes or numbers, and a poem may be written or read on: then the present task decides.
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
        plans = take_in.readers.plan(path, take_in.Options())
        assert open_set.open_for_task(path, plans, {}, None, None, None, present, is_new=True)[0] == wanted  # pyright: ignore[reportArgumentType]


def test_next_month_s_rows_keep_the_task_that_was_asked_for(tmp_path: Path) -> None:
    rows = [{"text": words(n), "label": "ab"[n % 2]} for n in range(60)]
    path = tmp_path / "notes.jsonl"
    path.write_text(lines(rows))
    use(path, task="language-modeling")
    use(path)
    assert params.load().task == "language-modeling"


def test_no_rule_of_the_gate_is_lost_when_the_task_changes(tmp_path: Path) -> None:
    own = {"metric": "chrf", "direction": "higher", "versus": "value", "value": 20.0, "margin": 0.0}
    editing.set_values(Path("params.yaml"), {"gate.rules": [own]})
    said = use(reviews(tmp_path), task="classification")
    assert "  gate.rules: 1 of another task (sft) are kept, and wait until it is chosen again" in said
    p = params.load()
    assert [(rule.metric, rule.versus) for rule in p.rules] == [
        ("accuracy", "baseline"),
        ("matthews_corrcoef", "value"),
        ("accuracy", "champion"),
    ]
    use(pairs(tmp_path))
    p = params.load()
    assert [rule.model_dump(exclude_none=True) for rule in p.gate.rules] == [own]
    assert "    - {metric: chrf, direction: higher, versus: value, value: 20.0, margin: 0.0}" in Path(
        "params.yaml"
    ).read_text("utf-8")


def test_what_was_set_by_hand_stays_and_is_said(tmp_path: Path) -> None:
    editing.set_values(Path("params.yaml"), {"finetune.learning_rate": 0.0123})
    said = use(reviews(tmp_path), task="classification")
    p = params.load()
    assert p.finetune.learning_rate == 0.0123
    assert p.finetune.num_train_epochs > 1
    assert [line for line in said if "finetune.learning_rate stays 0.0123, which was set by hand" in line]


def test_the_base_reads_the_set_s_own_training_text_once(tmp_path: Path) -> None:
    path = pairs(tmp_path, 200)
    use(path)
    p = params.load()
    assert (p.data.pretraining, p.data.frozen_pretraining) == ("data/raw/faq-pretraining", True)
    text = Path("data/raw/faq-pretraining")
    learnt = [json.loads(line)["text"] for line in (text / "train.jsonl").read_text().splitlines()]
    assert asked(0)["question"] + asked(0)["answer"] in learnt or len(learnt) < 200
    for name in ("raw.ok", "clean.ok"):
        files.write_text(Path("reports") / name, "")
    prepare.main(p)
    held_out = files.read_parquet(Path("data/clean/test")).to_pylist()
    assert len(held_out) > 20
    assert not {row["prompt"] + row["completion"] for row in held_out} & set(learnt)
    base = files.sha256_tree(Path("data/pretraining"))

    # Next month: more rows, and a new one, of a group that is held out, whose answer the base has read.
    given_away = asked(0) | {"question": next_held_out(p)}
    (tmp_path / "faq.jsonl").write_text(lines([*(asked(n) for n in range(300)), given_away]))
    before = files.sha256_tree(text)
    said = use(path)
    assert any("the training text of the first use of this set" in line for line in said)
    assert files.sha256_tree(text) == before
    prepare.main(params.load())
    assert files.sha256_tree(Path("data/pretraining")) == base
    later = files.read_parquet(Path("data/clean/test")).to_pylist()
    assert {row["id"] for row in held_out} <= {row["id"] for row in later}
    assert len(later) > len(held_out)
    assert given_away["question"] not in {row["prompt"] for row in later}
    assert files.read_json(Path("reports/prepare.json"))["raw"]["dropped"]["pretraining"] == 1


def test_a_use_in_vain_leaves_nothing_and_the_next_one_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        lines([{"prompt": words(n), "chosen": f" {words(f'+{n}')}", "rejected": words(f"-{n}")} for n in range(60)])
    )
    usual = Path("params.yaml").read_text()
    smoothed = usual.replace("\n  max_grad_norm:", "\n  label_smoothing_factor: 0.1\n  max_grad_norm:")
    Path("params.yaml").write_text(smoothed)
    with pytest.raises(ParamsError) as refused:
        use(path)
    assert refused.value.problems[0].startswith("params.yaml: finetune.label_smoothing_factor: ")
    assert Path("params.yaml").read_text() == smoothed
    assert list(Path("data/raw").glob("*answers*")) == []
    # As a killed process leaves it.
    text = Path("data/raw/answers-pretraining/train.jsonl")
    files.write_text(text, "")
    Path("params.yaml").write_text(usual)
    said = use(path)
    assert any("pretrained here on the set's own training text" in line for line in said)
    assert text.read_text()


def next_held_out(p: params.Params) -> str:
    """A question that is held out by its own hash."""
    shares = p.data.split
    questions = [f"{words(f'new {n}', 5)}?" for n in range(100)]
    groups = np.array([text_hash(cleaning.key(question)) for question in questions], np.uint64)
    found = splits.by_hash(splits.split_numbers(groups, shares.seed), validation=shares.validation, test=shares.test)
    return questions[found.tolist().index(2)]


def test_the_text_of_a_dialogue_and_of_a_preference_is_what_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(lines([conversation(n) for n in range(60)]))
    use(path)
    first = json.loads(Path("data/raw/chats-pretraining/train.jsonl").read_text().splitlines()[0])["text"]
    assert first.startswith("Tools:\n")
    assert "User:\n" in first
    assert "Assistant:\n" in first
    assert "<|endoftext|>" not in first
    path = tmp_path / "preferences.jsonl"
    rows = [{"prompt": words(n), "chosen": f" {words(f'+{n}')}", "rejected": words(f"-{n}")} for n in range(60)]
    path.write_text(lines(rows))
    use(path)
    written = Path("data/raw/preferences-pretraining/train.jsonl").read_text()
    texts = [json.loads(line)["text"] for line in written.splitlines()]
    assert set(texts) <= {row["prompt"] + row["chosen"] for row in rows}


def test_a_base_of_one_s_own_reads_nothing_here(tmp_path: Path) -> None:
    editing.set_values(Path("params.yaml"), {"base.source": "path", "base.input": "models/mine"})
    said = use(reviews(tmp_path), task="classification")
    p = params.load()
    assert (p.data.pretraining, p.data.frozen_pretraining) == ("data/raw/python-text", False)
    assert not list(Path("data/raw").glob("*-pretraining*"))
    assert "base: the model in models/mine (base.source: path)" in said
    assert p.finetune.learning_rate == 3e-5


def test_a_packed_file_is_named_as_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl.gz"
    path.write_bytes(gzip.compress(pairs(tmp_path).read_bytes()))
    use(path)
    assert params.load().data.raw == "data/raw/faq"


def test_what_cannot_be_mixed_in_says_what_can(tmp_path: Path) -> None:
    path = tmp_path / "better.jsonl"
    path.write_text(lines([{"prompt": words(n), "chosen": "a", "rejected": "b"} for n in range(9)]))
    with pytest.raises(DataError) as caught:
        mix(path, name=None, weight=1.0)
    assert str(caught.value) == (
        f"{path}: holds preference rows, and only pairs, conversations and plain text may be mixed in; make it the raw "
        f"set instead (`tuneline use {path}`), or bring what is to be learnt as a column `text`, or as `prompt` and "
        "`completion`"
    )
