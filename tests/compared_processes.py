"""Compare one process and several processes that train on the same rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import training_process
from safetensors.torch import load_file

from tuneline.training import distributed


def in_processes(place: Path, count: int) -> None:
    """Train in `count` processes of torchrun."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--local_addr", "localhost"]
    command = [
        sys.executable,
        *agent,
        "--nproc_per_node",
        str(count),
        training_process.__file__,
        str(place),
        str(count),
    ]
    ran = subprocess.run(
        command,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | distributed.OWN_STORE | {"TUNELINE_FAILURE": str(place / "failure")},
    )
    failure = place / "failure"
    assert ran.returncode == 0, failure.read_text("utf-8") if failure.exists() else ran.stderr


def hold_equal(place: Path, count: int, *, weights_within: float = 1e-5) -> None:
    """Check that one process and several have the same losses and weights, up to the order of float32 sums."""
    training_process.train(place, 1)
    in_processes(place, count)
    one, several = (training_process.files.read_json(place / f"made-{processes}.json") for processes in (1, count))
    assert [line["step"] for line in one] == [line["step"] for line in several]
    for alone, together in zip(one, several, strict=True):
        assert alone == pytest.approx(together, abs=1e-6, rel=1e-4)
        for name in ("loss", "eval_loss"):
            assert alone.get(name) == pytest.approx(together.get(name), abs=1e-6)
        assert alone["tokens"] == together["tokens"]
    weights = [load_file(place / f"made-{processes}/model.safetensors") for processes in (1, count)]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < weights_within
