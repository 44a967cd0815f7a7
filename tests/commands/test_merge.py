"""`tuneline merge`: what is copied of verified versions, and what is refused before anything is."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import merge_folders
import mlflow
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from projects import ROOT, entered
from tiny_models import tiny
from transformers import PreTrainedTokenizerFast

from tuneline import environment, params
from tuneline.cli import cli
from tuneline.commands import merge as merging
from tuneline.core import files
from tuneline.fusion.merging import merge_recipe, merged_model
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.pipeline import objects
from tuneline.registry import mlmodel, tracking, version_status, versions
from tuneline.registry.lineage import Lineage

MODEL = "merged-ones"
OTHER_BASE = 3
"""The version that was fine-tuned from another base."""
CHAT, CLASSIFIER, WIDE = 4, 5, 6


def put(cache: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into a cache; returns its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    objects.place(cache, md5).parent.mkdir(parents=True, exist_ok=True)
    objects.place(cache, md5).write_bytes(content)
    return md5


def put_folder(cache: Path, folder: Path) -> str:
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": put(cache, path.read_bytes()), "relpath": str(path.relative_to(folder))} for path in names]
    return put(cache, json.dumps(listed).encode(), ".dir")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, store: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A project with registered versions: 1 and 2 fit together, each later one differs in something."""
    root = tmp_path_factory.mktemp("merging 项目")
    before = Path.cwd()
    os.chdir(root)
    try:
        (root / ".dvc").mkdir()
        (root / ".dvc/config").write_text("[core]\nno_scm = true\nanalytics = false\n")
        (root / "mlflow").mkdir()
        (root / environment.ENV_FILE).write_bytes((ROOT / environment.ENV_FILE).read_bytes())
        (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        values = {"registry.model": MODEL, "finetune.max_length": 24, "compute.threads": 1}
        editing.set_values(root / "params.yaml", values)
        mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
        tracker = tracking.connect()
        base, other = tiny("llama"), merge_folders.nudged(tiny("llama"), 9)
        for number in range(1, 7):
            fill(root, number, base if number != OTHER_BASE else other, tokenizer)
            assert register(tracker, number) == str(number)
    finally:
        os.chdir(before)
    return root


def fill(root: Path, number: int, base: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make the workspace that of a version."""
    models.save(base, tokenizer, root / "models/base")
    md5 = put_folder(root / ".dvc/cache/files/md5", root / "models/base")
    lock = {"base": {"cmd": "x", "outs": [{"path": "models/base", "hash": "md5", "md5": md5}]}}
    (root / "dvc.lock").write_text(f"{json.dumps({'schema': '2.0', 'stages': lock})}\n")
    finetuned, model, mode = root / "models/finetuned", merge_folders.nudged(base, number), "plain"
    if number == CHAT:
        mode = "chat"
    if number == WIDE:
        model = tiny("llama", intermediate_size=64)
    editing.set_values(root / "params.yaml", {"task": "classification" if number == CLASSIFIER else "sft"})
    if number == CLASSIFIER:
        rules = [{"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}]
        editing.set_values(root / "params.yaml", {"gate.rules": rules})
        model, _ = models.new_classifier(root / "models/base", ["no", "yes"], "single_label_classification", 1)
        mode = "classification"
    models.save(model, tokenizer, finetuned, mode)
    if number == CLASSIFIER:
        return
    text = (ROOT / "params.yaml").read_text("utf-8")
    (root / "params.yaml").write_text(text)
    editing.set_values(root / "params.yaml", {"registry.model": MODEL, "finetune.max_length": 24, "compute.threads": 1})


def register(tracker: tracking.Tracker, number: int) -> str:
    p = params.load()
    rows = {"id": [f"row {number}", "row"], "cluster": [f"group {number}", "group"]}
    files.write_parquet(Path(p.paths.clean) / "train/part-00000.parquet", pa.table(rows))
    names = ("fingerprint", "data_sha256", "base_sha256", "evaluation_sha256", "params_sha256")
    names = (*names, "dvc_lock_sha256", "environment_sha256", "git_commit")
    sha256 = files.sha256_path(Path(p.paths.finetuned))
    lineage = Lineage(**{name: str(number) * 64 for name in names}, git_dirty="false", model_sha256=sha256)
    git = {"git_commit": "2" * 40, "git_dirty": "false"}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    gate, evaluation = {"verdict": "passed", "rules": []}, {"rows": 1, "candidate": {"accuracy": 1.0}}
    run_id = tracker.ensure_run(subject, [])
    return versions.register(
        tracker, p, lineage, run_id, gate, evaluation, lambda folder: mlmodel.write(folder, p), lambda _: None
    ).version


@dataclass(frozen=True)
class Shell:
    root: Path

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["merge", *arguments])


@pytest.fixture
def shell(place: Path, store: Path) -> Iterator[Shell]:
    with entered(place, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db"):
        before = (place / "params.yaml").read_bytes()
        text = (ROOT / "params.yaml").read_text("utf-8")
        (place / "params.yaml").write_text(text)
        editing.set_values(place / "params.yaml", {"registry.model": MODEL, "finetune.max_length": 24})
        yield Shell(place)
        shutil.rmtree(place / "models/merge", ignore_errors=True)
        (place / "params.yaml").write_bytes(before)


def problems(done: Result) -> list[str]:
    """The problems that the command told; it has written nothing."""
    assert done.exit_code == 1, done.output
    assert not Path("models/merge").exists()
    return [line.removeprefix("error: ") for line in done.stderr.splitlines()]


def test_versions_and_their_base_are_copied_and_named_in_params_on_request(shell: Shell) -> None:
    before = (shell.root / "params.yaml").read_bytes()
    done = shell.run("1", "2", "--method", "ties", "--density", "0.25")
    assert done.exit_code == 0, done.output
    assert (shell.root / "params.yaml").read_bytes() == before
    assert done.stdout.splitlines() == [
        "models/merge: versions 1 and 2 merged by ties, weights 1, 1, density 0.25; under DVC, with the base that all "
        "of them were fine-tuned from",
        "to make it the next candidate, run the same command with --apply (it sets base.source: merge, base.input: "
        "models/merge, finetune.num_train_epochs: 0)",
    ]
    folder = shell.root / "models/merge"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "base", "merge.json", "train-rows.parquet"]
    assert "README.md" not in {path.name for path in (folder / "1").iterdir()}
    assert merge_recipe.read(folder).model == MODEL
    rows = files.read_parquet(folder / "train-rows.parquet")
    assert sorted(rows.column("id").to_pylist()) == ["row", "row 1", "row 2"]
    assert (shell.root / "models/merge.dvc").is_file()
    merged_model.write(folder, shell.root / "work/merged")
    # A second merge takes the place of the first.
    done = shell.run("2", "1", "--weights", "3,1", "--apply")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1:] == [
        "params.yaml: base.source: builtin -> merge",
        "params.yaml: base.input: data/pretraining -> models/merge",
        "params.yaml: finetune.num_train_epochs: 1.0 -> 0",
        "next: make run",
    ]
    assert merge_recipe.read(folder).weights == [0.75, 0.25]
    p = params.load()
    assert (p.base.source, p.base.input, p.finetune.num_train_epochs) == ("merge", "models/merge", 0)
    # Epochs that a person has chosen for a merged model stay.
    assert "finetune.num_train_epochs" not in merging.values_of(p, folder)


def test_all_problems_of_versions_and_values_are_told_at_once(shell: Shell) -> None:
    done = shell.run("1", "1", "9", "nobody", "--method", "slerp", "--weights", "1,2,3", "--density", "2")
    told = problems(done)
    assert told[0] == "3 weights are given for 4 versions; give one weight per version, in their order"
    assert told[1].startswith("slerp is defined between two versions, and 4 are given")
    assert told[2].startswith("density has no meaning for slerp")
    assert "version 1 is named twice (1 and 1); name different versions" in told
    assert any("version 9" in line for line in told)
    assert any("no version is nobody yet" in line for line in told)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            OTHER_BASE,
            [
                "only versions that were fine-tuned from one base can be merged: version 1 from builtin with the "
                "sha256 111111111111…, and version 3 from builtin with the sha256 333333333333…; train from one of the "
                "two bases again (for a builtin base data.frozen_pretraining: true keeps it)"
            ],
        ),
        (
            CHAT,
            [
                "version 1 has the mode plain, and version 4 chat, so rows become tokens in different ways; name "
                "versions that agree in it"
            ],
        ),
        (
            CLASSIFIER,
            [
                "version 5 was trained for the task classification, and params.yaml says sft; name versions of this "
                "task, or set task",
                "version 1 answers with text, and version 5 with the labels no, yes; name versions that agree in it",
                "only version 5 has the tensors score.weight; name versions that agree in it",
            ],
        ),
        (
            WIDE,
            [
                "config.json: intermediate_size is 48 in version 1, and 64 in version 6; name versions that agree in "
                "it",
                "model.layers.0.mlp.down_proj.weight is F32 [32, 48] in version 1, and F32 [32, 64] in version 6; name "
                "versions that agree in it",
            ],
        ),
    ],
)
def test_versions_that_do_not_fit_together_are_refused(shell: Shell, version: int, said: list[str]) -> None:
    told = problems(shell.run("1", str(version)))
    assert set(said) <= set(told), told


def test_a_version_that_was_erased_or_changed_is_refused(shell: Shell) -> None:
    tracker = tracking.connect()
    folder = tracker.local_folder(MODEL, "2")
    assert folder is not None
    config = (folder / "config.json").read_bytes()
    try:
        (folder / "config.json").write_bytes(config + b" ")
        [told] = problems(shell.run("1", "2"))
        assert "version 2: its files have the digest" in told and told.endswith("; name another version")
    finally:
        (folder / "config.json").write_bytes(config)
    try:
        tracker.update_version(MODEL, "2", {version_status.ERASED: "2026-01-02T00:00:00"})
        [told] = problems(shell.run("1", "2"))
        assert "version 2: it was erased on 2026-01-02" in told
    finally:
        mlflow.MlflowClient().delete_model_version_tag(MODEL, "2", version_status.ERASED)


def test_a_version_that_changes_while_it_is_copied_is_not_merged(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tracking.connect().local_folder(MODEL, "2")
    assert folder is not None
    config, copy = (folder / "config.json").read_bytes(), files.copy

    def copy_changed(source: Path, target: Path) -> None:
        copy(source, target)
        if source == folder / "config.json":
            target.write_bytes(config + b" ")

    with monkeypatch.context() as patch:
        patch.setattr(files, "copy", copy_changed)
        assert problems(shell.run("1", "2")) == [
            "version 2: its files changed while they were copied; run the same command again"
        ]


def test_with_a_key_only_signed_versions_are_merged(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = CliRunner().invoke(cli, ["keys", "create", "--name", "ada"])
    assert made.exit_code == 0, made.output
    try:
        told = problems(shell.run("1", "2"))
    finally:
        shutil.rmtree(shell.root / "mlflow/keys")
    assert [line.split(": ")[0] for line in told] == [f"{MODEL} version 1", f"{MODEL} version 2"], told
    assert all("has signed it" in line and line.endswith("use a signed version") for line in told)


def test_a_base_that_is_nowhere_is_told_before_anything_is_written(shell: Shell) -> None:
    cache = shell.root / ".dvc/cache"
    cache.rename(shell.root / "away")
    try:
        told = problems(shell.run("1", "2"))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (shell.root / "away").rename(cache)
    assert len(told) == 2
    assert told[0].startswith("version 1: its base models/base with the md5 ")
    assert "is not in DVC's cache, and there is no remote; run `.venv/bin/tuneline push`" in told[0]


def test_a_folder_of_a_person_is_not_replaced(shell: Shell) -> None:
    (shell.root / "models/merge").mkdir(parents=True)
    (shell.root / "models/merge/mine.txt").write_text("mine")
    done = shell.run("1", "2")
    assert done.exit_code == 1
    assert "models/merge: exists, and is not a folder that `tuneline merge` wrote; move it" in done.stderr
    assert (shell.root / "models/merge/mine.txt").read_text() == "mine"


def test_params_that_would_not_fit_are_told_before_anything_is_written(shell: Shell) -> None:
    editing.set_values(shell.root / "params.yaml", {"gate.twins": [1]})
    [told] = problems(shell.run("1", "2", "--apply"))
    assert told.startswith("with base.source: merge, params.yaml:")
    assert "gate.twins: twins differ in the seed of their training" in told


@pytest.mark.parametrize("weights", ["a,b", "1,,2", ","])
def test_weights_that_are_no_numbers_are_a_wrong_use(shell: Shell, weights: str) -> None:
    done = shell.run("1", "2", "--weights", weights)
    assert done.exit_code == 2
    assert "must be numbers with commas between them, such as 0.7,0.3" in done.stderr


def test_the_command_offers_each_method() -> None:
    [method] = [one for one in cli.commands["merge"].params if one.name == "method"]
    assert sorted(method.type.choices) == sorted(merge_recipe.METHODS)  # pyright: ignore[reportAttributeAccessIssue]
