"""A whole search in a small project. Runs where the extra is installed."""

import importlib.util
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from projects import Project, copy_project
from ruamel.yaml import YAML

from tuneline.search.result import Result
from tuneline.search.space import Dimension, Space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("optuna", "prefect_dask")),
        reason="needs make setup EXTRAS=search",
    ),
]
SPACE = """startup_trials: 2
warmup_measurements: 1
space:
  finetune.learning_rate: {low: 5.0e-4, high: 5.0e-2, log: true}
  finetune.weight_decay: {low: 0.0, high: 0.2}
"""
TRIALS = "4"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = copy_project(tmp_path_factory.mktemp("search"))
    (project.root / "data/search.yaml").write_text(SPACE, "utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--all", "-m", "space"]
    subprocess.run(git, cwd=project.root, check=True)
    yield project


RATE = "finetune.learning_rate"
HARD = Space(space={RATE: Dimension(values=[0.001, 1e30])})
USUAL = Space(
    space={
        "finetune.learning_rate": Dimension(low=5e-4, high=5e-2, log=True),
        "finetune.weight_decay": Dimension(low=0.0, high=0.2),
    }
)


def results(project: Project, name: str, space: Space = USUAL) -> list[Result]:
    from tuneline.search import study

    return study.load(f"sqlite:///{project.root}/work/search/{name}/study.db", name, space)[0].results()


def killed_in_trial(project: Project, number: int) -> None:
    command = [sys.executable, "-m", "tuneline", "search", "--trials", TRIALS, "--no-compare"]
    process = subprocess.Popen(command, cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL)
    ready = project.root / f"work/search/search/trials/{number}.ready"
    for _ in range(3000):
        if ready.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    time.sleep(2)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_search_that_was_killed_ends_as_one_that_was_not(project: Project) -> None:
    before = (project.root / "params.yaml").read_text("utf-8")
    killed_in_trial(project, 1)
    killed_in_trial(project, 2)
    done = project.tuneline("search", "--trials", TRIALS, "--no-compare")
    assert done.returncode == 0, done.stderr
    whole = project.tuneline("search", "--name", "whole", "--trials", TRIALS)
    assert whole.returncode == 0, whole.stderr
    assert results(project, "search") == results(project, "whole")
    assert "best of 4: trial" in whole.stdout
    # What a search leaves: experiments, a page and an entry of the ledger; no version, no other params.
    listed = project.run("-m", "dvc", "exp", "list", "--name-only").stdout.split()
    assert {f"search-{number}" for number in range(4)} <= set(listed)
    page = (project.root / "reports/search.html").read_text("utf-8")
    assert "comparison 1 in the ledger" in page
    assert (project.root / "params.yaml").read_text("utf-8") == before
    assert not list((project.root / "work/search/whole/trials").glob("*"))
    with closing(sqlite3.connect(project.root / "mlflow/store/mlflow.db")) as store:
        assert store.execute("select count(*) from model_versions").fetchone() == (0,)


def trainer_in(folder: Path) -> psutil.Process | None:
    """The process that trains in a folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[-2:] == ["tuneline.stages", "finetune"] and process.cwd() == str(folder):
                return process
    return None


def test_a_trainer_that_is_killed_goes_on_and_values_that_cannot_be_trained_are_a_failed_trial(
    project: Project, tmp_path: Path
) -> None:
    space = project.root / "data/search.yaml"
    space.write_text("sampler: random\nspace:\n  finetune.learning_rate: {values: [0.001, 1.0e+30]}\n", "utf-8")
    command = ["search", "--name", "hard", "--trials", "5", "--no-compare"]
    # Trial -> how often it is killed; after the third time the search goes on without it.
    left = {0: 1, 1: 3}
    try:
        with (tmp_path / "log").open("w") as log:
            running = subprocess.Popen(
                [sys.executable, "-m", "tuneline", *command],
                cwd=project.root,
                env=project.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            while running.poll() is None:
                for number in [number for number, count in left.items() if count]:
                    if trainer := trainer_in(project.root / f"work/search/hard/trials/{number}"):
                        trainer.kill()
                        trainer.wait()
                        left[number] -= 1
                time.sleep(0.05)
        found = results(project, "hard", HARD)
        again = project.tuneline(*command)
    finally:
        space.write_text(SPACE, "utf-8")
    said = (tmp_path / "log").read_text()
    assert running.returncode == 0, said
    assert "trial 0: finetune: the stage was killed by signal 9 (Killed) from outside" in said
    assert "trial 1: was killed 3 times (finetune: the stage was killed by signal 9" in said
    assert "; unfinished, because killed: 1; the same command goes on with them; reports/search.html" in said
    states = {(0.001, "done"), (1e30, "failed")}
    assert {(result.values[RATE], result.state) for result in found} == {*states, (1e30, "interrupted")}
    assert found[1].state == "interrupted"
    assert all("the loss is nan" in result.note for result in found if result.state == "failed")
    assert again.returncode == 0, again.stderr
    found = results(project, "hard", HARD)
    assert {(result.values[RATE], result.state) for result in found} == states


def test_with_folds_the_objective_is_the_mean_of_a_cross_validation_and_a_kill_changes_no_number(
    project: Project,
) -> None:
    space = project.root / "data/search.yaml"
    text = f"folds: 2\npruner: none\n{SPACE}"
    space.write_text(text, "utf-8")
    command = [sys.executable, "-m", "tuneline", "search", "--name", "folds", "--trials", "2"]
    measured = project.root / "work/search/folds/trials/1/work/folds.json"
    try:
        running = subprocess.Popen(command, cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL)
        while running.poll() is None and not measured.exists():
            time.sleep(0.1)
        running.kill()
        running.wait()
        assert json.loads(measured.read_text())
        assert trainer_in(measured.parents[1]) is None
        done = project.tuneline("search", "--name", "folds", "--trials", "2")
        page = (project.root / "reports/search.html").read_text("utf-8")
        other = project.tuneline("search", "--name", "more", "--trials", "2", "--no-compare")
    finally:
        space.write_text(SPACE, "utf-8")
    assert done.returncode == 0, done.stderr
    assert "2 folds: a trial takes about 1.0 times as long as finetune, 2 trials 2 times" in done.stderr
    searched = Space.model_validate(YAML(typ="safe").load(text))
    found = results(project, "folds", searched)
    assert [result.state for result in found] == ["done"] * 2
    assert all(list(result.curve) == [1, 2] and result.loss == result.curve[2] for result in found)
    assert other.returncode == 0, other.stderr
    assert found == results(project, "more", searched)
    alone = project.tuneline("crossvalidate", "--folds", "2")
    assert alone.returncode == 0, alone.stderr
    mean = json.loads((project.root / "reports/crossvalidation.json").read_text())["candidate"]["token_loss"]["mean"]
    assert found[0].loss == pytest.approx(mean, rel=1e-5)
    # Its best trial was trained on all rows for the comparison.
    assert "token_loss (mean of 2 folds)" in page
    assert ("in the ledger" in page) == (min(found, key=lambda result: result.loss or 0).number > 0)


def test_two_workers_train_at_the_same_time(project: Project) -> None:
    done = project.tuneline("search", "--name", "two", "--trials", "3", "--workers", "2", "--no-compare")
    assert done.returncode == 0, done.stderr
    assert [result.number for result in results(project, "two")] == [0, 1, 2]
    assert "2 at a time, each with 1 of" in done.stdout + done.stderr


@contextmanager
def cluster(project: Project) -> Iterator[str]:
    """A Dask cluster with one worker, as docs/search.md starts it; yields its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    address, own = f"tcp://127.0.0.1:{port}", project.environment()
    own["PYTHONPATH"] = f"flows{os.pathsep}{own['PYTHONPATH']}"
    parts = (
        ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
        ["worker", address, "--nthreads", "1", "--no-dashboard"],
    )
    with ExitStack() as stack:
        for part in parts:
            command = [sys.executable, "-m", "tuneline", "exec", "--", "python", "-m", "dask", *part]
            running = stack.enter_context(
                subprocess.Popen(
                    command, cwd=project.root, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
                )
            )
            stack.callback(running.terminate)
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
                break
            time.sleep(0.1)
        yield address


def test_a_cluster_that_somebody_has_started_trains_the_trials(project: Project) -> None:
    with cluster(project) as address:
        done = project.tuneline("search", "--name", "far", "--trials", "2", "--scheduler", address, "--no-compare")
    assert done.returncode == 0, done.stderr
    assert [result.state for result in results(project, "far")] == ["done"] * 2


def test_what_cannot_go_on_is_said_before_anything_runs(project: Project) -> None:
    space = project.root / "data/search.yaml"
    space.write_text(SPACE.replace("high: 0.2", "high: 0.3"), "utf-8")
    try:
        other = project.tuneline("search", "--trials", TRIALS)
    finally:
        space.write_text(SPACE, "utf-8")
    assert other.returncode == 1
    assert "was begun with another space (finetune.weight_decay)" in other.stderr
    Path(project.root, "work/search/two/study.db").unlink()
    gone = project.tuneline("search", "--name", "two", "--trials", "5")
    assert gone.returncode == 1
    assert "does not have the search 'two'" in gone.stderr
    for refused in (other, gone):
        assert len(refused.stderr.splitlines()) == 1
        assert "Traceback" not in refused.stderr


def test_the_best_values_are_written_on_request_and_comments_stay(project: Project) -> None:
    params = project.root / "params.yaml"
    before = params.read_text("utf-8")
    done = project.tuneline("search", "--name", "whole", "--apply")
    after = params.read_text("utf-8")
    assert done.returncode == 0, done.stderr
    assert "finetune.learning_rate: 0.001 -> " in done.stdout
    assert before != after
    assert before.count("#") == after.count("#")
    assert before.count("\n") == after.count("\n")
