"""`tuneline predict`: labels and numbers for texts of every origin, in their order."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from registered import LABELS, MAX_LENGTH, VERSIONS, Shell, table

from tuneline import params
from tuneline.commands.ask import answer_files
from tuneline.commands.ask.inputs import Input
from tuneline.core import files
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.registry import tracking, versions


def probabilities(text: str) -> dict[str, float]:
    """Label -> probability, computed with the registered model and without the tested code."""
    folder = versions.fetch_version(tracking.connect(), params.load().registry.model, "1")
    model, tokenizer = models.load_classifier(folder)
    ids = tokenizer(text)["input_ids"][:MAX_LENGTH]  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids])).logits[0].softmax(0)
    return dict(zip(LABELS, found.tolist(), strict=True))


def test_a_text_gets_a_label_and_stderr_names_the_version(shell: Shell) -> None:
    ran = shell.run("predict", "Where is my parcel?")
    assert ran.exit_code == 0, ran.stderr
    [row] = table(ran.stdout)
    wanted = probabilities("Where is my parcel?")
    assert row["text"] == "Where is my parcel?"
    assert row["label"] == max(wanted, key=wanted.__getitem__)
    assert float(row["probability"]) == pytest.approx(max(wanted.values()), abs=1e-4)
    assert ran.stderr == "asked version 1 (champion) answers: one of 3 labels\n"


def test_all_labels_and_top_k_add_probabilities(shell: Shell) -> None:
    ran = shell.run("predict", "--format", "jsonl", "--all-labels", "Where is my parcel?")
    row = json.loads(ran.stdout)
    assert {one["label"]: one["probability"] for one in row["labels"]} == pytest.approx(
        probabilities("Where is my parcel?"), abs=1e-4
    )
    assert [one["probability"] for one in row["labels"]] == sorted(
        (one["probability"] for one in row["labels"]), reverse=True
    )
    two = json.loads(shell.run("predict", "--format", "jsonl", "--top-k", "2", "Where is my parcel?").stdout)
    assert two["labels"] == row["labels"][:2]


def test_rows_of_a_file_keep_columns_and_order(shell: Shell) -> None:
    texts = ["Where is my parcel? " * (7 - number % 7) + str(number) for number in range(50)]
    rows = [{"id": number, "review": text, "label": "old"} for number, text in enumerate(texts)]
    shell.write("reviews.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    ran = shell.run("predict", "reviews.jsonl", "--output", "out.csv")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout == ""
    made = table((shell.root / "out.csv").read_text())
    assert list(made[0]) == ["source", "id", "review", "input_label", "label", "probability", "error"]
    assert [row["id"] for row in made] == [str(number) for number in range(50)]
    assert [row["source"] for row in made[:2]] == ["reviews.jsonl:1", "reviews.jsonl:2"]
    assert {row["input_label"] for row in made} == {"old"}
    for number in (0, 6, 49):
        wanted = probabilities(texts[number])
        assert made[number]["label"] == max(wanted, key=wanted.__getitem__)
    cut = sum(len(text) > 0 and number % 7 < 6 for number, text in enumerate(texts))
    assert f"of 50 texts are longer than {MAX_LENGTH} tokens; the model did not see their end" in ran.stderr
    assert cut


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", "id,text\n1,a b\n2,c d\n"),
        ("rows.tsv", "id\ttext\n1\ta b\n2\tc d\n"),
        ("rows.json", '[{"id": 1, "text": "a b"}, {"id": 2, "text": "c d"}]'),
        ("rows.txt", "a b\nc d\n"),
        ("folder/one.txt", "a b\nc d\n"),
    ],
)
def test_every_input_format_gives_the_same_answers(name: str, data: str, shell: Shell) -> None:
    shell.write(name, data)
    ran = shell.run("predict", name.partition("/")[0] if "/" in name else name)
    assert ran.exit_code == 0, ran.stderr
    rows = table(ran.stdout)
    single = [table(shell.run("predict", text).stdout)[0] for text in ("a b", "c d")]
    assert [(row["label"], row["probability"]) for row in rows] == [
        (row["label"], row["probability"]) for row in single
    ]


def test_parquet_is_written_and_read(shell: Shell) -> None:
    shell.write("rows.csv", "id,text\n1,a b\n2,c d\n")
    assert shell.run("predict", "rows.csv", "--output", "made.parquet", "--all-labels").exit_code == 0
    made = pq.read_table("made.parquet")
    assert made.column_names == ["source", "id", "text", "label", "probability", "labels", "error"]
    assert made["id"].to_pylist() == ["1", "2"]
    assert [len(labels) for labels in made["labels"].to_pylist()] == [3, 3]
    again = shell.run("predict", "made.parquet", "--format", "jsonl")
    rows = [json.loads(line) for line in again.stdout.splitlines()]
    assert [row["label"] for row in rows] == made["label"].to_pylist()
    assert [row["input_label"] for row in rows] == made["label"].to_pylist()
    assert rows[0]["input_source"] == "rows.csv:2"


def test_standard_input_is_read_like_a_file(shell: Shell) -> None:
    lines = shell.run("predict", stdin="a b\nc d\n")
    assert [row["text"] for row in table(lines.stdout)] == ["a b", "c d"]
    records = shell.run("predict", "-", stdin='{"text": "a b"}\n{"text": "c d"}\n')
    assert [row["label"] for row in table(records.stdout)] == [row["label"] for row in table(lines.stdout)]
    whole = shell.run("predict", "--layout", "documents", stdin="a b\nc d\n")
    assert [row["text"] for row in table(whole.stdout)] == ["a b\nc d\n"]
    commas = shell.run("predict", "--layout", "rows", stdin="well, yes\nwell, no\n")
    assert [row["text"] for row in table(commas.stdout)] == ["well, yes", "well, no"]


def test_several_labels_are_those_above_the_threshold(shell: Shell) -> None:
    arguments = ["predict", "--version", str(VERSIONS["several"]), "--format", "jsonl"]
    everything = json.loads(shell.run(*arguments, "--all-labels", "a b").stdout)
    of_label = {one["label"]: one["probability"] for one in everything["labels"]}
    assert set(of_label) == set(LABELS)
    assert everything["label"] == [label for label, chance in of_label.items() if chance > 0.5]
    assert everything["probability"] == [of_label[label] for label in everything["label"]]
    strict = json.loads(shell.run(*arguments, "--threshold", "1", "a b").stdout)
    assert strict["label"] == strict["probability"] == []


def test_a_regression_gives_a_number(shell: Shell) -> None:
    ran = shell.run("predict", "--version", str(VERSIONS["regression"]), "a b")
    [row] = table(ran.stdout)
    assert list(row) == ["text", "number"]
    float(row["number"])
    assert ran.stderr == "asked version 3 answers: a number\n"
    refused = shell.run("predict", "--version", str(VERSIONS["regression"]), "--all-labels", "a b")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "--top-k, --all-labels: asked version 3 gives numbers, not labels\n",
    )


def test_unusable_rows_stay_in_place_with_a_reason(shell: Shell) -> None:
    shell.write(
        "odd.jsonl", '{"text": "a b"}\n{"text": ""}\n{broken\n{"text": 7}\n{"text": "c\\u0000d"}\n{"text": "\\u0007"}\n'
    )
    ran = shell.run("predict", "odd.jsonl")
    assert ran.exit_code == 0, ran.stderr
    rows = table(ran.stdout)
    assert [row["source"] for row in rows] == [f"odd.jsonl:{number}" for number in range(1, 7)]
    assert [bool(row["label"]) for row in rows] == [True, False, False, False, True, False]
    assert [row["error"].partition(":")[0] for row in rows] == ["", "empty", "json", "not-text", "", "empty"]
    assert "warning: 4 of 6 rows cannot be used (empty 2, json 1, not-text 1); the first:" in ran.stderr
    assert "  odd.jsonl:2: empty: text is empty" in ran.stderr


def test_an_input_without_a_usable_row_is_an_error(shell: Shell) -> None:
    shell.write("empty.jsonl", '{"text": ""}\n')
    ran = shell.run("predict", "empty.jsonl")
    assert ran.exit_code == 1
    assert "the only row cannot be used" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["predict"], "", "standard input is empty; give a TEXT, a PATH, or standard input"),
        (["predict", "  "], None, "the text is empty"),
        (["predict", ""], None, "the text is empty"),
        (
            ["predict", "nowhere.csv"],
            None,
            "nowhere.csv: no such file; to use this text itself, give --text nowhere.csv",
        ),
        (["predict", "--input", "nowhere"], None, "nowhere: no such file or folder"),
        (["predict"], b"\xff\xfe\x00\x01binary\x00", "standard input"),
        (["predict", "--output", "no/such/out.csv", "a"], None, "the folder no/such does not exist"),
        (["predict", "--output", "out.xlsx", "a"], None, "its suffix is not one of .csv, .jsonl, .ndjson, .parquet"),
        (["predict", "--output", "mlflow", "a"], None, "--output mlflow: is a folder"),
        (["predict", "--output", "/dev/null", "--format", "csv", "a"], None, "/dev/null: is not a regular file"),
        (["predict", "--output", "/proc/out.csv", "a"], None, "--output /proc/out.csv: cannot be written: "),
        (["predict", "--version", "99", "a"], None, "version 99: is not in the registry"),
        (["predict", "--alias", "nobody", "a"], None, "no version is nobody yet"),
        (
            ["predict", "--version", "4", "a"],
            None,
            "writes text, not labels or numbers; use: tuneline generate --version 4 PROMPT",
        ),
        (["predict", "--threshold", "0.9", "a"], None, "--threshold: asked version 1 does not give several labels"),
    ],
)
def test_every_refusal_is_one_line(arguments: list[str], stdin: str | bytes | None, message: str, shell: Shell) -> None:
    ran = shell.run(*arguments, stdin=stdin)
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_several_texts_are_refused_with_the_way_to_give_them(shell: Shell) -> None:
    for command, what in (("predict", "TEXT"), ("generate", "PROMPT")):
        ran = shell.run(command, "very", "good")
        assert ran.exit_code != 0
        assert f"2 arguments are given where one {what} is read; put quotes around" in ran.stderr
        assert "--input FILE" in ran.stderr


def test_a_pipe_or_a_device_is_never_replaced_by_a_file(shell: Shell) -> None:
    os.mkfifo(shell.root / "pipe.csv")
    ran = shell.run("predict", "--output", "pipe.csv", "a")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "--output pipe.csv: is not a regular file" in ran.stderr
    assert (shell.root / "pipe.csv").is_fifo()


def test_output_through_a_link_writes_its_target(shell: Shell) -> None:
    (shell.root / "latest.csv").symlink_to(shell.write("of may.csv", "before\n"))
    ran = shell.run("predict", "--output", "latest.csv", "a")
    assert ran.exit_code == 0, ran.stderr
    assert (shell.root / "latest.csv").is_symlink()
    assert (shell.root / "of may.csv").read_text().startswith("text,label")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_the_error_of_a_full_disk_names_the_output_file(shell: Shell) -> None:
    with (
        pytest.raises(OSError, match="No space left") as raised,
        answer_files.writing(
            shell.root / "full.csv", "jsonl", answer_files.Table(Input((), False, lambda: iter(())), {})
        ),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert raised.value.filename == str(shell.root / "full.csv")
    assert not (shell.root / "full.csv").exists()


def test_column_names_cannot_control_the_terminal(shell: Shell) -> None:
    shell.write("steering.csv", "first\x1b]0;title\x07,second\x1b[2J\n1,2\n")
    ran = shell.run("predict", "steering.csv")
    assert ran.exit_code == 1
    assert "first\\x1b]0;title\\x07, second\\x1b[2J" in ran.stderr


def test_a_missing_column_lists_the_columns_found(shell: Shell) -> None:
    shell.write("other.csv", "number,remark\n1,a b\n")
    ran = shell.run("predict", "other.csv")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines()[-1] == (
        "other.csv: columns found: number, remark; name the column that holds the text, for example "
        "--column text=remark"
    )
    # The longest text is likely, wherever its column is.
    shell.write("mail.csv", "id,date,message,topic\nA-1,2026-11-12,where is my parcel today,parcel\n")
    assert shell.run("predict", "mail.csv").stderr.endswith("for example --column text=message\n")
    wrong = shell.run("predict", "other.csv", "--column", "text=remarks")
    assert "other.csv: has no column 'remarks', which --column names; did you mean remark?" in wrong.stderr
    assert shell.run("predict", "other.csv", "--column", "text=remark").exit_code == 0


def test_another_encoding_is_suggested_and_can_be_given(shell: Shell) -> None:
    shell.write("latin.csv", "id,text\n1,Grüße aus Köln und schöne Tage\n".encode("cp1252"))
    ran = shell.run("predict", "latin.csv")
    # params.yaml does not define these files, so only the option is suggested.
    assert (
        "latin.csv: 1 line(s) are not utf-8; it looks like cp1252: if that is right, give `--encoding cp1252`"
        in ran.stderr
    )
    assert "data.encoding" not in ran.stderr
    good = shell.run("predict", "latin.csv", "--encoding", "cp1252")
    assert table(good.stdout)[0]["text"] == "Grüße aus Köln und schöne Tage"
    assert "the CSV that is written has commas and is UTF-8 (the input: cp1252)" in good.stderr


@pytest.fixture
def raw_in_cp1252(shell: Shell) -> Iterator[Path]:
    """The raw set of the project in cp1252, which params.yaml sets as its encoding."""
    written = (shell.root / "params.yaml").read_text("utf-8")
    editing.set_values(shell.root / "params.yaml", {"data.raw": "data/raw/mine", "data.encoding": "cp1252"})
    yield shell.write("data/raw/mine/latin.csv", "id,text\n1,Grüße aus Köln und schöne Tage\n".encode("cp1252")).parent
    files.write_text(shell.root / "params.yaml", written)


def test_a_file_of_a_set_is_read_with_its_encoding_of_params_yaml(shell: Shell, raw_in_cp1252: Path) -> None:
    for path in (raw_in_cp1252, "data/raw/mine/latin.csv"):
        ran = shell.run("predict", str(path))
        assert table(ran.stdout)[0]["text"] == "Grüße aus Köln und schöne Tage"
    asked = shell.run("predict", str(raw_in_cp1252), "--encoding", "utf-8")
    guess = "it looks like cp1252, as other files of this project: if that is right, give `--encoding cp1252`"
    assert f"1 line(s) are not utf-8; {guess}" in asked.stderr
    shell.write("elsewhere.csv", "id,text\n1,Grüße\n".encode("cp1252"))
    assert "are not utf-8" in shell.run("predict", "elsewhere.csv").stderr


def test_a_note_says_that_the_csv_has_other_separators_than_the_input(shell: Shell) -> None:
    shell.write("excel.csv", "id;text\n1;a good day\n2;a bad one\n")
    ran = shell.run("predict", "excel.csv", "--output", "out.csv")
    assert "the CSV that is written has commas and is UTF-8 (the input: ';' between columns)" in ran.stderr
    assert Path("out.csv").read_text("utf-8").startswith("source,id,text,label")
    assert "CSV that is written" not in shell.run("predict", "excel.csv", "--output", "out.jsonl").stderr
    shell.write("usual.csv", "id,text\n1,a good day\n2,a bad one\n")
    assert "CSV that is written" not in shell.run("predict", "usual.csv").stderr


def test_a_failure_keeps_the_previous_output_file(shell: Shell) -> None:
    shell.write("kept.csv", "as it was")
    shell.write("bad.csv", "number,remark\n1,a\n")
    assert shell.run("predict", "bad.csv", "--output", "kept.csv").exit_code == 1
    assert Path("kept.csv").read_text() == "as it was"
    assert not list(shell.root.glob(".kept*"))
