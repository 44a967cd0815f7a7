"""Copies of the project in folders of their own, used as a person would: by commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tuneline import environment
from tuneline.cli import cli
from tuneline.params import editing

ROOT = Path(__file__).resolve().parent.parent

_OF_A_PROJECT = ("MLFLOW_", "PREFECT_", "TUNELINE_", "DVC_SITE_CACHE_DIR")

# The whole line in a minute: a model that can learn next to nothing, by the same code.
TINY = {
    "sample.libraries": [],
    "compute.threads": 1,
    "base.builtin.vocab_size": 512,
    "base.builtin.hidden_size": 32,
    "base.builtin.intermediate_size": 64,
    "base.builtin.num_hidden_layers": 1,
    "base.builtin.num_attention_heads": 2,
    "base.builtin.max_steps": 30,
    "base.builtin.eval_steps": 15,
    "base.builtin.save_steps": 10,
    "base.builtin.logging_steps": 10,
    "base.builtin.warmup_steps": 5,
    "finetune.num_train_epochs": 0.2,
    "finetune.learning_rate": 0.001,
    "finetune.warmup_steps": 2,
    "finetune.save_steps": 10,
    "finetune.eval_steps": 20,
    "finetune.logging_steps": 5,
    "evaluate.generation_rows": 20,
    "evaluate.max_new_tokens": 8,
    "evaluate.samples": 2,
    "evaluate.bootstrap_resamples": 200,
    "gate.rules": [{"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}],
}


class Project:
    """A project in a folder of its own, used as a person would: by commands."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def set(self, **values: object) -> None:
        """Set params; a dot in a key is written as two underscores."""
        editing.set_values(self.root / "params.yaml", {key.replace("__", "."): value for key, value in values.items()})

    def environment(self) -> dict[str, str]:
        """Of a person's shell: nothing that other tests or tools have set in this process."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_PROJECT)}
        return own | {"PYTHONPATH": str(self.root / "src")}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python COMMAND…` in the project, with its own sources, and some more environment."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def tuneline(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `tuneline ARGUMENTS…`."""
        return self.run("-m", "tuneline", *arguments, **environment)

    def here(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Do what `tuneline ARGUMENTS…` does in this process, which need not import the tools first: seconds less."""
        with entered(self.root, **variables):
            done = CliRunner().invoke(cli, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def flow(self) -> subprocess.CompletedProcess[str]:
        """Run the flow as `make run` does."""
        return self.tuneline("exec", "--", "python", "flows/run.py")


@contextmanager
def entered(root: Path, **variables: str) -> Iterator[None]:
    """Be in a project's folder and environment, and in that of no other project; and some more environment."""
    # Not where a test module is collected that needs no MLflow.
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in [name for name in os.environ if name.startswith(_OF_A_PROJECT)]:
            patch.delenv(name)
        # What other tests have set in this process would win.
        mlflow.set_tracking_uri(None)  # pyright: ignore[reportArgumentType]
        for name, value in {"PATH": os.environ["PATH"], "TUNELINE_ROOT": str(root), **variables}.items():
            patch.setenv(name, value)
        (root / "work").mkdir(exist_ok=True)
        # Or a command would start this process, which is pytest's, again.
        for name, value in environment.missing_variables(root).items():
            patch.setenv(name, value)
        yield


def copy_project(target: Path, values: Mapping[str, object] = TINY) -> Project:
    """A copy of what is in the repository, in a git repository of its own, with `values` in its params."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    project = Project(target)
    editing.set_values(target / "params.yaml", values)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "start"]):
        subprocess.run([*git, *arguments], cwd=target, check=True)
    return project
