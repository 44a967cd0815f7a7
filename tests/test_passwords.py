"""A password that a person has put into an address is in no output and no file but those where it was put."""

import secrets
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from projects import Project
from test_schedule import background, free_port, wait_for

PASSWORD = secrets.token_hex(8)


def holders(root: Path) -> list[str]:
    """The files that hold the password, wherever they lie in a project."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    )


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_line_shows_and_keeps_no_password(project: Project, tmp_path: Path) -> None:
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    login = f"http://reader:{PASSWORD}@127.0.0.1:{port}"
    settings = project.root / "mlflow" / "tuneline.env"
    text = settings.read_text("utf-8")
    kept = "MLFLOW_TRACKING_URI=sqlite:///${TUNELINE_ROOT}/mlflow/store/mlflow.db"
    assert kept in text
    settings.write_text(text.replace(kept, f"MLFLOW_TRACKING_URI={login}\nMLFLOW_PORT={port}"), "utf-8")
    remote = ("dvc", "remote", "add", "--local", "--default", "storage", f"https://reader:{PASSWORD}@127.0.0.1:9/x")
    assert project.tuneline("exec", "--", *remote).returncode == 0

    log = tmp_path / "mlflow.log"
    said: list[str] = []
    with background(project, log, "exec", "--", "sh", "mlflow/server.sh"):
        wait_for(lambda: answers(server), 240, log)
        done = project.flow()
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"http://reader:***@127.0.0.1:{port}" in done.stdout + done.stderr
        said += [done.stdout, done.stderr]
        for command in ("gate", "register", "doctor"):
            done = project.tuneline(command)
            said += [done.stdout, done.stderr]
    # Nothing answers any more, or cannot.
    for command, address in (
        (["generate", "a"], login),
        (["exec", "--", "python", "flows/run.py"], login),
        (["gate"], f"postgresql://reader:{PASSWORD}@127.0.0.1:9/x"),
        (["exec", "--", "python", "flows/run.py"], f"mssql://reader:{PASSWORD}/@x@127.0.0.1:9/x"),
    ):
        done = project.tuneline(*command, MLFLOW_TRACKING_URI=address)
        assert done.returncode == 1
        assert "reader:***@127.0.0.1" in done.stdout + done.stderr, command
        said += [done.stdout, done.stderr]
    assert PASSWORD not in "".join(said)
    assert PASSWORD not in log.read_text()
    assert holders(project.root) == [".dvc/config.local", "mlflow/tuneline.env"]
