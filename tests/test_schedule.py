"""A schedule as people run it: servers, a deployment, a worker, and a folder that another program writes to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from projects import Project

from tuneline import prefect_login

MODEL = "mine"
_CHAMPION_RULE = {"metric": "bits_per_byte", "direction": "lower", "versus": "champion"}


@contextmanager
def background(project: Project, log: Path, *command: str) -> Iterator[psutil.Process]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuneline", *command],
            cwd=project.root,
            env=project.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(what: Callable[[], Any], seconds: float, log: Path) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(1)
    pytest.fail(f"not within {seconds} s; the log's end:\n{log.read_text()[-3000:]}")


def post(address: str, body: dict[str, Any], login: str = "") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rows(part: int, count: int) -> str:
    pairs = ({"prompt": f"What is {n} and {n + part}?", "completion": f" It is {2 * n + part}."} for n in range(count))
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


class Service:
    """Prefect's and MLflow's servers, asked as their pages ask them."""

    def __init__(self, prefect: str, mlflow: str, login: Path) -> None:
        self.prefect = prefect
        self.mlflow = mlflow
        self._login = login

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        return post(f"{self.prefect}{path}", body, self._login.read_text().strip())

    def ended(self) -> list[dict[str, Any]]:
        """The runs of the flow that have ended, the oldest first."""
        asked = {"sort": "EXPECTED_START_TIME_ASC", "flow_runs": {"start_time": {"is_null_": False}}}
        found = self._ask("/flow_runs/filter", asked)
        return [run for run in found if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED")]

    def artifacts(self, run: dict[str, Any], key: str) -> list[str]:
        asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [key]}}}
        return [one["data"] for one in self._ask("/artifacts/filter", asked)]

    def versions(self) -> list[str]:
        address = f"{self.mlflow}/api/2.0/mlflow/model-versions/search?filter=name%3D%27{MODEL}%27"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return sorted(one["version"] for one in json.load(answer).get("model_versions", []))

    def promote(self, version: str) -> None:
        body = {"name": MODEL, "alias": "champion", "version": version}
        post(f"{self.mlflow}/api/2.0/mlflow/registered-models/alias", body)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # Three trainings, and a schedule that starts a run every minute.
def test_rows_arrive_and_the_schedule_trains_and_the_champion_is_beaten_or_stays(
    project: Project, tmp_path: Path
) -> None:
    inbox = tmp_path / "in box"
    inbox.mkdir()
    (inbox / "january.jsonl").write_text(rows(1, 400))
    (project.root / "data" / "raw").mkdir(exist_ok=True)
    imported = project.tuneline("exec", "--", "dvc", "import-url", str(inbox), f"data/raw/{MODEL}")
    assert imported.returncode == 0, imported.stderr
    used = project.tuneline("use", f"data/raw/{MODEL}")
    assert used.returncode == 0, used.stderr
    # The whole training is one step.
    project.set(gate__rules=[_CHAMPION_RULE | {"margin": -9.0}], finetune__warmup_steps=0)

    mlflow_port, prefect_port = free_port(), free_port()
    login = project.root / prefect_login.FILE
    service = Service(f"http://127.0.0.1:{prefect_port}/api", f"http://127.0.0.1:{mlflow_port}", login)
    settings = project.root / "mlflow" / "tuneline.env"
    text = settings.read_text("utf-8").replace(
        "MLFLOW_TRACKING_URI=sqlite:///${TUNELINE_ROOT}/mlflow/store/mlflow.db", f"MLFLOW_TRACKING_URI={service.mlflow}"
    )
    settings.write_text(f"{text}\nPREFECT_API_URL={service.prefect}\n", "utf-8")
    deployment = project.root / "flows" / "prefect.yaml"
    deployment.write_text(deployment.read_text("utf-8").replace('cron: "0 3 1 * *"', 'cron: "* * * * *"'), "utf-8")

    pages, worker = tmp_path / "ui.log", tmp_path / "worker.log"
    with ExitStack() as stack:
        ports = ("--mlflow-port", str(mlflow_port), "--prefect-port", str(prefect_port))
        stack.enter_context(background(project, pages, "ui", *ports))
        wait_for(lambda: "Ctrl-C stops both" in pages.read_text(), 240, pages)
        assert f"all models  {service.mlflow}/#/models?workflowType=machine_learning\n" in pages.read_text()
        for command in (
            ["prefect", "work-pool", "create", "tuneline", "--type", "process"],
            ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "flows/prefect.yaml"],
        ):
            done = project.tuneline("exec", "--", *command)
            assert done.returncode == 0, done.stdout + done.stderr
        stack.enter_context(
            background(project, worker, "exec", "--", "prefect", "worker", "start", "--pool", "tuneline")
        )

        def next_run(name: str) -> dict[str, Any]:
            return wait_for(lambda: next((run for run in service.ended() if run["name"] == name), None), 480, worker)

        first = next_run(f"{MODEL}: first run")
        assert first["state"]["name"] == "Completed", first["state"]["message"]
        assert service.versions() == ["1"]
        # Of a server a version is fetched, and fetched again where the copy was changed.
        ask = ("generate", "What is 1 and 2?", "--version", "1", "--max-new-tokens", "2")
        assert project.tuneline(*ask).returncode == 0
        [config] = (project.root / "work" / "models").glob("*/config.json")
        known = config.read_text()
        config.write_text("{}")
        assert project.tuneline(*ask).returncode == 0
        assert config.read_text() == known
        service.promote("1")
        # A schedule that finds nothing new shows that it did: once the new champion was considered, too.
        settled = next_run(f"{MODEL}: nothing stale")
        assert settled["state"]["message"].startswith(f"{MODEL} version 1, ")

        (inbox / ".february.jsonl.tmp").write_text(rows(2, 200))
        (inbox / ".february.jsonl.tmp").rename(inbox / "february.jsonl")
        better = next_run(f"{MODEL}: data changed")
        assert better["state"]["message"].startswith(f"{MODEL} version 2, passed; rebuilt: "), better["state"]
        assert service.versions() == ["1", "2"]
        [link] = service.artifacts(better, "report")
        assert f"]({service.mlflow}/#/experiments/" in link
        assert "/artifacts/reports/index.html?workflowType=machine_learning" in link
        # Somebody makes it the champion, and wants much of the next one.
        service.promote("2")
        project.set(gate__rules=[_CHAMPION_RULE | {"margin": 9.0}])
        (inbox / "march.jsonl").write_text(rows(3, 200))
        failed = wait_for(
            lambda: next((run for run in service.ended() if run["state"]["name"] == "GateFailed"
                          and "evaluate" in run["state"]["message"].splitlines()[-1]), None), 600, worker,
        )  # fmt: skip
        assert failed["state"]["type"] == "FAILED"
        assert failed["run_count"] == 1
        assert "data changed" in failed["name"]
        reason, *_, last = failed["state"]["message"].splitlines()
        assert "the interval is not above the required gain of 9" in reason
        assert last.startswith(f"{MODEL}: failed, no version is registered; rebuilt: ")
        assert service.versions() == ["1", "2"]
        # What the process of the run says at its end, after its state is known.
        time.sleep(15)
    assert "Traceback" not in worker.read_text()
    assert "NoneType: None" not in worker.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_scheduled_run_that_loses_prefect_keeps_its_stage(
    project: Project, tmp_path: Path, number: signal.Signals
) -> None:
    port = str(free_port())
    address = f"http://127.0.0.1:{port}/api"
    settings = project.root / "mlflow" / "tuneline.env"
    settings.write_text(f"{settings.read_text('utf-8')}\nPREFECT_API_URL={address}\n", "utf-8")
    log, worker = tmp_path / "server.log", tmp_path / "worker.log"
    with ExitStack() as stack:
        serve = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
        server = stack.enter_context(background(project, log, "exec", "--", *serve))
        wait_for(lambda: answers(f"{address}/health"), 240, log)
        for command in (
            ["prefect", "work-pool", "create", "tuneline", "--type", "process"],
            ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "flows/prefect.yaml"],
            ["prefect", "deployment", "run", "train/train"],
        ):
            done = project.tuneline("exec", "--", *command)
            assert done.returncode == 0, done.stdout + done.stderr
        start = ("prefect", "worker", "start", "--pool", "tuneline")
        working = stack.enter_context(background(project, worker, "exec", "--", *start))
        wait_for(lambda: "Running stage 'sample'" in worker.read_text(), 240, worker)
        whole = [server, *server.children(recursive=True)]
        stack.callback(lambda: [one.kill() for one in whole if one.is_running()])
        for one in whole:
            one.send_signal(number)
        wait_for(lambda: "once it is started again (`tuneline ui` starts one here)" in worker.read_text(), 240, worker)
        said = worker.read_text()
        assert f"Prefect's server at {address} does not answer; finished work is kept" in said
        wait_for(lambda: not any("dvc" in one.cmdline() for one in working.children(recursive=True)), 10, worker)
        status = project.tuneline("exec", "--", "dvc", "status", "sample")
        assert status.stdout.strip().endswith("up to date.")
        assert "Error logging to API" not in said
        if number == signal.SIGSTOP:
            for one in whole:
                one.send_signal(signal.SIGCONT)
        else:
            stack.enter_context(background(project, log, "exec", "--", *serve))
        wait_for(lambda: answers(f"{address}/health"), 240, log)

        def goes_on() -> bool:
            """As a schedule does: a run is cancelled while the lost run still has the deployment's only place."""
            done = project.tuneline("exec", "--", "prefect", "deployment", "run", "train/train")
            assert done.returncode == 0, done.stdout + done.stderr
            time.sleep(30)
            return "Running stage 'validate_raw'" in worker.read_text()

        wait_for(goes_on, 540, worker)
