"""Two months with a user's own rows, by the commands that a user types.

inspect, use, run, promote, ask the model, commit, next month's rows, compare with the champion, second clone.
"""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from projects import TINY, Project, copy_project

from tuneline import params
from tuneline.core import files

TOPICS = {
    "card": "card stolen blocked lost cash machine swallowed pin terminal wallet contactless",
    "transfer": "transfer money abroad recipient iban arrived pending delay amount account",
    "password": "password login reset email code forgotten locked app phone sign",
}
_ASKS = ("please tell me about", "i need help with", "what happens to", "can you explain", "how do i handle")


def _question(n: int) -> tuple[str, str]:
    """A topic, and a question about it that is different for each `n`."""
    rng = random.Random(n)
    topic = list(TOPICS)[n % len(TOPICS)]
    about = " ".join(rng.sample(TOPICS[topic].split(), 4))
    return topic, f"{rng.choice(_ASKS)} {about} since {rng.randint(1, 28)} {rng.choice(['may', 'june'])} at {n}"


def _reply(topic: str) -> str:
    return f"We look into your {topic} today and write to you."


def _label(n: int) -> dict[str, Any]:
    topic, question = _question(n)
    return {"text": question, "label": topic}


def _pair(n: int) -> dict[str, Any]:
    topic, question = _question(n)
    return {"prompt": question, "completion": _reply(topic)}


def _dialogue(n: int) -> dict[str, Any]:
    topic, question = _question(n)
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": _reply(topic)}],
    }


def _preference(n: int) -> dict[str, Any]:
    topic, question = _question(n)
    return {"prompt": question, "chosen": _reply(topic), "rejected": f"no idea {n}"}


@dataclass(frozen=True)
class Task:
    """The rows of a task, and the command that asks its model."""

    name: str
    row: Callable[[int], dict[str, Any]]
    command: str


TASKS = {
    "labels": Task("classification", _label, "predict"),
    "pairs": Task("sft", _pair, "generate"),
    "dialogues": Task("sft", _dialogue, "generate"),
    "preferences": Task("preference", _preference, "generate"),
}
_TINY = {key: value for key, value in TINY.items() if not key.startswith("gate.")} | {
    "finetune.num_train_epochs": 10.0,
    "finetune.learning_rate": 0.01,
}
"""`tuneline use` writes the rules of the gate."""
_FIRST_MONTH, _SECOND_MONTH = 300, 400
_NAME = "questions"


def _write(folder: Path, row: Callable[[int], dict[str, Any]], count: int) -> Path:
    """A folder with one file per hundred rows."""
    for start in range(0, count, 100):
        path = folder / f"export-{start:04d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(start, min(count, start + 100))))
    return folder


def _installed(project: Project) -> Project:
    """The project, with the environment of the tests as its .venv."""
    (project.root / ".venv").symlink_to(sys.prefix)
    return project


def _ok(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def _git(project: Project, *command: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *command], cwd=project.root, capture_output=True, text=True, check=False)
    return _ok(done).stdout


def _keep(project: Project, printed: str) -> None:
    """Run the printed command, and check that git has nothing left to add."""
    found = re.search(r"^to keep what was made: (git add .+ && .venv/bin/dvc push)$", printed, re.MULTILINE)
    assert found is not None, printed
    environment = project.environment() | {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    _ok(
        subprocess.run(
            found[1], shell=True, cwd=project.root, env=environment, capture_output=True, text=True, check=False
        )
    )
    assert _git(project, "status", "--porcelain") == ""


def _client(project: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow/store/mlflow.db")


def _versions(project: Project) -> list[str]:
    return sorted(version.version for version in _client(project).search_model_versions(f"name = '{_NAME}'"))


def _ask(project: Project, task: Task, *which: str, here: bool = False) -> str:
    _, question = _question(10_001)
    answered = _ok((project.here if here else project.tuneline)(task.command, question, *which))
    assert f"{_NAME} version" in answered.stderr, "the answer does not say which version gave it"
    assert answered.stdout.strip()
    return answered.stdout


def _ids(project: Project, *splits: str) -> set[str]:
    found = (files.read_parquet(project.root / "data/clean" / split, ["id"]) for split in splits)
    return {row for table in found for row in table["id"].to_pylist()}


def _two_months(tmp_path: Path, name: str) -> tuple[Project, str]:
    """Returns the project, and what its second version answers."""
    task = TASKS[name]
    project = _installed(copy_project(tmp_path / "first clone", _TINY))
    remote = tmp_path / "remote"
    _ok(project.tuneline("exec", "--", "dvc", "remote", "add", "--default", "shelf", str(remote)))
    rows = _write(tmp_path / "months" / _NAME, task.row, _FIRST_MONTH)

    seen = _ok(project.here("inspect", str(rows))).stdout
    assert f"{_FIRST_MONTH} rows" in seen
    _ok(project.tuneline("use", str(rows)))
    p = params.load(project.root / "params.yaml")
    assert (p.task, p.registry.model) == (task.name, _NAME)
    assert {rule.versus for rule in p.gate.rules} >= {"champion"}

    first = _ok(project.flow())
    assert f"{_NAME} version 1" in first.stdout
    verdict = _client(project).get_model_version(_NAME, "1").tags["tuneline.verdict"]
    assert verdict in first.stdout.splitlines()[-2] + first.stdout.splitlines()[-1]
    _keep(project, first.stdout)
    _client(project).set_registered_model_alias(_NAME, "champion", "1")
    _ask(project, task)
    base, held_out = files.sha256_path(project.root / "models/base"), _ids(project, "validation", "test")

    # The next month's export also holds last month's rows.
    _write(rows, task.row, _SECOND_MONTH)
    _ok(project.here("use", str(rows)))
    second = _ok(project.flow())
    assert f"{_NAME} version 2" in second.stdout
    assert files.sha256_path(project.root / "models/base") == base, "new rows must not pretrain the base again"
    assert held_out.isdisjoint(_ids(project, "train")), "a row that was held out is trained on"
    decision = files.read_json(project.root / "reports/gate.json")
    assert decision["champion"]["version"] == "1"
    assert decision["champion"]["rows"] > 0
    versus_champion = [rule for rule in decision["rules"] if rule["versus"] == "champion"]
    assert versus_champion
    assert all(rule["verdict"] != "not applicable" for rule in versus_champion)
    # The first comparison with a champion is decided at 95 %, as ever; to run the gate again spends nothing.
    assert (decision["ledger"]["comparison"], decision["ledger"]["level"]) == (1, 0.025)
    assert "This is comparison 1 with a champion of this model" in project.here("gate").stdout
    kept = _client(project).get_experiment_by_name(f"{_NAME}-ledger")
    assert kept
    assert len(_client(project).search_runs([kept.experiment_id])) == 3
    _keep(project, second.stdout)
    return project, _ask(project, task, "--version", "2", here=True)


def _second_clone(project: Project, target: Path, task: Task, answer: str) -> None:
    """A clone of another person: nothing is trained there, and the model gives the same answer."""
    _git(project, "clone", "--quiet", str(project.root), str(target))
    clone = _installed(Project(target))
    _ok(clone.tuneline("exec", "--", "dvc", "pull", "--with-deps", "check"))
    done = _ok(clone.flow())
    assert f"{_NAME} version 1" in done.stdout
    assert "rebuilt: nothing" in done.stdout
    weights = "models/finetuned/model.safetensors"
    assert files.sha256_file(clone.root / weights) == files.sha256_file(project.root / weights)
    assert _ask(clone, task, "--version", "1") == answer


@pytest.mark.timeout(1200)  # A minute or two, alone.
def test_two_months_with_labelled_rows(tmp_path: Path) -> None:
    _two_months(tmp_path, "labels")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", TASKS)
def test_two_months_and_a_second_clone(tmp_path: Path, name: str) -> None:
    project, answer = _two_months(tmp_path, name)
    _second_clone(project, tmp_path / "second clone", TASKS[name], answer)
