"""A store that cannot be used is named with the remedy, at once and without a traceback."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
import requests

from tuneline.errors import TrackingError
from tuneline.registry import addresses, runs, tracking


def problem(address: str) -> str:
    mlflow.set_tracking_uri(address)
    with pytest.raises(TrackingError) as caught:
        tracking.connect()
    (line,) = str(caught.value).splitlines()
    return line


def test_an_error_about_an_upload_is_a_line_without_the_servers_password() -> None:
    @runs.translate_errors
    def attach() -> None:
        raise requests.HTTPError("413 Client Error: too large for url: http://me:hunter2pass@mlflow.example/artifacts")

    with pytest.raises(
        TrackingError, match=r" failed: 413 Client Error: .* http://me:\*\*\*@mlflow\.example/artifacts; "
    ):
        attach()


def test_an_address_with_an_impossible_host_is_refused() -> None:
    assert problem("http://a..b:5000").startswith("MLflow at http://a..b:5000 does not answer (")


@contextmanager
def without_rights() -> Iterator[None]:
    """Run as an ordinary user, whose permissions are checked, even if the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file/mlflow.db", "nothing can be written to "),
        ("folder", "folder is a folder and not a database; set MLFLOW_TRACKING_URI in mlflow/tuneline.env"),
        ("garbage.db", "garbage.db is damaged (file is not a database); put a copy of it back, or move it away"),
        ("what?.db", "SQLAlchemy reads a path with ? as another file; set MLFLOW_TRACKING_URI in mlflow/tuneline.env"),
        ("100%20.db", "SQLAlchemy reads a path with % as another file"),
    ],
)
def test_a_path_that_cannot_be_a_store_is_refused(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage.db").write_text("garbage" * 100)
    before = sorted(tmp_path.iterdir())
    line = problem(f"sqlite:///{tmp_path}/{place}")
    assert line.startswith(f"MLflow's store sqlite:///{tmp_path}/{place}: ")
    assert said in line
    assert [path for path in sorted(tmp_path.iterdir()) if path.suffix != ".lock"] == before


def _has_revision(path: Path) -> bool:
    """Whether a file is a database in which a migration of MLflow has ended."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as opened:
            return opened.execute("select * from alembic_version").fetchone() is not None
    except sqlite3.DatabaseError:
        return False


def test_a_store_is_never_seen_while_it_is_made(tmp_path: Path) -> None:
    """MLflow does not go on with a migration that was killed, so such a store could never be opened again."""
    database = tmp_path / "mlflow.db"
    making = (
        "import mlflow, sys; from tuneline.registry import tracking; "
        "mlflow.set_tracking_uri(sys.argv[1]); print('ready', flush=True); tracking.connect()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", making, f"sqlite:///{database}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # In the middle of the migrations, of which there are about fifty.
        while process.poll() is None and not any(map(_has_revision, tmp_path.iterdir())):
            time.sleep(0.01)
        process.kill()
    assert not database.exists()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    assert tracking.connect().aliases("nothing") == {}


def test_connecting_to_a_sound_store_does_not_change_it(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table a (b text)")
    address = f"sqlite:///{database}"
    before = addresses.store_digest(address)
    with addresses.hold_store(address, database):
        assert addresses.store_digest(address) == before
    assert addresses.store_digest(address) == before


def test_a_read_only_store_is_refused(open_folder: Path) -> None:
    database = open_folder / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table a (b text)")
    database.chmod(0o444)
    open_folder.chmod(0o777)
    with without_rights():
        line = problem(f"sqlite:///{database}")
    assert "mlflow.db cannot be written to (attempt to write a readonly database); make it writable, or set " in line
    open_folder.chmod(0o555)
    with without_rights():
        line = problem(f"sqlite:///{open_folder}/other.db")
    assert f"nothing can be written to {open_folder} (Permission denied); make it writable, or set MLFLOW_" in line


@pytest.mark.slow
def test_a_store_that_another_program_locks_is_reported(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    tracking.connect()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        line = problem(f"sqlite:///{database}")
    assert line == (
        f"MLflow's store sqlite:///{database}: {database} is locked, because another program writes to it; wait "
        "until that program ends, or end it, then run the same command again"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql+pymysql://host", "the package pymysql, which Python needs for this database, is not installed"),
        ("mssql://host", "the package pyodbc, which Python needs"),
        ("postgresql+none://host", "Can't load plugin: sqlalchemy.dialects:postgresql.none; start it, or set MLFLOW_"),
        ("postgresql://host:port/base", "invalid literal for int() with base 10: 'port'; start it, or set MLFLOW_"),
        (
            "sqlite:///:memory:",
            "it is in memory and would be lost when the process ends; set MLFLOW_TRACKING_URI in mlflow/tuneline.env",
        ),
        ("sqlite:///", "it is in memory and would be lost when the process ends"),
        ("nonsense://host", "got unsupported URI 'nonsense://host'"),
    ],
)
def test_an_address_without_an_mlflow_is_refused(address: str, said: str) -> None:
    assert said in problem(address)
