"""The two pages that people look at: MLflow's and Prefect's, on loopback, until they are stopped."""

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tuneline import prefect_login, processes
from tuneline.errors import SetupError
from tuneline.registry import addresses
from tuneline.work import WORK

_HOST = "127.0.0.1"
_PATIENCE = 120.0
_SERVER_SCRIPT = Path("mlflow/server.sh")


def serve(mlflow_port: int, prefect_port: int, model: str | None, emit: Callable[[str], None]) -> None:
    """Start both servers, say where they answer, and wait for Ctrl-C.

    Args:
        mlflow_port: of the MLflow UI.
        prefect_port: of the Prefect UI.
        model: whose pages are named; None where it is not known.
        emit: is given each line for the person who waits.

    Raises:
        SetupError: a port is taken, or a server does not come up; with its last words.
    """
    taken = [
        f"{_HOST}:{port} is taken; choose another with {option}"
        for port, option in ((mlflow_port, "--mlflow-port"), (prefect_port, "--prefect-port"))
        if _answers(port)
    ]
    if taken:
        raise SetupError(*taken)
    os.environ |= {"MLFLOW_HOST": _HOST, "MLFLOW_PORT": str(mlflow_port)}
    # A shell starts what it puts into the background with SIGINT ignored.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(prefect_port)]
    servers = [
        ("MLflow", ["sh", str(_SERVER_SCRIPT)], f"http://{_HOST}:{mlflow_port}", "/health"),
        ("Prefect", prefect, f"http://{_HOST}:{prefect_port}", "/api/health"),
    ]
    with ExitStack() as stack:
        for name, command, address, health in servers:
            log = WORK / f"{name.lower()}.log"
            stack.enter_context(processes.background(command, log))
            _wait_for(name, address + health, log)
            emit(f"{name:8} {address}")
            if name == "MLflow":
                named = addresses.ui_pages(address, model)
                width = max(map(len, named))
                for what, page in named.items():
                    emit(f"  {what:{width}}  {page}")
            if name == "Prefect":
                emit(f"  its page asks for a login: paste what {prefect_login.FILE} holds")
        emit("Ctrl-C stops both")
        try:
            signal.pause()
        except KeyboardInterrupt:
            emit("stopping")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_HOST, port)) == 0


def _wait_for(name: str, address: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    last = log.read_text("utf-8", errors="replace").splitlines()[-5:]
    raise SetupError(f"{name} does not answer at {address} after {_PATIENCE:.0f} s; its last words ({log}):", *last)
