"""Several processes learn the same as one process, and a killed process changes nothing."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from compared_processes import hold_equal
from projects import ROOT, Project
from test_kill import make

from tuneline import params
from tuneline.core import files
from tuneline.errors import ParamsError, SetupError
from tuneline.modeling import hardware
from tuneline.params import editing
from tuneline.training import distributed


def test_each_row_of_a_batch_belongs_to_one_process() -> None:
    for rows, processes in ((8, 2), (7, 2), (1, 3), (5, 4), (0, 2)):
        shares = [distributed.share(slice(10, 10 + rows), place, processes) for place in range(processes)]
        assert [row for part in shares for row in range(part.start, part.stop)] == list(range(10, 10 + rows))
        sizes = [part.stop - part.start for part in shares]
        assert max(sizes) - min(sizes) <= 1


def test_two_processes_of_four_rows_learn_the_same_as_one_of_eight(workplace: Path) -> None:
    editing.set_values(workplace / "params.yaml", {"finetune.per_device_train_batch_size": 8})
    hold_equal(workplace, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora", "classification", "regression", "preference", "muon", "regularised"])
def test_two_processes_learn_the_same_as_one_for_every_task(workplace: Path, case: str) -> None:
    make(workplace, case)
    dropout = {"finetune.lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}} if case == "lora" else {}
    if case == "regularised":
        # Noise, as dropout, is another in every process.
        dropout = {"finetune.dropout": None, "finetune.neftune_noise_alpha": None}
    editing.set_values(workplace / "params.yaml", {"finetune.per_device_train_batch_size": 4} | dropout)
    hold_equal(workplace, 2)


def test_more_processes_than_cores_and_missing_hardware_are_refused(workplace: Path) -> None:
    compute = params.load(workplace / "params.yaml").compute
    with pytest.raises(
        SetupError, match=r"^finetune.nproc_per_node: 9999 processes are more than the cores .* \(\d+\)"
    ):
        hardware.check(compute, 9999)
    if not hardware.gpus():
        with pytest.raises(SetupError, match=r"^compute.device: cuda: torch .*; set it to cpu"):
            hardware.check(compute.model_copy(update={"device": "cuda"}))
    editing.set_values(workplace / "params.yaml", {"compute.attn_implementation": "flash_attention_2"})
    with pytest.raises(ParamsError, match=r"params.yaml:\d+: compute: attn_implementation flash_attention_2 need"):
        params.load(workplace / "params.yaml")


def test_instruction_sets_are_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n")
    assert hardware.computes_bfloat16(hardware.instruction_sets(cpuinfo))
    cpuinfo.write_text("flags\t\t: fpu avx2 avx512f\n")
    assert not hardware.computes_bfloat16(hardware.instruction_sets(cpuinfo))


def stage(place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tuneline.stages", "finetune"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=place, env=Project(ROOT).environment(), **pipes)  # pyright: ignore


def trainers_of(agent: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in psutil.Process(agent.pid).children() if "tuneline.stages" in child.cmdline()]


def listening(pid: int) -> set[str]:
    """The addresses of this machine at which a process and those that it has started can be reached."""
    of_stage = psutil.Process(pid)
    found = [one for process in (of_stage, *of_stage.children(recursive=True)) for one in process.net_connections()]
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


def hold_after_kills(workplace: Path) -> None:
    """Check that a killed trainer and a killed stage end in the same bytes as a training without a kill."""
    shutil.copytree(ROOT / "mlflow", workplace / "mlflow", ignore=shutil.ignore_patterns("store"))
    undisturbed = stage(workplace)
    said = undisturbed.communicate()[0]
    assert undisturbed.returncode == 0, said
    expected = [files.sha256_path(workplace / name) for name in ("models/finetuned", "reports/training.csv")]
    assert not list((workplace / "work").glob("*/checkpoint-*"))

    shutil.rmtree(workplace / "models/finetuned")
    # Of a trainer alone: all start again.  Of the stage: the others die too, and the same command goes on.
    for kill_stage in (False, True):
        running = stage(workplace)
        while not list((workplace / "work").glob("*/checkpoint-*/manifest.json")):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.01)
        others = trainers_of(running)
        assert len(others) == 2
        assert listening(running.pid) == {"127.0.0.1"}
        (psutil.Process(running.pid) if kill_stage else others[1]).kill()
        said = running.communicate()[0]
        assert running.returncode == (-9 if kill_stage else 0), said
        if kill_stage:
            psutil.wait_procs(others, timeout=10)
            assert not any(other.is_running() for other in others)
            running = stage(workplace)
            said = running.communicate()[0]
            assert running.returncode == 0, said
        else:
            assert "a process of this training has died; restart 1 of 3" in said
        assert "going on from" in said
        found = [files.sha256_path(workplace / name) for name in ("models/finetuned", "reports/training.csv")]
        assert found == expected


@pytest.mark.slow
@pytest.mark.timeout(900)  # Six starts of three processes.
def test_a_killed_process_changes_nothing_and_no_process_outlives_the_stage(workplace: Path) -> None:
    editing.set_values(workplace / "params.yaml", {"finetune.nproc_per_node": 2, "finetune.num_train_epochs": 4.0})
    hold_after_kills(workplace)


@pytest.mark.slow
def test_a_diverged_training_is_reported_once_and_not_restarted(workplace: Path) -> None:
    shutil.copytree(ROOT / "mlflow", workplace / "mlflow", ignore=shutil.ignore_patterns("store"))
    editing.set_values(workplace / "params.yaml", {"finetune.nproc_per_node": 2, "finetune.learning_rate": 1e30})
    running = stage(workplace)
    said = running.communicate()[0]
    assert running.returncode == 1
    assert len(re.findall(r"^error: step \d+: the loss is ", said, re.MULTILINE)) == 1, said
    assert "Traceback" not in said
