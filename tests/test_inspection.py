"""What `tuneline inspect` says, to programs and to people."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tuneline import inspection
from tuneline.cli import cli
from tuneline.data.reading.rows import Options
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
                    "1 row(s) hold a placeholder that was left unfilled, as a.jsonl:1: {{name}}; fill them, or a model "
                    "learns to write them"
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
                "rejected": [],
                "reasons": {},
                "damaged": {},
                "warnings": [],
                "verdict": "refused",
                "message": "set/c.pdf: is a PDF: extract its text with `pdftotext`",
            },
        ],
        "totals": {"files": 3, "refused": 1, "rows": 5, "accepted": 3, "problems": []},
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


def test_what_is_usable_is_exit_0(folder: Path) -> None:
    assert CliRunner().invoke(cli, ["inspect", "set/a.jsonl", "set/b.csv"]).exit_code == 0
    (folder / "gbk.csv").write_text("问,答\n很好,谢谢\n", "gb18030")
    refused = CliRunner().invoke(cli, ["inspect", "gbk.csv"])
    assert (refused.exit_code, "--encoding gb18030" in refused.stdout) == (1, True)
    arguments = ["inspect", "gbk.csv", "--encoding", "gb18030", "--column", "prompt=问", "--column", "completion=答"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert CliRunner().invoke(cli, ["inspect", "set", "--column", "prompt"]).exit_code == 2


def test_a_set_of_several_kinds_and_a_set_without_rows_are_not_usable(folder: Path) -> None:
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    (folder / "mixed" / "b.jsonl").write_text('{"text": "t"}\n')
    report = inspection.inspect([Path("mixed")], Options(), {})
    assert [file["verdict"] for file in report["files"]] == ["accepted", "accepted"]
    assert "mixed: the files hold rows of several kinds" in report["totals"]["problems"][0]
    assert not inspection.is_usable(report)
    (folder / "none.txt").write_text("")
    report = inspection.inspect([Path("none.txt")], Options(), {})
    assert report["files"][0]["warnings"] == ["is empty"]
    assert report["totals"]["problems"] == ["none.txt: holds no rows, in 1 file(s); put your text there"]


def test_a_label_that_a_name_may_give_is_told(folder: Path) -> None:
    for label in ("ham", "spam"):
        (folder / "mails" / label).mkdir(parents=True)
        (folder / "mails" / label / "1.txt").write_text("text\n")
    report = inspection.inspect([Path("mails")], Options(), {})
    assert report["files"][1]["warnings"] == [
        "its name gives the label 'spam', which is read with `task: classification`"
    ]


def test_a_terminal_is_not_told_what_to_do_by_a_name(folder: Path) -> None:
    (folder / "\x1b[31mred.txt").write_text("row\n")
    done = CliRunner().invoke(cli, ["inspect", "\x1b[31mred.txt"])
    assert "\x1b" not in done.stdout
    assert "rename it" in done.stdout


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
