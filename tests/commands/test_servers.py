"""`tuneline ui` ends with one line when it is stopped, at any moment."""

import signal
import subprocess
import sys

import pytest
from projects import Project
from test_schedule import free_port, wait_for


@pytest.mark.slow
def test_signals_while_the_servers_start_end_them_with_one_line(project: Project) -> None:
    ports = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    command = [sys.executable, "-m", "tuneline", "ui", *ports]
    with subprocess.Popen(
        command, cwd=project.root, env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        log = project.root / "work/mlflow.log"
        wait_for(log.exists, 120, log)
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGTERM)
        printed, errors = running.communicate(timeout=60)
    assert (running.returncode, printed, errors) == (0, "stopping\n", "")
