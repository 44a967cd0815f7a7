"""Two clones that promote two versions at the same moment, on one server."""

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow_server import server

from tuneline.registry import history, tracking

__all__ = ["server"]

CLONE = """
import sys, time
from pathlib import Path
from tuneline import params
from tuneline.commands import promote
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError
Path("params.yaml").write_text(sys.argv[1])
p, version = params.load(), sys.argv[2]
for turn in range(6):
    def wait(*_, **__):
        Path(f"ready-{turn}").touch()
        while not Path(f"../go-{turn}").exists():
            time.sleep(0.002)
        return [Check("files", True, "x"), Check("loads", True, "x"), Check("gate", turn % 2 == 0, "x")]
    try:
        print("kept", promote.promote(p, version, override="at once" if turn % 2 else None, checks=wait), flush=True)
    except RegistryError as error:
        Path(f"ready-{turn}").touch()
        print("refused", error, flush=True)
    Path(f"done-{turn}").touch()
    while not Path(f"../next-{turn}").exists():
        time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_promotions_at_once_have_one_outcome(server: str, tmp_path: Path, params_text: str) -> None:
    mlflow.set_tracking_uri(server)
    client, tracker = mlflow.MlflowClient(), tracking.connect()
    client.create_registered_model("together")
    for _ in range(3):
        client.create_model_version("together", "s3://nowhere/files", tags={"tuneline.files_sha256": "a" * 64})
    environment = os.environ | {"MLFLOW_TRACKING_URI": server, "PYTHONPATH": str(Path(history.__file__).parents[2])}
    text = params_text.replace("model: docstring-writer", "model: together")
    clones = {name: tmp_path / f"clone-{name}" for name in ("1", "2")}
    running = []
    for name, clone in clones.items():
        clone.mkdir()
        command = [sys.executable, "-c", CLONE, text, name]
        running.append(subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True))

    def all_have(name: str) -> None:
        while not all((clone / name).exists() for clone in clones.values()):
            assert all(one.poll() is None for one in running)
            time.sleep(0.01)

    for turn in range(6):
        all_have(f"ready-{turn}")
        (tmp_path / f"go-{turn}").touch()
        all_have(f"done-{turn}")
        found = history.read(tracker, "together", evidence=True)
        assert found.problems == ()
        # Whichever was last in the history is champion, and no version of which the history does not know.
        assert tracker.aliases("together") == {"champion": history.last_verified(found, "champion")}
        # Version 3 takes the alias away, so that both promote again.
        client.set_registered_model_alias("together", "champion", "3")
        (tmp_path / f"next-{turn}").touch()
    told = [line for one in running for line in one.communicate(timeout=120)[0].splitlines()]
    assert [one.returncode for one in running] == [0, 0]
    assert len(told) == 12
    kept = [line for line in told if line.startswith("kept")]
    assert len(kept) == len(history.read(tracker, "together").entries) >= 6
    assert all("moved from" in line for line in told if line not in kept)
