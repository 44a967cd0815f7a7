"""A cross-validation by command: every row is measured once, a kill changes no number, and test rows take no part."""

import random
import signal
import subprocess
import sys
import time

import pytest
from projects import TINY, Project, copy_project

from tuneline.core import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LABELS = ("refund", "delivery", "praise")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Labelled texts, prepared, with a base that is nearly untrained."""
    root = tmp_path_factory.mktemp("cross")
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(400)]
    labels = [LABELS[number % 3] for number in range(240)]
    rows = "\n".join(f"{label} {' '.join(draw.choices(words, k=12))},{label}" for label in labels)
    (root / "rows.csv").write_text(f"text,label\n{rows}\n")
    project = copy_project(root / "project", TINY)
    used = project.tuneline("use", str(root / "rows.csv"))
    assert used.returncode == 0, used.stderr
    project.set(**{name.replace(".", "__"): value for name, value in TINY.items() if name.startswith("finetune")})
    project.set(finetune__num_train_epochs=4.0, data__split__test=0.2, gate__rules=[_RULE])
    made = project.run("-m", "dvc", "repro", "validate_clean", "base")
    assert made.returncode == 0, made.stdout + made.stderr
    return project


_RULE = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}


def test_every_row_is_measured_once_and_a_kill_changes_no_number(project: Project) -> None:
    reports, clean = project.root / "reports", project.root / "data/clean"
    planned = project.tuneline("crossvalidate", "--folds", "3", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("3 trainings, which take about 2.0 times as long as finetune")
    assert not (reports / "crossvalidation.json").exists()

    done = project.tuneline("crossvalidate", "--folds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Accuracy" in done.stdout
    table, found = (
        files.read_parquet(reports / "crossvalidation.parquet"),
        files.read_json(reports / "crossvalidation.json"),
    )
    ids = {name: files.read_parquet(clean / name)["id"].to_pylist() for name in ("train", "validation", "test")}
    assert sorted(table["id"].to_pylist()) == sorted(ids["train"] + ids["validation"])
    assert set(table["fold"].to_pylist()) == {0, 1, 2}
    right = [
        own == given for own, given in zip(*(table[n].to_pylist() for n in ("label", "candidate_label")), strict=True)
    ]
    assert found["candidate"]["accuracy"]["low"] <= found["candidate"]["accuracy"]["mean"]
    assert found["candidate"]["accuracy"]["mean"] == pytest.approx(sum(right) / len(right), abs=0.05)
    assert len(found["folds"]["accuracy"]) == 3
    assert not list((project.root / "work/crossvalidation").iterdir())

    first = (reports / "crossvalidation.json").read_bytes()
    command = [sys.executable, "-m", "tuneline", "crossvalidate", "--folds", "3"]
    killed = subprocess.Popen(
        command, cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while killed.poll() is None and not list(project.root.glob("work/crossvalidation/*/fold-0/scores.parquet")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = project.tuneline("crossvalidate", "--folds", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "of them are done already" in again.stdout
    assert (reports / "crossvalidation.json").read_bytes() == first


def test_what_is_wrong_is_said_before_any_training(project: Project) -> None:
    many = project.tuneline("crossvalidate")
    assert (many.returncode, many.stdout) == (1, "")
    assert many.stderr.strip().endswith(
        "data.split.folds is null, so the number of folds is not known; give it: --folds 5"
    )
    project.set(data__split__seed=1)
    stale = project.tuneline("crossvalidate", "--folds", "3")
    project.set(data__split__seed=0)
    assert (stale.returncode, stale.stdout) == (1, "")
    assert "are not up to date: prepare" in stale.stderr
    assert "run: dvc repro validate_clean base" in stale.stderr
