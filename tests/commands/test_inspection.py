"""The reports of `tuneline inspect`, for programs and for people."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tuneline.cli import cli
from tuneline.commands import inspection
from tuneline.commands.use import suggested_values
from tuneline.core import files
from tuneline.data.profiling.profile import Settings
from tuneline.params import editing

ROWS = """{"prompt": "p", "completion": "Dear {{name}}"}
{
{"prompt": "p"}
{"prompt": "p", "completion": "c"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No project: three files, of which one is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jsonl").write_text(ROWS)
    (tmp_path / "set" / "b.csv").write_text("prompt,completion\nq,a\n")
    (tmp_path / "set" / "c.pdf").write_bytes(b"%PDF-1.7")
    return tmp_path


def test_the_report_for_programs(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["inspect", "set", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "files": [
            {
                "path": "set/a.jsonl",
                "format": "jsonl",
                "encoding": "utf-8",
                "record_type": "prompt-completion",
                "rows": 4,
                "accepted": 2,
                "shapes": {"pair": 3},
                "columns": ["prompt", "completion"],
                "rejected": [
                    {
                        "line": 2,
                        "offset": 47,
                        "reason": "json",
                        "detail": "Expecting property name enclosed in double quotes at character 1",
                    },
                    {"line": 3, "offset": 49, "reason": "missing", "detail": "completion is missing"},
                ],
                "reasons": {"json": 1, "missing": 1},
                "damaged": {},
                "warnings": [
                    "1 row(s) contain an unfilled placeholder, such as a.jsonl:1: {{name}}; fill it, or the model "
                    "learns to write "
                    "it"
                ],
                "verdict": "accepted with rows set aside",
                "message": None,
            },
            {
                "path": "set/b.csv",
                "format": "csv",
                "encoding": "utf-8",
                "record_type": "prompt-completion",
                "rows": 1,
                "accepted": 1,
                "shapes": {"pair": 1},
                "columns": ["prompt", "completion"],
                "rejected": [],
                "reasons": {},
                "damaged": {},
                "warnings": [],
                "verdict": "accepted",
                "message": None,
            },
            {
                "path": "set/c.pdf",
                "format": None,
                "encoding": None,
                "record_type": None,
                "rows": 0,
                "accepted": 0,
                "shapes": {},
                "columns": [],
                "rejected": [],
                "reasons": {},
                "damaged": {},
                "warnings": [],
                "verdict": "refused",
                "message": "set/c.pdf: is a PDF: extract its text with `pdftotext`",
            },
        ],
        "sets": [
            {
                "path": "set",
                "record_type": "prompt-completion",
                "rows": 3,
                "looked_at": 3,
                "duplicates": {
                    "rows": 3,
                    "threshold": 0.7,
                    "exact": 0,
                    "near": 0,
                    "exact_examples": [],
                    "near_examples": [],
                },
                "lengths": {
                    "bytes_per_token": 4,
                    "unit": "tokens",
                    "tokenizer": None,
                    "rows": 3,
                    "median": 1,
                    "quantile_90": 4,
                    "quantile_99": 4,
                    "longest": 4,
                    "max_length": None,
                    "over_max_length": None,
                },
                "scripts": {"Latin": 1.0},
                "secrets": {},
            }
        ],
        "totals": {
            "files": 3,
            "refused": 1,
            "empty": 0,
            "excluded": [],
            "rows": 5,
            "accepted": 3,
            "problems": [],
            "warnings": ["set: 3 rows are too few as a raw set: " + suggested_values.few_rows_advice(0.2)],
        },
    }


def test_the_report_for_people(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["inspect", "set"])
    assert done.stdout.splitlines()[:5] == [
        "verdict                       rows  set aside  format  encoding  record type        file",
        "accepted with rows set aside     4          2  jsonl   utf-8     prompt-completion  set/a.jsonl",
        "    set aside: json 1, missing 1",
        "    set/a.jsonl:2 (byte 47): json: Expecting property name enclosed in double quotes at character 1",
        "    set/a.jsonl:3 (byte 49): missing: completion is missing",
    ]
    assert done.stdout.splitlines()[-1] == "3 file(s), 1 refused; 5 rows, 2 set aside"


def test_the_exit_code_is_0_if_all_files_can_be_used(folder: Path) -> None:
    assert CliRunner().invoke(cli, ["inspect", "set/a.jsonl", "set/b.csv"]).exit_code == 0
    (folder / "gbk.csv").write_text("问,答\n很好,谢谢\n", "gb18030")
    refused = CliRunner().invoke(cli, ["inspect", "gbk.csv"])
    assert (refused.exit_code, "--encoding gb18030" in refused.stdout) == (1, True)
    arguments = ["inspect", "gbk.csv", "--encoding", "gb18030", "--column", "prompt=问", "--column", "completion=答"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert CliRunner().invoke(cli, ["inspect", "set", "--column", "prompt"]).exit_code == 2


def test_a_set_of_several_types_and_a_set_without_rows_are_not_usable(folder: Path) -> None:
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    (folder / "mixed" / "b.jsonl").write_text('{"text": "t"}\n')
    report = inspection.inspect([Path("mixed")], inspection.How())
    assert [file["verdict"] for file in report["files"]] == ["accepted", "accepted"]
    assert "mixed: the files contain rows of several types" in report["totals"]["problems"][0]
    assert not inspection.is_usable(report)
    (folder / "none.txt").write_text("")
    report = inspection.inspect([Path("none.txt")], inspection.How())
    assert report["files"][0]["verdict"] == "empty"
    assert report["files"][0]["warnings"] == ["is empty"]
    assert report["files"][0]["message"] == ("none.txt: has no rows; add rows, or exclude it with `--exclude`")
    assert report["totals"]["problems"] == ["none.txt: has no rows in its 1 file(s); add rows"]


def test_a_label_in_a_name_is_reported(folder: Path) -> None:
    for label in ("ham", "spam"):
        (folder / "mails" / label).mkdir(parents=True)
        (folder / "mails" / label / "1.txt").write_text("text\n")
    report = inspection.inspect([Path("mails")], inspection.How())
    assert report["files"][1]["warnings"] == ["the label 'spam' in its name is used with `task: classification`"]


def test_names_and_labels_cannot_control_the_terminal(folder: Path) -> None:
    (folder / "\x1b[31mred.txt").write_text("row\n")
    done = CliRunner().invoke(cli, ["inspect", "\x1b[31mred.txt"])
    assert "\x1b" not in done.stdout
    assert "rename it" in done.stdout
    (folder / "labels.csv").write_text("text,label\na b,\x1b[31mred\nc d,blue\n")
    done = CliRunner().invoke(cli, ["inspect", "labels.csv"])
    assert "\\x1b[31mred 1" in done.stdout
    assert "\x1b" not in done.stdout


def test_in_a_project_the_files_are_read_as_params_yaml_says(folder: Path, params_text: str) -> None:
    (folder / "mlflow").mkdir()
    (folder / "mlflow" / "tuneline.env").write_text("")
    (folder / "params.yaml").write_text(params_text, "utf-8")
    for name in ("faq", "other"):
        (folder / "data" / "raw" / name).mkdir(parents=True)
        (folder / "data" / "raw" / name / "a.csv").write_text("问,答\n很好,谢谢\n", "gb18030")
    assert CliRunner().invoke(cli, ["inspect", "data/raw/faq"]).exit_code == 1
    values = {
        "data.raw": "data/raw/faq",
        "data.encoding": "gb18030",
        "data.columns": {"prompt": "问", "completion": "答"},
    }
    editing.set_values(folder / "params.yaml", values)
    for path in ("data/raw/faq", "data/raw/faq/a.csv"):
        done = CliRunner().invoke(cli, ["inspect", path])
        assert (done.exit_code, "accepted" in done.stdout) == (0, True), done.stdout
    # Another set has its own encoding and columns, and what the command line says wins.
    other = CliRunner().invoke(cli, ["inspect", "data/raw/other"])
    assert (other.exit_code, "it looks like gb18030" in other.stdout) == (1, True)
    other = CliRunner().invoke(cli, ["inspect", "data/raw/other", "--encoding", "gb18030"])
    assert (other.exit_code, "columns found: 问, 答" in other.stdout) == (1, True)
    said = CliRunner().invoke(cli, ["inspect", "data/raw/faq", "--encoding", "utf-8"])
    assert (said.exit_code, "it looks like gb18030" in said.stdout) == (1, True)


def test_it_says_what_becomes_of_columns_and_that_use_would_refuse(tmp_path: Path) -> None:
    rows = [{"question": f"who is {n}?", "answer": f"{n}", "by": "me"} for n in range(30)]
    path = write(tmp_path / "faq.jsonl", *rows, {"question": "why?"})
    lines = [*inspection.lines(inspection.inspect([path], inspection.How(max_rejected=0.01)))]
    assert "1 file read as question: prompt from question; completion from answer" in lines or (
        "1 file read as pair: prompt from question; completion from answer" in lines
    )
    assert any(
        line.startswith(f"warning: `tuneline use` would refuse this: {path}: 1 of 31 rows cannot be used (missing 1)")
        for line in lines
    )
    report = inspection.inspect([path], inspection.How(max_rejected=0.1))
    assert "would refuse" not in "".join(inspection.lines(report))


def test_labels_that_are_numbers_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"{LONG} {n}", "urgency": n % 5 + 1} for n in range(40)]
    how = inspection.How(columns={"text": "text", "label": "urgency"})
    lines = [*inspection.lines(inspection.inspect([write(tmp_path / "a.jsonl", *rows)], how))]
    assert "    all labels are numbers: with --task regression they are predicted as numbers" in lines


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def profile(*paths: Path) -> tuple[dict[str, Any], list[str]]:
    """The profile of the rows as JSON, and all lines for people."""
    report = inspection.inspect(paths, inspection.How(settings=Settings(0.7, 8)))
    return report["sets"][0], list(inspection.lines(report))


LONG = "The quick brown fox jumps over the lazy dog and runs into the forest where nobody sees it again"


def test_duplicates_are_found_across_files(folder: Path) -> None:
    write(folder / "same" / "a.jsonl", {"text": LONG}, {"text": "another"}, {"text": LONG.upper() + " "})
    write(folder / "same" / "b.jsonl", {"text": LONG.replace("again", "ever")}, {"text": "another"})
    found, lines = profile(Path("same"))
    assert found["duplicates"] == {
        "rows": 5,
        "threshold": 0.7,
        "exact": 2,
        "near": 1,
        "exact_examples": [{"row": "a.jsonl:3", "of": "a.jsonl:1"}, {"row": "b.jsonl:2", "of": "a.jsonl:2"}],
        "near_examples": [{"row": "b.jsonl:1", "of": "a.jsonl:1"}],
    }
    assert "  duplicates of earlier rows: 2 exact, 1 near (similarity 0.7 or more)" in lines


def test_of_a_large_set_only_the_first_rows_are_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "a.jsonl", *[{"text": f"row {n}"} for n in range(2_500)])
    monkeypatch.setattr("tuneline.data.profiling.repeated.ROWS", 1_000)
    found, lines = profile(Path("a.jsonl"))
    assert (found["rows"], found["duplicates"]["rows"]) == (2_500, 1_000)
    assert any(line.startswith("  duplicates of earlier rows among the first 1,000 rows: ") for line in lines)


def test_labels_are_counted_with_their_warnings(folder: Path) -> None:
    rows = [{"text": f"text {n}", "label": ["good", "Good ", "bad"][n % 3]} for n in range(60)]
    write(folder / "a.jsonl", *rows, {"text": "x", "label": "rare"}, {"text": "y", "label": "rare"})
    found, lines = profile(Path("a.jsonl"))
    assert found["labels"] == {"good": 20, "Good ": 20, "bad": 20, "rare": 2}
    assert "  4 labels: good 20, Good  20, bad 20, rare 2" in lines
    assert "    labels with fewer than 5 rows, too few to learn from or to measure: 'rare' (2)" in lines
    assert any("differ only in case or spaces" in line for line in lines)


def test_labels_in_names_are_counted(folder: Path) -> None:
    for label, count in (("ham", 7), ("spam", 9)):
        write(folder / "mails" / label / "a.jsonl", *[{"text": f"{label} {n}"} for n in range(count)])
    found, lines = profile(Path("mails"))
    assert found["labels"] == {"spam": 9, "ham": 7}
    assert "  2 labels: spam 9, ham 7" in lines


def test_secrets_are_reported_with_their_rows_and_masked(folder: Path) -> None:
    write(
        folder / "a.jsonl",
        {"prompt": "write to jane.doe@mail.server.org", "completion": "or a@firm.org"},
        {"prompt": "q", "completion": "call (415) 867-5309, pay with 4111 1111 1111 1111"},
        {"prompt": "r", "completion": "me@uni-bonn.de"},
    )
    found, lines = profile(Path("a.jsonl"))
    assert found["secrets"]["email"] == {
        "rows": 2,
        "count": 3,
        "places": [
            {"row": "a.jsonl:1", "value": "j…@m…"},
            {"row": "a.jsonl:1", "value": "a…@f…"},
            {"row": "a.jsonl:3", "value": "m…@u…"},
        ],
    }
    assert found["secrets"]["card"] == {"rows": 1, "count": 1, "places": [{"row": "a.jsonl:2", "value": "4111…11"}]}
    assert "  secrets: phone 1 in 1 rows: a.jsonl:2 (41…09" in lines
    printed = json.dumps(found) + "\n".join(lines)
    assert not any(value in printed for value in ("jane.doe", "867-5309", "4111 1111", "firm.org"))


def test_lengths_say_which_max_length_is_enough(folder: Path) -> None:
    write(folder / "a.jsonl", *[{"text": "x" * 16}] * 3, {"text": "漢字" * 20})
    found, lines = profile(Path("a.jsonl"))
    assert found["lengths"]["over_max_length"] == 0.25
    assert found["lengths"]["quantile_99"] == 30
    assert found["scripts"] == {"Latin": 0.5455, "Han": 0.4545}
    assert "    25.0% of the rows are longer than finetune.max_length 8; 30 is enough for 99 % of them" in lines


def test_lengths_are_counted_by_the_tokenizer_of_the_project(folder: Path, tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    words.save(str(tmp_path / "tokenizer.json"))
    write(folder / "a.jsonl", {"prompt": "a b", "completion": "b a c"})
    how = inspection.How(settings=Settings(None, 4, tmp_path / "tokenizer.json"))
    report = inspection.inspect([Path("a.jsonl")], how)
    lengths = report["sets"][0]["lengths"]
    assert (lengths["longest"], lengths["over_max_length"], lengths["tokenizer"]) == (5, 1.0, tmp_path.as_posix())


def test_a_folder_of_many_files_is_a_few_lines(folder: Path) -> None:
    for number in range(40):
        write(folder / "many" / f"{number:02}.jsonl", {"text": f"row {number}"})
        (folder / "many" / f"{number:02}.pdf").write_bytes(b"%PDF-1.7")
        (folder / "many" / f"{number:02}.txt").touch()
    report = inspection.inspect([Path("many")], inspection.How())
    lines = list(inspection.lines(report))
    assert len(lines) < 15
    assert any("40 files: many/00.jsonl, many/01.jsonl, many/02.jsonl and 37 more" in line for line in lines)
    assert "    is a PDF: extract its text with `pdftotext`" in lines
    assert (report["totals"]["refused"], report["totals"]["empty"]) == (40, 40)
    assert len(report["files"]) == 120


def test_excluded_files_are_counted(folder: Path) -> None:
    (folder / "set" / "LICENSE").write_text("MIT\n")
    with zipfile.ZipFile(folder / "set" / "d.zip", "w") as archive:
        archive.writestr("docs/README.md", "# Data\n")
        archive.writestr("more.jsonl", '{"prompt": "p", "completion": "c"}\n')
    assert CliRunner().invoke(cli, ["inspect", "set"]).exit_code == 1
    arguments = ["inspect", "set", "--exclude", "LICENSE", "--exclude", "d.zip/docs", "--exclude", "*.pdf"]
    done = CliRunner().invoke(cli, [*arguments, "--exclude", "*.xml"])
    assert done.exit_code == 0, done.stdout
    assert "3 file(s) left out by LICENSE, *.pdf, d.zip/docs: set/LICENSE, set/c.pdf, set/d.zip/docs/README.md" in (
        done.stdout
    )
    assert "warning: --exclude *.xml: matches no file" in done.stdout
    totals = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)["totals"]
    assert totals["excluded"] == ["set/LICENSE", "set/c.pdf", "set/d.zip/docs/README.md"]


def test_a_file_of_several_shapes_is_counted_by_shape(folder: Path) -> None:
    chat = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    rows = [{"instruction": "i", "input": "", "output": "o"}] * 2_000 + [chat] * 700 + [{"x": 1}] * 5
    write(folder / "a.jsonl", *rows)
    report = inspection.inspect([Path("a.jsonl")], inspection.How())
    assert report["files"][0]["shapes"] == {"alpaca": 2_000, "sharegpt": 700, "unknown (x)": 5}
    assert "    rows by shape: alpaca 2,000, sharegpt 700, unknown (x) 5" in list(inspection.lines(report))


def test_long_values_are_shortened(tmp_path: Path) -> None:
    long, texts = "x" * 100_000, "many words " * 9_000
    sets: dict[str, list[dict[str, Any]]] = {
        "columns.jsonl": [{f"{name}{long}": "a" for name in ("one", "two")}] * 3,
        "many.jsonl": [{f"c{number}": number for number in range(5_000)}] * 3,
        "labels.jsonl": [
            {"text": f"row {n} of it", "label": f"{'ab'[n % 2]} {(long, texts)[n % 2]}"} for n in range(9)
        ],
        "calls.jsonl": [
            {
                "messages": [
                    {"role": "user", "content": "how?"},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"function": {"name": long, "arguments": long}}],
                    },
                ]
            }
        ],
    }
    for name, rows in sets.items():
        files.write_text(tmp_path / name, "".join(f"{json.dumps(row)}\n" for row in rows))
        done = CliRunner().invoke(cli, ["inspect", str(tmp_path / name)])
        assert max(map(len, done.stdout.splitlines())) < 1_500, name
        assert ("c29 (a number) and 4,970 more" in done.stdout) == (name == "many.jsonl")
