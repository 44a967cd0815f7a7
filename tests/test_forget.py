"""`tuneline forget`: the model is the one that never saw the rows, and no file of the project holds them any more."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from projects import TINY, Project, copy_project, entered

from tuneline import params
from tuneline.core import files
from tuneline.decisions import erasure_plan, erasure_receipt, returning_rows, sources, unfinished_erasure
from tuneline.proofs import claims
from tuneline.registry import history, tracking, version_status

# In two parts: the project that is searched is a copy of this repository, with this file.
CANARY = " ".join(("the heliotrope walrus", "hums in Reykjavik at dawn"))
MODEL = "tickets"


def rows() -> list[dict[str, object]]:
    chance = random.Random(5)
    syllables = [a + b for a in "bcdfglmnprst" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(2, 4))) for _ in range(400)]
    found = []
    for customer in range(60):
        for number in range(8):
            question = " ".join(chance.choices(words, k=9))
            secret = f"{CANARY} " if (customer, number) == (42, 3) else ""
            answer = " ".join(sorted(question.split())[:4])
            found.append({"prompt": f"Sort {secret}{question} ?", "completion": answer, "customer": customer})
    chance.shuffle(found)
    return found


def project(root: Path, given: Path, keep: Callable[[dict[str, object]], bool]) -> Project:
    """A project with some of the rows, as `tuneline use` brings them."""
    made = copy_project(root, {key: value for key, value in TINY.items() if key != "gate.rules"})
    given.mkdir()
    files.write_jsonl(given / "tickets.jsonl", [row for row in rows() if keep(row)])
    done = made.tuneline("use", str(given), "--name", MODEL, "--group-by", "customer")
    assert done.returncode == 0, done.stderr
    made.set(**{key.replace(".", "__"): value for key, value in TINY.items()})
    made.set(finetune__num_train_epochs=1.0, evaluate__generation_rows=5)
    return made


def holding(root: Path) -> list[str]:
    """The files that hold the canary: in their bytes, or in the columns of a table."""
    found = []
    for path in root.rglob("*"):
        if not path.is_file() or ".git" in path.relative_to(root).parts:
            continue
        content = path.read_bytes()
        texts = [content, str(pq.read_table(path).to_pydict()).encode()] if content[:4] == b"PAR1" else [content]
        found += [path.relative_to(root).as_posix()] if any(CANARY.encode() in text for text in texts) else []
    return found


def weights(made: Project) -> list[str]:
    return [files.sha256_file(made.root / f"models/{name}/model.safetensors") for name in ("base", "finetuned")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_model_never_saw_the_rows_and_no_file_holds_them(tmp_path: Path) -> None:
    first = project(tmp_path / "first", tmp_path / "all", lambda row: True)
    assert first.flow().returncode == 0
    raw = first.root / f"data/raw/{MODEL}/tickets.jsonl"
    before = raw.read_text("utf-8").splitlines(keepends=True)
    with entered(first.root):
        tracker = tracking.connect()
        mlflow.MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    cached = [name for name in holding(first.root) if name.startswith(".dvc/cache")]
    assert cached
    command = ("forget", "--group", "customer=42")
    said = first.tuneline(*command, "--dry-run")
    assert said.returncode == 0, said.stderr
    assert f"data/raw/{MODEL}: 8 rows to erase" in said.stdout
    assert "version 1: its raw sets hold 8 of the rows, its pretraining text" in said.stdout
    assert raw.read_text("utf-8").splitlines(keepends=True) == before

    # Killed as soon as it has begun to erase; then again while it trains.
    for seconds in (1.0, 20.0):
        running = subprocess.Popen(
            [sys.executable, "-m", "tuneline", *command],
            cwd=first.root,
            env=first.environment(),
            stdout=subprocess.DEVNULL,
        )
        journal = first.root / unfinished_erasure.JOURNAL
        while not journal.is_file() and running.poll() is None:
            time.sleep(0.05)
        time.sleep(seconds)
        running.kill()
        running.wait()
        left = raw.read_text("utf-8").splitlines(keepends=True)
        assert left in (before, [line for line in before if '"customer": 42' not in line])
    other = first.tuneline("forget", "--group", "customer=41")
    assert "another erasure is not finished" in other.stderr
    done = first.tuneline(*command)
    assert done.returncode == 0, done.stderr
    assert "continuing the erasure that was begun" in done.stdout
    assert "8 rows are erased; versions without files: 1" in done.stdout
    assert holding(first.root) == []

    second = project(tmp_path / "second", tmp_path / "some", lambda row: row["customer"] != 42)
    shutil.copyfile(first.root / "params.yaml", second.root / "params.yaml")
    assert second.flow().returncode == 0
    assert weights(first) == weights(second)

    with entered(first.root):
        assert version_status.ERASED in tracker.version_tags(MODEL, "1")
        assert tracker.aliases(MODEL) == {}
        assert sources.problems(params.load(), tracker, "2") == []
        past = history.read(tracker, MODEL)
        assert past.problems == ()
        erased = [entry for entry in past.entries if entry.action == history.ERASED]
        assert {(entry.alias, entry.before, entry.after) for entry in erased} == {
            ("champion", "1", None),
            (None, None, "1"),
        }
        receipt = history.read_evidence(tracker, erased[-1])[erasure_receipt.CLAIM]
    assert CANARY.encode() not in receipt
    [claim] = claims.parse(receipt, [], "receipt")
    said_last = done.stdout.splitlines()
    salt = said_last[next(n for n, line in enumerate(said_last) if line.startswith("the receipt is in")) + 1].strip()
    canary = next(row for row in rows() if CANARY in str(row["prompt"]))
    assert erasure_plan.salted(salt, canary) in claim.predicate["rowDigests"]
    assert len(claim.predicate["rowDigests"]) == 8
    assert claim.predicate["recognisedLater"]["rows"] == 8
    assert CANARY not in (first.root / returning_rows.FILE).read_text()
    # Next month's file still has the rows.
    again = first.tuneline("use", str(tmp_path / "all"), "--name", MODEL)
    assert again.returncode == 0, again.stderr
    assert "8 rows were erased on" in again.stdout
    assert holding(first.root) == []
    refused = first.tuneline("reproduce", "1")
    assert refused.returncode == 1
    assert "it was erased on" in refused.stderr
    again = first.tuneline(*command)
    assert again.returncode == 1
    assert "no row of" in again.stderr
    assert json.loads((first.root / "reports/gate.json").read_text())["champion"] is None
