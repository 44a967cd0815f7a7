"""Serve the MLflow UI and the Prefect UI until Ctrl-C, on loopback; MLflow also for a team, if a person says so."""

import os
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tuneline import prefect_login, processes
from tuneline.errors import SetupError
from tuneline.registry import addresses
from tuneline.work import WORK

HOST = "127.0.0.1"
_ALL = ("0.0.0.0", "::")
"""Addresses that stand for every interface of the machine."""
_NAME = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PATIENCE = 120.0
_STOPS = (signal.SIGINT, signal.SIGTERM)
_SERVER_SCRIPT = Path("mlflow/server.sh")


def serve(
    mlflow_port: int,
    prefect_port: int,
    model: str | None,
    emit: Callable[[str], None],
    *,
    mlflow_host: str = HOST,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Start both servers, print their addresses, and wait for Ctrl-C.

    Args:
        mlflow_port: port of the MLflow UI.
        prefect_port: port of the Prefect UI.
        model: registered model whose pages are printed. None: unknown.
        emit: prints a line.
        mlflow_host: address of the interface on which MLflow listens.
        allowed_hosts: names by which people reach MLflow, with a port where it is not `mlflow_port`; those of this
            machine itself are always allowed.

    Raises:
        SetupError: a name is not the name of a host, a port is in use, or a server does not start; with the last lines
            of its log.
    """
    if wrong := [name for name in allowed_hosts if not _NAME.fullmatch(name)]:
        raise SetupError(
            *(
                f"--allowed-hosts {name}: is not the name of a host; write it as in mlflow.example or "
                "mlflow.example:8080, several separated by commas"
                for name in wrong
            )
        )
    taken = [
        f"{HOST}:{port} is in use; choose another port with {option}"
        for port, option in ((mlflow_port, "--mlflow-port"), (prefect_port, "--prefect-port"))
        if _answers(port)
    ]
    if taken:
        raise SetupError(*taken)
    os.environ |= {"MLFLOW_HOST": mlflow_host, "MLFLOW_PORT": str(mlflow_port)}
    if allowed_hosts:
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(allowed_hosts)
    asked = HOST if mlflow_host in _ALL else mlflow_host
    # A shell starts background processes with SIGINT ignored.
    for number in _STOPS:
        signal.signal(number, _stop)
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)]
    servers = [
        ("MLflow", ["sh", str(_SERVER_SCRIPT)], f"http://{asked}:{mlflow_port}", "/health"),
        ("Prefect", prefect, f"http://{HOST}:{prefect_port}", "/api/health"),
    ]
    with ExitStack() as stack:
        try:
            for name, command, address, health in servers:
                log = WORK / f"{name.lower()}.log"
                stack.enter_context(processes.background(command, log))
                _wait_for(name, address + health, log)
                emit(f"{name:8} {address}")
                if name == "MLflow":
                    for host in allowed_hosts:
                        emit(f"  for others: http://{host if _has_port(host) else f'{host}:{mlflow_port}'}")
                    if mlflow_host != HOST:
                        emit(f"  MLflow has no login: who reaches {mlflow_host}:{mlflow_port} can change its content")
                    named = addresses.ui_pages(address, model)
                    width = max(map(len, named))
                    for what, page in named.items():
                        emit(f"  {what:{width}}  {page}")
                if name == "Prefect":
                    emit(f"  its page asks for a login: paste the content of {prefect_login.FILE}")
            emit("Ctrl-C stops both")
            signal.pause()
        except KeyboardInterrupt:
            emit("stopping")


def _stop(number: int, frame: object) -> None:
    """End `serve` by KeyboardInterrupt. A second signal does not interrupt the end of the servers."""
    del number, frame
    for other in _STOPS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _has_port(host: str) -> bool:
    return host.rpartition("]")[2].count(":") == 1


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


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
