"""By which names MLflow's server can be reached: this machine's own, and those that a team gives."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from projects import ROOT, Project
from test_schedule import background, free_port, wait_for

from tuneline.cli import cli

OWN = "localhost,localhost:*,127.0.0.1,127.0.0.1:*"


def settings(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What server.sh would start MLflow with: a program called python prints it."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(
        '#!/bin/sh\necho "$MLFLOW_SERVER_ALLOWED_HOSTS"\necho "$MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"\necho "$*"'
    )
    python.chmod(0o755)
    found = {"PATH": f"{python.parent}:{os.environ['PATH']}", "TUNELINE_ROOT": str(tmp_path), **variables}
    script = ["sh", str(ROOT / "mlflow/server.sh")]
    return subprocess.run(script, env=found, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_without_orders_only_this_machine_is_served(tmp_path: Path) -> None:
    hosts, origins, command = settings(tmp_path, MLFLOW_SERVER_ALLOWED_HOSTS=OWN).stdout.splitlines()
    assert (hosts, origins) == (OWN, "")
    assert "--host 127.0.0.1 --port 5000" in command


def test_a_name_is_allowed_with_and_without_the_port(tmp_path: Path) -> None:
    names = "mlflow.example, proxy.example:8080"
    done = settings(tmp_path, MLFLOW_SERVER_ALLOWED_HOSTS=names, MLFLOW_PORT="5001", MLFLOW_HOST="0.0.0.0")
    hosts, origins, command = done.stdout.splitlines()
    assert hosts == f"{OWN},mlflow.example,mlflow.example:5001,proxy.example:8080"
    assert origins.split(",") == [
        *(
            "http://mlflow.example",
            "https://mlflow.example",
            "http://mlflow.example:5001",
            "https://mlflow.example:5001",
        ),
        *("http://proxy.example:8080", "https://proxy.example:8080"),
    ]
    assert "--host 0.0.0.0 --port 5001" in command


@pytest.mark.parametrize("name", ["*", "*.example", "a;b", "$(id)", "a/b", "http://a"])
def test_a_pattern_or_anything_else_is_refused(tmp_path: Path, name: str) -> None:
    done = settings(tmp_path, MLFLOW_SERVER_ALLOWED_HOSTS=f"mlflow.example,{name}")
    assert done.returncode == 1
    assert f"MLFLOW_SERVER_ALLOWED_HOSTS: {name} is not the name of a host" in done.stderr
    assert done.stdout == ""


def test_ui_refuses_it_before_it_starts_a_server(project: Project) -> None:
    done = project.here("ui", "--allowed-hosts", "mlflow.example,*")
    assert done.returncode == 1
    assert done.stderr.startswith("--allowed-hosts *: is not the name of a host; write it as in mlflow.example or ")
    assert "--allowed-hosts NAME,…" in CliRunner().invoke(cli, ["ui", "--help"]).stdout


@pytest.mark.slow
def test_people_of_a_team_reach_the_server_by_its_name_only(project: Project) -> None:
    mlflow, prefect = free_port(), free_port()
    ports = ["--mlflow-port", str(mlflow), "--prefect-port", str(prefect)]
    command = ["ui", *ports, "--allowed-hosts", "mlflow.example"]

    def status(method: str, host: str, origin: str | None = None) -> int:
        body = json.dumps({"name": f"made-by-{len(origin or host)}"}).encode() if method == "POST" else None
        path = "registered-models/create" if method == "POST" else "registered-models/search?max_results=1"
        request = urllib.request.Request(
            f"http://127.0.0.1:{mlflow}/ajax-api/2.0/mlflow/{path}", body, {"Host": host}, method=method
        )
        request.add_header("Content-Type", "application/json")
        if origin:
            request.add_header("Origin", origin)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    log = project.root / "ui.log"
    with background(project, log, *command):
        wait_for(lambda: "Ctrl-C stops both" in log.read_text("utf-8"), 240, log)
        assert f"for others: http://mlflow.example:{mlflow}" in log.read_text("utf-8")
        team = f"mlflow.example:{mlflow}"
        assert status("GET", team) == 200
        assert status("GET", "mlflow.example") == 200
        assert status("GET", f"127.0.0.1:{mlflow}") == 200
        # The page that a browser has from there sends its changes with its own origin.
        assert status("POST", team, f"http://{team}") == 200
        assert status("GET", "other.example") == 403
        assert status("GET", "10.example") == 403
        assert status("POST", team, "http://other.example") == 403
