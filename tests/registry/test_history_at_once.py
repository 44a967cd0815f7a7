"""Processes that add to one history at the same time, on one server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow_server import server

from tuneline.registry import history, tracking

__all__ = ["server"]

WRITER = """
import sys, time
from pathlib import Path
from tuneline.registry import history, tracking
tracker = tracking.connect()
Path(f"ready-{sys.argv[1]}").touch()
while not Path("go").exists():
    time.sleep(0.002)
for turn in range(int(sys.argv[2])):
    entry = history.append(tracker, "together", action="moved", alias="champion", before=sys.argv[1], after=str(turn),
                           evidence={"claim.jsonl": b"{}"})
    print(entry.number, flush=True)
"""


def start(folder: Path, name: str, turns: int) -> subprocess.Popen[str]:
    source = str(Path(history.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(turns)],
        cwd=folder,
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_that_append_at_once_make_one_chain(server: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(server)
    client = mlflow.MlflowClient()
    client.create_registered_model("together")
    running = [start(tmp_path, name, 6) for name in "abcd"]
    while not all((tmp_path / f"ready-{name}").exists() for name in "abcd"):
        assert all(one.poll() is None for one in running)
        time.sleep(0.05)
    (tmp_path / "go").touch()
    numbers = [[int(line) for line in one.communicate(timeout=300)[0].split()] for one in running]
    assert [one.returncode for one in running] == [0] * 4
    found = history.read(tracking.connect(), "together", evidence=True)
    assert (found.problems, found.unfinished) == ((), 0)
    assert [entry.number for entry in found.entries] == list(range(1, 25))
    for name, own in zip("abcd", numbers, strict=True):
        written = [entry for entry in found.entries if entry.before == name]
        assert [entry.number for entry in written] == own
        assert [entry.after for entry in written] == [str(turn) for turn in range(6)]
    assert len(client.search_experiments(filter_string="name LIKE 'together-history%'")) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_leaves_a_whole_entry_or_none(server: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(server)
    mlflow.MlflowClient().create_registered_model("together")
    (tmp_path / "go").touch()
    tracker, count = tracking.connect(), 0
    for kill in range(20):
        (tmp_path / "ready-k").unlink(missing_ok=True)
        one = start(tmp_path, "k", 50)
        while not (tmp_path / "ready-k").exists():
            assert one.poll() is None
            time.sleep(0.01)
        time.sleep(0.05 + kill * 0.037)
        os.kill(one.pid, signal.SIGKILL)
        told = [int(line) for line in one.communicate()[0].split()]
        found = history.read(tracker, "together", evidence=True)
        assert found.problems == ()
        assert [entry.number for entry in found.entries] == list(range(1, len(found.entries) + 1))
        # Every entry that was reported is there, and at most one more.
        assert len(found.entries) - count in (len(told), len(told) + 1)
        count = len(found.entries)
    history.append(tracker, "together", action="moved", alias="champion")
    assert history.read(tracker, "together").unfinished == 0
