"""The temporary Prefect server of a run: it runs exactly as long as the run, and keeps the history of runs.

python flows/temporary_server.py DESCRIPTOR      serves on a listening socket that it inherits
"""

import atexit
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import script

from tuneline import prefect_login, processes
from tuneline.errors import SetupError
from tuneline.work import WORK

_HOST = "127.0.0.1"
_LOG = WORK / "prefect-server.log"
# Seconds in which the server may end by itself; a kill then loses nothing, because SQLite is safe against it.
_END = 3.0
# The id of the process whose server PREFECT_API_URL names.
_OWNER = "TUNELINE_TEMPORARY_SERVER_OF"


class TemporaryServer:
    """A Prefect server that is a child of this process, in a session of its own: Ctrl-C does not reach it.

    Args:
        process: the process of the server.
        url: the address of its API.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self._url = url

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            SetupError: it does not answer; says why, and what to do.
        """
        patience = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self._url}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise SetupError(why_it_failed())


def start() -> TemporaryServer:
    """Start the server, and stop it when this process ends, after Prefect has sent its last logs and events.

    Prefect reads the address from PREFECT_API_URL when it is imported, so it must be imported afterwards.
    """
    # This process binds the port, so that no other program can take it before the server does.
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        listener.listen()
        url = f"http://{_HOST}:{listener.getsockname()[1]}/api"
        command = [sys.executable, __file__, str(listener.fileno())]
        stack = ExitStack()
        # Runs after the threads that send logs and events have ended.
        atexit.register(stack.close)
        process = stack.enter_context(processes.background(command, _LOG, inherited=[listener.fileno()], patience=_END))
    os.environ |= {"PREFECT_API_URL": url, _OWNER: str(os.getpid())}
    return TemporaryServer(process, url)


def is_another_set() -> bool:
    """Whether the environment, or a file that Prefect reads, names a Prefect server.

    Raises:
        SetupError: it does, and the login is missing or wrong.
    """
    address = prefect_login.server_address(script.ROOT, os.environ)
    if address:
        prefect_login.check_login(address, os.environ)
    return bool(address or os.environ.get("PREFECT_PROFILE"))


@contextmanager
def starting(*, is_needed: bool) -> Iterator[None]:
    """Start the server, if it is needed, while the block imports Prefect and the flow, which takes seconds.

    Raises:
        SetupError: the server does not answer.
    """
    # The start takes ten seconds and more, and prints nothing else.
    print("starting Prefect and its temporary server" if is_needed else "starting Prefect", flush=True)
    server = start() if is_needed else None
    yield
    if server:
        server.wait()


def is_used() -> bool:
    """Whether this process has started a temporary server."""
    return os.environ.get(_OWNER) == str(os.getpid())


def why_it_failed() -> str:
    """Why the server does not answer, and the remedy, as a sentence without a full stop."""
    database = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    place = os.path.relpath(database)
    if damage := _damage(database):
        return (
            f"{place}: is damaged ({damage}); it holds only the history of runs: delete it with `rm {place}*`, and run "
            "the same command again"
        )
    log = _LOG.read_text("utf-8", "replace") if _LOG.is_file() else ""
    if "database or disk is full" in log or not shutil.disk_usage(database.parent).free:
        return f"{place}: cannot grow, because the disk is full; free some space and run the same command again"
    if "readonly database" in log or "unable to open database" in log:
        return f"{place}: cannot be written; make it and its folder writable for you"
    if _accepts():
        return (
            "Prefect's temporary server accepts connections but does not answer, perhaps because this machine is too "
            "busy: run the same command again"
        )
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), None)
    return f"Prefect's temporary server has ended ({_LOG}: {last})" if last else "Prefect's temporary server has ended"


def _accepts() -> bool:
    url = urllib.parse.urlsplit(os.environ.get("PREFECT_API_URL", ""))
    try:
        socket.create_connection((url.hostname or _HOST, url.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


def _damage(database: Path) -> str | None:
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError:
        # The file is locked, or this user may not read it: its content stays unknown.
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else " ".join(found.split())


def _serve(descriptor: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
