"""Who may talk to Prefect: those who have read the file that only its owner can read."""

import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from dotenv import dotenv_values
from prefect.context import SettingsContext
from prefect.server.api.server import create_app
from prefect.settings import Profile, Settings
from projects import ROOT
from starlette.testclient import TestClient

from tuneline import prefect_login
from tuneline.errors import SetupError

SERVER, CLIENT, URL = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING", "PREFECT_API_URL"
EVIL = {"Origin": "http://evil.example", "Content-Type": "text/plain"}


def test_the_login_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    code = (
        "import os; os.umask(0)\nfrom pathlib import Path; from tuneline import prefect_login\n"
        "print(prefect_login.missing_settings(Path.cwd(), {})['PREFECT_API_AUTH_STRING'])"
    )
    racing = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    [string] = {process.communicate()[0].strip() for process in racing}
    file = tmp_path / prefect_login.FILE
    assert file.read_text().strip() == string
    assert len(string) > 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(file.parent.glob("*.partial"))
    # As in a copy of the project that kept no modes.
    file.chmod(0o644)
    assert prefect_login.missing_settings(tmp_path, {}) == {SERVER: string, CLIENT: string}
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("given", "files", "clients"),
    [
        ({}, {}, True),
        ({URL: "http://127.0.0.1:4200/api"}, {}, True),
        ({URL: "http://localhost:4200/api"}, {}, True),
        ({URL: "http://[::1]:4200/api"}, {}, True),
        ({URL: "https://prefect.example/api"}, {}, False),
        ({URL: "http://localhost.example/api"}, {}, False),
        ({URL: "http://10.0.0.7:4200/api"}, {}, False),
        ({}, {".env": f"{URL}=https://prefect.example/api\n"}, False),
        ({}, {"prefect.toml": '[api]\nurl = "https://prefect.example/api"\n'}, False),
        ({}, {"pyproject.toml": '[tool.prefect.api]\nurl = "https://prefect.example/api"\n'}, False),
        ({}, {"home/profiles.toml": f'active = "a"\n[profiles.a]\n{URL} = "https://prefect.example/api"\n'}, False),
        ({}, {"home/profiles.toml": f'active = "b"\n[profiles.a]\n{URL} = "https://prefect.example/api"\n'}, True),
        (
            {"PREFECT_PROFILE": "a"},
            {"home/profiles.toml": f'active = "b"\n[profiles.a]\n{URL} = "https://prefect.example/api"\n'},
            False,
        ),
        ({}, {"prefect.toml": "no toml"}, True),
    ],
)
def test_the_login_is_sent_only_to_a_server_on_this_machine(
    tmp_path: Path, given: Mapping[str, str], files: Mapping[str, str], clients: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = prefect_login.missing_settings(tmp_path, {"PREFECT_HOME": str(tmp_path / "home"), **given})
    assert set(found) == ({SERVER, CLIENT} if clients else {SERVER})


def test_a_login_that_a_person_has_set_stays(tmp_path: Path) -> None:
    assert prefect_login.missing_settings(tmp_path, {SERVER: "a:b"}) == {CLIENT: "a:b"}
    assert prefect_login.missing_settings(tmp_path, {CLIENT: "a:b"}).keys() == {SERVER}
    assert prefect_login.missing_settings(tmp_path, {SERVER: "a:b", CLIENT: "c:d"}) == {}


class _Asking(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/api/admin/version"
        self.send_response(200 if self.headers["Authorization"] == f"Basic {b64encode(b'a:b').decode()}" else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_refuses_the_login_is_named(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Asking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        prefect_login.check_login(address, {CLIENT: "a:b"})
        prefect_login.check_login(address, {"PREFECT_API_KEY": "of the cloud"})
        with pytest.raises(SetupError, match=r"refuses the login of this project: .* start it with: tuneline ui$"):
            prefect_login.check_login(address, {CLIENT: "a:c"})
        server.shutdown()
    # Who does not answer is not asked for long, and is reported by those who need it.
    prefect_login.check_login(address, {CLIENT: "a:b"})


@pytest.mark.parametrize("content", [b"", b"\n", b"tuneline:", b":abc", b"tuneline", b"a:b c", b"a:\xff\x00"])
def test_a_damaged_login_is_refused(tmp_path: Path, content: bytes) -> None:
    """A server with an empty string would ask for none."""
    (tmp_path / prefect_login.FILE).parent.mkdir()
    (tmp_path / prefect_login.FILE).write_bytes(content)
    with pytest.raises(SetupError, match="does not hold a login as `user:password`; delete it"):
        prefect_login.missing_settings(tmp_path, {})


def test_a_server_that_accepts_and_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_login, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with pytest.raises(SetupError, match=r"accepts connections but does not answer: stop it and start it again"):
            prefect_login.check_login(address, {CLIENT: "a:b"})


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Prefect's server as the env file has it, asked as another machine's name."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            dotenv_values(ROOT / "mlflow/tuneline.env") | prefect_login.missing_settings(root, {})
        ).items():
            patch.setenv(name, value or "")
        patch.setenv("PREFECT_HOME", str(root / "home"))
        with SettingsContext(profile=Profile(name="test", settings={}), settings=Settings()):
            app = create_app(ignore_cache=True)
            yield TestClient(app, base_url="http://evil.example")


@pytest.mark.parametrize("login", [None, "tuneline:guessed", ""])
def test_a_page_cannot_make_a_deployment(prefect: TestClient, login: str | None) -> None:
    given = {} if login is None else {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    for method, path in (
        ("POST", "/flows/"),
        ("POST", "/deployments/"),
        ("GET", "/admin/settings"),
        ("POST", "/logs/filter"),
    ):
        answer = prefect.request(method, f"/api{path}", content="{}", headers=EVIL | given)
        assert answer.status_code == 401, path
        assert "access-control-allow-origin" not in answer.headers


def test_a_browser_may_not_send_requests_of_another_site(prefect: TestClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert prefect.options("/api/flows/filter", headers=EVIL | asked).status_code == 400
    own = prefect.options("/api/flows/filter", headers={"Origin": "http://localhost:4200"} | asked)
    assert own.headers["access-control-allow-origin"] == "http://localhost:4200"


def test_sockets_ask_for_the_login_too(prefect: TestClient) -> None:
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
        with prefect.websocket_connect(path, subprotocols=["prefect"]) as socket:
            socket.send_json({"type": "auth", "token": "tuneline:guessed"})
            assert socket.receive()["type"] == "websocket.close"
