"""Several processes learn what one does from the same rows, and a killed one changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharing
from safetensors.torch import load_file
from test_kill import make

from tuneline.params import editing
from tuneline.training import distributed


def in_processes(place: Path, count: int) -> None:
    """Train in `count` processes of torchrun."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--local_addr", "localhost"]
    command = [sys.executable, *agent, "--nproc_per_node", str(count), sharing.__file__, str(place), str(count)]
    ran = subprocess.run(
        command,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TUNELINE_FAILURE": str(place / "failure")},
    )
    assert ran.returncode == 0, ran.stderr


def hold_equal(place: Path, count: int) -> None:
    """One process and several, on the same rows: the same losses and weights up to the order of float32 sums."""
    sharing.train(place, 1)
    in_processes(place, count)
    one, several = (sharing.files.read_json(place / f"made-{processes}.json") for processes in (1, count))
    assert [line["step"] for line in one] == [line["step"] for line in several]
    for alone, together in zip(one, several, strict=True):
        assert alone == pytest.approx(together, abs=1e-6, rel=1e-4)
        for name in ("loss", "eval_loss"):
            assert alone.get(name) == pytest.approx(together.get(name), abs=1e-6)
        assert alone["tokens"] == together["tokens"]
    weights = [load_file(place / f"made-{processes}/model.safetensors") for processes in (1, count)]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 1e-5


def test_every_row_of_a_batch_is_one_process_s() -> None:
    for rows, processes in ((8, 2), (7, 2), (1, 3), (5, 4), (0, 2)):
        shares = [distributed.share(slice(10, 10 + rows), place, processes) for place in range(processes)]
        assert [row for part in shares for row in range(part.start, part.stop)] == list(range(10, 10 + rows))
        sizes = [part.stop - part.start for part in shares]
        assert max(sizes) - min(sizes) <= 1


def test_two_processes_of_four_rows_learn_what_one_of_eight_does(workplace: Path) -> None:
    editing.set_values(workplace / "params.yaml", {"finetune.per_device_train_batch_size": 8})
    hold_equal(workplace, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora", "classification", "regression", "preference", "muon"])
def test_so_do_the_processes_of_every_task(workplace: Path, case: str) -> None:
    make(workplace, case)
    dropout = {"finetune.lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}} if case == "lora" else {}
    editing.set_values(workplace / "params.yaml", {"finetune.per_device_train_batch_size": 4} | dropout)
    hold_equal(workplace, 2)
