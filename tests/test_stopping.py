"""What Ctrl-C, SIGTERM and a lost Prefect leave of a run: a line, an exit code, the state in Prefect, no process."""

import importlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from projects import ROOT, Project

_LINE = "stopped; finished work is kept, and `make run` goes on from there"


def stopped(code: str, *signals: signal.Signals) -> tuple[int, str, float]:
    """Exit code, output and seconds of a process that is stoppable while it does `code`, and prints a line first."""
    whole = f"""
import sys, time
from tuneline import stopping
stopping.PATIENCE = 1.0
try:
    with stopping.stoppable("stopped"):
{textwrap.indent(textwrap.dedent(code), " " * 8)}
except stopping.Stopped as error:
    print("lost")
    sys.exit(error.code)
"""
    with subprocess.Popen(
        [sys.executable, "-c", whole], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        said = process.stdout.read()
    return process.returncode, said, time.monotonic() - began


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_one_line(number: signal.Signals, code: int) -> None:
    assert stopped("print(flush=True); time.sleep(60)", number)[:2] == (code, "\nstopped\n")


def test_what_ends_a_run_at_once_names_no_password() -> None:
    code = "from tuneline import stopping; stopping.end_now('at http://me:hunter2pass@prefect.example/api\\x1b[2J', 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "\nat http://me:***@prefect.example/api\\x1b[2J\n"


def test_a_second_signal_does_not_disturb_the_order() -> None:
    code = """
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
        sys.exit(7)
    """
    assert stopped(code, signal.SIGINT, signal.SIGINT)[:2] == (7, "\nstopped\n")


def test_an_order_that_takes_too_long_is_cut_short() -> None:
    code = """
    print(flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
    """
    code_of_end, said, seconds = stopped(code, signal.SIGINT)
    assert (code_of_end, said) == (130, "\nstopped\n")
    assert seconds < 10


@pytest.fixture
def why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "flows")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "work" / "prefect"))
    (tmp_path / "work" / "prefect").mkdir(parents=True)
    return importlib.import_module("temporary_server").why_it_failed


def test_a_damaged_history_of_runs_is_named_with_the_remedy(tmp_path: Path, why_it_failed) -> None:
    (tmp_path / "work/prefect/prefect.db").write_bytes(b"nonsense" * 1000)
    assert why_it_failed() == (
        "work/prefect/prefect.db: is damaged (file is not a database); it holds only the history of runs: "
        "delete it with `rm work/prefect/prefect.db*`, and run the same command again"
    )


def test_a_full_disk_is_named(tmp_path: Path, why_it_failed) -> None:
    with closing(sqlite3.connect(tmp_path / "work/prefect/prefect.db")) as connection:
        connection.execute("CREATE TABLE runs (id)")
    assert why_it_failed() == "Prefect's temporary server has ended"
    log = "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database or disk is full"
    (tmp_path / "work/prefect-server.log").write_text(log)
    assert why_it_failed() == (
        "work/prefect/prefect.db: cannot grow, because the disk is full; free some space and run the same command again"
    )


_TOO_SLOW = (
    "accepts connections but does not answer, perhaps because this machine is too busy: run the same command again"
)


def test_a_server_that_is_too_slow_is_named_with_the_remedy(why_it_failed, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.getsockname()[1]}/api")
        assert why_it_failed() == f"Prefect's temporary server {_TOO_SLOW}"


@contextmanager
def running(project: Project, stage: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A run as a terminal starts it, in a process group of its own, once it is at a stage; and what it has started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneline", "exec", "--", "python", "flows/run.py"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if f"Running stage '{stage}'" in line:
                break
        else:
            pytest.fail("".join(seen))
        yield process, psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()


def states(project: Project) -> list[str]:
    """Of the runs in Prefect's database, the newest first."""
    with closing(sqlite3.connect(project.root / "work/prefect/prefect.db")) as connection:
        return [name for (name,) in connection.execute("SELECT state_name FROM flow_run ORDER BY created DESC")]


def alive(tree: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(tree, timeout=5)[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_stopped_is_cancelled_at_once(project: Project) -> None:
    for signals, code in [((signal.SIGINT,), 130), ((signal.SIGTERM,), 143), ((signal.SIGINT, signal.SIGINT), 130)]:
        with running(project, "sample") as (process, tree):
            began = time.monotonic()
            for number in signals:
                os.killpg(process.pid, number)
                time.sleep(0.3)
            said, _ = process.communicate()
            assert time.monotonic() - began < 5
            assert process.returncode == code
            # What was on its way when the signal came may come before it.
            assert said.endswith(f"\n{_LINE}\n")
            assert alive(tree) == []
            assert states(project)[0] == "Cancelled"


# As flows/run.py does, but that the signal comes while Prefect asks for the name of the run, before the flow begins.
BEFORE_ITS_FIRST_STEP = """
import os, sys
sys.path.insert(0, "flows")
from tuneline import params
whole = params.load
def load():
    if not hasattr(load, "asked"):
        load.asked = True
        os.kill(os.getpid(), int(sys.argv[1]))
    return whole()
params.load = load
import run
from tuneline import processes
run._current_decision = lambda: None
processes.run_and_exit(run.main)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_before_its_first_step_is_cancelled(
    project: Project, number: signal.Signals, code: int
) -> None:
    (project.root / "begin.py").write_text(BEFORE_ITS_FIRST_STEP)
    done = project.tuneline("exec", "--", "python", "begin.py", str(int(number)))
    assert done.returncode == code, done.stderr
    assert states(project) == ["Cancelled"]
    assert done.stderr == f"\n{_LINE}\n"
    assert done.stdout.startswith("starting Prefect and its temporary server\n")
    assert "rash" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "what"), [(signal.SIGKILL, "has ended"), (signal.SIGSTOP, _TOO_SLOW)])
def test_a_run_that_loses_prefect_keeps_its_stage(project: Project, number: signal.Signals, what: str) -> None:
    with running(project, "sample") as (process, tree):
        [server] = [one for one in tree if one.cmdline()[1:2] == [str(project.root / "flows/temporary_server.py")]]
        server.send_signal(number)
        assert process.stdout is not None
        lines = [(line, time.monotonic()) for line in process.stdout]
        process.wait()
        said, ended = "".join(line for line, _ in lines), time.monotonic()
        assert process.returncode == 1
        *before, line = said.rstrip().splitlines()
        assert line == (
            f"Prefect's temporary server {what}; finished work is kept, and the same command goes on from there"
        )
        assert ended - max(seen for line, seen in lines if " - " in line) < 30
        assert "Traceback" not in said
        assert [one for one in before if "ERROR" in one or "WARNING" in one] == []
        assert alive(tree) == []
    assert states(project) == ["Running"]
    assert project.run("-m", "tuneline", "exec", "--", "dvc", "status", "sample").stdout.strip().endswith("up to date.")
    with running(project, "validate_raw") as (process, _):
        assert states(project) == ["Running", "Crashed"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_prefect_that_cannot_be_used_is_said_in_a_line(project: Project) -> None:
    away = project.tuneline("exec", "--", "python", "flows/run.py", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (away.returncode, away.stdout) == (1, "starting Prefect\n")
    assert away.stderr == (
        "\nPrefect's server at http://127.0.0.1:9/api does not answer; finished work is kept, and the same command "
        "goes on from there, once it is started again (`tuneline ui` starts one here)\n"
    )
    home = project.root / "work" / "prefect"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(b"nonsense" * 1000)
    damaged = project.flow()
    assert damaged.returncode == 1
    assert damaged.stderr.startswith("\nwork/prefect/prefect.db: is damaged (file is not a database); ")
    assert len(damaged.stderr.strip().splitlines()) == 1
