"""Serve the MLflow UI and the Prefect UI on loopback until Ctrl-C."""

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
    """Start both servers, print their addresses, and wait for Ctrl-C.

    Args:
        mlflow_port: port of the MLflow UI.
        prefect_port: port of the Prefect UI.
        model: registered model whose pages are printed. None: unknown.
        emit: prints a line.

    Raises:
        SetupError: a port is in use, or a server does not start; with the last lines of its log.
    """
    taken = [
        f"{_HOST}:{port} is in use; choose another port with {option}"
        for port, option in ((mlflow_port, "--mlflow-port"), (prefect_port, "--prefect-port"))
        if _answers(port)
    ]
    if taken:
        raise SetupError(*taken)
    os.environ |= {"MLFLOW_HOST": _HOST, "MLFLOW_PORT": str(mlflow_port)}
    # A shell starts background processes with SIGINT ignored.
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
                emit(f"  its page asks for a login: paste the content of {prefect_login.FILE}")
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
    raise SetupError(f"{name} does not answer at {address} after {_PATIENCE:.0f} s; its last lines ({log}):", *last)
