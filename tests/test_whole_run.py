"""`make run` from the built-in corpus to a registered version, with the real tools."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from projects import TINY, Project, copy_project
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuneline.core import files
from tuneline.registry import versions

MODEL = "docstring-writer"
# The first test waits for the first run: a minute, and several on a busy machine.
pytestmark = pytest.mark.timeout(900)
STAGES = ["sample", "validate_raw", "prepare", "validate_clean", "base", "finetune", "evaluate", "check"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project after its first run, and what the run printed."""
    project = copy_project(tmp_path_factory.mktemp("run 流水线") / "my project")
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done.stdout + done.stderr


def client(project: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow/store/mlflow.db")


def weights(project: Project) -> str:
    return files.sha256_file(project.root / "models" / "finetuned" / "model.safetensors")


def test_the_first_run_ends_with_a_version_that_beats_its_base(trained: tuple[Project, str]) -> None:
    project, printed = trained
    assert f"Flow run '{MODEL}" in printed
    assert f"\n{MODEL} version 1, passed; rebuilt: {', '.join(STAGES)}\n" in printed
    (version,) = client(project).search_model_versions(f"name = '{MODEL}'")
    assert version.tags["tuneline.verdict"] == "passed"
    assert version.tags["tuneline.model_sha256"] == files.sha256_path(project.root / "models" / "finetuned")
    evaluation = files.read_json(project.root / "reports" / "evaluation.json")
    assert evaluation["candidate"]["bits_per_byte"] < evaluation["base"]["bits_per_byte"]
    assert evaluation["versus_base"]["bits_per_byte"]["high"] < 0
    assert "<svg" in (project.root / "reports" / "index.html").read_text("utf-8")


def test_the_mlflow_run_holds_curve_inputs_and_metrics(trained: tuple[Project, str]) -> None:
    project, _ = trained
    tags = client(project).get_model_version(MODEL, "1").tags
    run = client(project).get_run(tags["tuneline.run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.001"
    evaluation = files.read_json(project.root / "reports" / "evaluation.json")
    assert run.data.metrics["candidate.bits_per_byte"] == evaluation["candidate"]["bits_per_byte"]
    assert run.inputs is not None
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"clean", "base"}
    lines = (project.root / "reports" / "training.csv").read_text().splitlines()
    steps = [metric.step for metric in client(project).get_metric_history(run.info.run_id, "loss")]
    assert steps == [int(line.split(",")[0]) for line in lines[1:]]


def test_transformers_loads_the_folder_of_a_version(trained: tuple[Project, str], tmp_path: Path) -> None:
    project, _ = trained
    version = client(project).get_model_version(MODEL, "1")
    # Like any other program, which knows only the registry's address.
    folder = next((project.root / "mlflow" / "store" / "artifacts").rglob("model.safetensors")).parent
    assert version.source
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("def f():", return_tensors="pt")
    answer = model.generate(**asked, max_new_tokens=3, do_sample=False)  # pyright: ignore[reportAttributeAccessIssue]
    assert answer.shape[1] > 3


def test_no_training_text_holds_a_held_out_module(trained: tuple[Project, str]) -> None:
    project, _ = trained
    clean, pretraining = project.root / "data" / "clean", project.root / "data" / "pretraining"
    groups = {
        split: set(files.read_parquet(clean / split)["cluster"].to_pylist())
        for split in ("train", "validation", "test")
    }
    held_out = groups["validation"] | groups["test"]
    assert held_out
    assert groups["train"].isdisjoint(held_out)
    assert groups["validation"].isdisjoint(groups["test"])
    pretrained = files.read_parquet(pretraining / "train")
    assert set(pretrained["cluster"].to_pylist()).isdisjoint(held_out)


@pytest.mark.slow
def test_register_refuses_everything_that_the_gate_did_not_decide(
    trained: tuple[Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = trained
    decided, store = project.root / "reports/gate.json", client(project)
    before = (project.root / "params.yaml").read_text()
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base"}
    try:
        project.set(registry__model="edited", gate__rules=[rule | {"margin": 9.0}])
        assert project.here("gate").returncode == 1
        for content in ("", "[]", "\0" * 9, decided.read_text().replace('"verdict": "failed"', '"verdict": "passed"')):
            decided.write_text(content)
            done = project.here("register")
            assert done.returncode == 1
            assert done.stderr.endswith("run `tuneline gate` first\n")
        project.set(gate__rules=[rule | {"margin": 0.0}])
        assert project.here("gate").returncode == 0
        register = versions.register
        weights, page = project.root / "models/finetuned/model.safetensors", project.root / "reports/index.html"
        for changed in (weights, page, project.root / "params.yaml"):
            content = changed.read_bytes()

            def change_first(*arguments: Any, changed: Path = changed, content: bytes = content) -> object:
                changed.write_bytes(content[:-20] + b"# not as it was late")
                return register(*arguments)

            monkeypatch.setattr(versions, "register", change_first)
            done = project.here("register")
            assert done.returncode == 1
            assert "changed during the registration, so the model is not registered" in done.stderr
            changed.write_bytes(content)
        assert store.search_model_versions("name = 'edited'") == []
        monkeypatch.setattr(versions, "register", register)
        assert project.here("register").stdout == "edited version 1 registered\n"
    finally:
        (project.root / "params.yaml").write_text(before)


def test_a_second_run_rebuilds_nothing_and_registers_nothing(trained: tuple[Project, str]) -> None:
    project, _ = trained
    before = weights(project)
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{MODEL} version 1, passed; rebuilt: nothing"
    # Prefect was not started.
    assert done.stderr == ""
    assert len(client(project).search_model_versions(f"name = '{MODEL}'")) == 1
    experiment = client(project).get_experiment_by_name(MODEL)
    assert experiment is not None
    assert len(client(project).search_runs([experiment.experiment_id])) == 1
    assert weights(project) == before


def test_generate_answers_from_the_registry(trained: tuple[Project, str]) -> None:
    project, _ = trained
    asked = project.here("generate", "def add(a, b):\\n    ")
    assert asked.returncode == 1
    assert "no version is champion yet (registered: 1)" in asked.stderr
    assert "--version 1" in asked.stderr
    answered = project.here("generate", "def add(a, b):\\n    ", "--version", "1", "--max-new-tokens", "4")
    assert (answered.returncode, answered.stderr) == (0, f"{MODEL} version 1 answers\n")
    client(project).set_registered_model_alias(MODEL, "champion", "1")
    by_alias = project.tuneline("generate", "def add(a, b):\\n    ", "--max-new-tokens", "4")
    client(project).delete_registered_model_alias(MODEL, "champion")
    assert by_alias.stdout == answered.stdout


def test_the_gate_fails_a_candidate_that_is_worse_than_the_champion(trained: tuple[Project, str]) -> None:
    project, _ = trained
    rules = files.read_json(project.root / "reports" / "gate.json")["rules"]
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "champion"}
    client(project).set_registered_model_alias(MODEL, "champion", "1")
    try:
        project.set(gate__rules=[{**rule, "margin": -0.01}])
        same = project.here("gate")
        project.set(gate__rules=[{**rule, "margin": 0.5}])
        worse = project.here("gate")
        refused = project.here("register")
    finally:
        client(project).delete_registered_model_alias(MODEL, "champion")
        project.set(gate__rules=[{name: rules[0][name] for name in ("metric", "direction", "versus", "margin")}])
    assert same.returncode == 0, same.stderr
    assert worse.returncode == 1
    assert "champion" in worse.stdout
    assert refused.returncode == 1
    assert "the gate failed, so the model is not registered" in refused.stderr


def test_a_failed_gate_ends_the_flow_with_exit_1_and_again_in_the_next_run(trained: tuple[Project, str]) -> None:
    project, _ = trained
    project.set(gate__rules=[{"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 9.0}])
    try:
        asked, again = project.flow(), project.flow()
    finally:
        project.set(gate__rules=TINY["gate.rules"])
    for done in (asked, again):
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        assert "NoneType" not in done.stderr
        *told, last = done.stderr.strip().splitlines()
        assert last == f"{MODEL}: failed, no version is registered; rebuilt: nothing"
        assert any(line.endswith("the interval is not above the required gain of 9.") for line in told)
        assert any(line.startswith("next: ") for line in told)
    assert "Finished in state GateFailed" in asked.stderr
    # Once by the gate, and once at the end of the run.
    assert asked.stderr.count("the interval is not above the required gain of 9.") == 2
    assert "Flow run" not in again.stderr
    assert len(client(project).search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_second_run_is_refused_while_one_is_running(trained: tuple[Project, str]) -> None:
    project, _ = trained
    code = (
        "import sys, time; from pathlib import Path; from tuneline import processes\n"
        "with processes.exclusive(Path('work/run.lock'), 'x'): print('held', flush=True); time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=project.root, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = project.flow()
        holder.kill()
    assert done.returncode == 1
    assert f"another run (pid {holder.pid}) holds this project's pipeline" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_bad_params_are_one_message_and_exit_1(project: Project) -> None:
    project.set(finetune__max_length=4, compute__threads=0)
    done = project.run("-m", "tuneline.stages", "finetune")
    assert done.returncode == 1
    assert [line.split(": ", 2)[2] for line in done.stderr.splitlines()] == [
        "compute.threads: 0: input should be greater than or equal to 1",
        "finetune.max_length: 4: input should be greater than or equal to 8",
    ]


def test_an_mlflow_address_that_does_not_answer_is_one_line(trained: tuple[Project, str]) -> None:
    project, _ = trained
    done = project.here("gate", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("MLflow at http://127.0.0.1:9 does not answer")
    assert len(done.stderr.splitlines()) == 1


def destroy(path: Path) -> None:
    """Overwrite the second half with zeros, and leave the time of change as it was."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[: before.st_size // 2].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_damaged_model_is_not_registered_and_the_printed_command_restores_it(project: Project) -> None:
    (project.root / ".venv").symlink_to(sys.prefix)
    assert project.flow().returncode == 0
    expected = weights(project)
    destroy(project.root / "models/finetuned/model.safetensors")
    (project.root / "mlflow/store/mlflow.db").unlink()
    for done in (project.flow(), project.tuneline("gate"), project.tuneline("register")):
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        # Prefect's log has the same lines before.
        lines = done.stderr.splitlines()
        *_, problem = [line for line in lines if line.startswith("models/finetuned/model.safetensors")]
        assert "DVC's cache has it undamaged: " in problem
    subprocess.run(["sh", "-ec", problem.split("has it undamaged: ")[1]], cwd=project.root, check=True)
    done = project.flow()
    assert f"{MODEL} version 1, passed; rebuilt: nothing" in done.stdout, done.stdout + done.stderr
    assert weights(project) == expected
    # The files are not those that were evaluated, although DVC knows their bytes.
    measured = project.root / "reports/measured.json"
    files.write_json(measured, files.read_json(measured) | {"model_sha256": "0" * 64})
    assert project.tuneline("exec", "--", "dvc", "commit", "--force", "evaluate").returncode == 0
    done = project.flow()
    assert done.returncode == 1
    assert "models/finetuned: has the sha256" in done.stderr
    again = re.search(r"evaluate again with: (.+?);", done.stderr)
    assert again is not None
    subprocess.run(["sh", "-ec", again[1]], cwd=project.root, check=True)
    printed = project.flow().stdout
    # The stage `check` has read the wrong file.
    assert f"{MODEL} version 1, passed; " in printed
    assert "rebuilt: nothing" in printed or "rebuilt: check\n" in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_data_from_a_damaged_cache_are_not_trained_on(project: Project) -> None:
    (project.root / ".venv").symlink_to(sys.prefix)
    assert project.flow().returncode == 0
    [train] = (project.root / "data/clean/train").iterdir()
    objects = (path for path in (project.root / ".dvc/cache/files/md5").rglob("*") if path.is_file())
    [copy] = [path for path in objects if path.read_bytes() == train.read_bytes()]
    mode = copy.stat().st_mode
    copy.chmod(0o644)
    destroy(copy)
    copy.chmod(mode)
    shutil.rmtree(project.root / "data/clean")
    project.set(finetune__learning_rate=0.002)
    done = project.flow()
    assert done.returncode == 1
    assert "- step " not in done.stdout + done.stderr
    # Prefect's log also holds the problem, before this line.
    *_, problem = [line for line in done.stderr.splitlines() if line.startswith("data/clean/train/")]
    command = problem.split("make it again with: ")[1]
    subprocess.run(["sh", "-ec", command], cwd=project.root, check=True)
    assert f"{MODEL} version 2, passed; rebuilt: finetune, evaluate" in project.flow().stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # Six runs of the flow.
def test_a_change_rebuilds_only_the_stages_that_depend_on_it(project: Project) -> None:
    assert project.flow().returncode == 0
    first = weights(project)
    project.set(finetune__learning_rate=0.002)
    other = project.flow()
    assert "rebuilt: finetune, evaluate, check\n" in other.stdout
    assert "'finetune' - training: " in other.stdout + other.stderr
    assert weights(project) != first
    project.set(finetune__learning_rate=0.001)
    back = project.flow()
    assert f"{MODEL} version 1, passed; " in back.stdout
    assert "'finetune' - training: " not in back.stdout + back.stderr
    assert weights(project) == first
    cli = project.root / "src" / "tuneline" / "cli.py"
    cli.write_text(cli.read_text("utf-8") + "\n# another word\n", "utf-8")
    assert "rebuilt: nothing" in project.flow().stdout
    expectations = project.root / "data" / "expectations" / "clean.yaml"
    expectations.write_text(expectations.read_text("utf-8") + "\n# looser\n", "utf-8")
    assert "rebuilt: validate_clean\n" in project.flow().stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", ["base", "finetune"])
def test_a_killed_run_ends_in_the_same_weights(trained: tuple[Project, str], tmp_path: Path, stage: str) -> None:
    expected = weights(trained[0])
    project = copy_project(tmp_path / "project")
    command = [sys.executable, "-m", "tuneline", "exec", "--", "python", "flows/run.py"]
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        printed: list[str] = []
        for line in running.stdout:
            printed.append(line)
            if f"'{stage}' - Running stage" in line:
                break
        # The first checkpoint is that of step 10; kill so soon that steps are left.
        while not list((project.root / "work").glob("*/checkpoint-*/manifest.json")):
            assert running.poll() is None, f"{stage} was never seen at a checkpoint: {''.join(printed)}"
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGKILL)
    assert not (project.root / "mlflow" / "store" / "artifacts" / "models").exists()
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    assert stage in done.stdout.split("rebuilt: ")[1].splitlines()[0].split(", "), "the kill came when all was done"
    assert weights(project) == expected
