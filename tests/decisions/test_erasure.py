"""Before anything is changed, an erasure names what it would do, or refuses in sentences."""

import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from projects import ROOT

from tuneline import params
from tuneline.core import files
from tuneline.decisions import erasure, erasure_plan
from tuneline.decisions.erasure_plan import Asked
from tuneline.errors import DataError, PipelineError
from tuneline.params import Params, editing
from tuneline.registry.tracking import Tracker

OF_42 = Asked((("customer", "42"),))
ROWS = '{"prompt":"who is it?","completion":"me","customer":42}\n{"prompt":"why?","completion":"so","customer":7}\n'


@pytest.fixture
def raw(project: Params, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file of the raw set of a project without any version."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.address)
    for name in ("dvc.yaml", "mlflow/tuneline.env"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, name)
    editing.set_values(Path("params.yaml"), {"data.raw": "data/raw/a", "data.pretraining": "data/raw/a-pretraining"})
    path = Path("data/raw/a/rows.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text(ROWS)
    Path("data/raw/a-pretraining").mkdir()
    Path("data/raw/a-pretraining/train.jsonl").write_text('{"text":"who is it?me"}\n{"text":"why?so"}\n')
    clean = {"id": ["0a", "0b"], "source": ["rows.jsonl:1", "rows.jsonl:2"], "cluster": ["1", "2"]}
    clean |= {"prompt": ["who is it?", "why?"], "completion": ["me", "so"]}
    shutil.rmtree("data/clean")
    files.write_parquet(Path("data/clean/train/part-00000.parquet"), pa.table(clean))
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    Path("dvc.lock").unlink()
    subprocess.run(["git", "init", "--quiet"], check=True)
    return path


def said(asked: Asked) -> list[str]:
    lines: list[str] = []
    lines += erasure.forget(params.load(), asked, log=lines.append, dry_run=True)
    return lines


def test_a_dry_run_names_rows_and_the_texts_made_from_them_and_changes_nothing(raw: Path) -> None:
    expected = ["data/raw/a: 1 row to erase", "data/raw/a-pretraining: 1 row to erase"]
    for asked in (OF_42, Asked(rows=("0a",)), Asked(rows=("rows.jsonl:1",))):
        assert said(asked)[:2] == expected
    assert raw.read_text() == ROWS
    assert not erasure_plan.JOURNAL.exists()


def test_what_no_row_has_is_told_with_the_columns_that_there_are(raw: Path) -> None:
    with pytest.raises(DataError, match=r"the columns are completion, customer, prompt, text$"):
        said(Asked((("client", "42"),)))
    with pytest.raises(
        DataError, match=r"^--row 0c: neither the id of a row in data/clean nor FILE:LINE in data/raw/a"
    ):
        said(Asked(rows=("0a", "0c")))


def test_sets_that_would_keep_the_rows_are_refused_before_anything_changes(raw: Path) -> None:
    raw.write_text(ROWS.splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"data/raw/a: no row would be left.*\nnothing is changed"):
        said(OF_42)
    raw.write_text(ROWS)
    subprocess.run(["git", "add", str(raw)], check=True)
    with pytest.raises(DataError, match=r"^data/raw/a: git holds the files of this set, .*git filter-repo"):
        said(OF_42)
    subprocess.run(["git", "rm", "--quiet", "--cached", str(raw)], check=True)
    editing.set_values(Path("params.yaml"), {"paths.sample": "data/raw/a"})
    with pytest.raises(DataError, match=r"^data/raw/a: a stage of dvc.yaml makes this set"):
        said(OF_42)
    assert raw.read_text() == ROWS


def test_an_unfinished_erasure_is_told_and_no_other_one_begins(raw: Path) -> None:
    assert erasure_plan.unfinished() is None
    journal = erasure_plan.Journal(OF_42.digest(), "", [], [], [], [], [], {}, {}, {}, [], [], [], [])
    journal.save()
    assert erasure_plan.JOURNAL.stat().st_mode & 0o777 == 0o600
    problem = erasure_plan.unfinished()
    assert problem is not None
    assert "is not finished" in problem
    with pytest.raises(PipelineError, match="another erasure is not finished"):
        said(Asked((("customer", "7"),)))
    with pytest.raises(PipelineError, match="run it without --dry-run"):
        said(OF_42)


def test_the_digest_of_a_row_tells_nothing_without_its_key() -> None:
    row = {"customer": 42, "prompt": "who is it?"}
    assert erasure_plan.salted("00" * 32, row) == erasure_plan.salted("00" * 32, dict(reversed(row.items())))
    assert erasure_plan.salted("00" * 32, row) != erasure_plan.salted("11" * 32, row)
