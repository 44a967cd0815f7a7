"""A page of another origin in a browser, while `tuneline ui` runs: Prefect and MLflow do nothing that it asks."""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import pytest
from projects import Project
from test_schedule import background, free_port, post, wait_for

from tuneline import prefect_login

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]  # fmt: skip
FOREIGN = "attacker.test"

PAGE = """<!doctype html><title>a harmless page</title><script>
const attempts = ATTEMPTS;
const patience = new Promise((_, fail) => setTimeout(() => fail(Error("nothing came")), 15000));
patience.catch(() => {});
function socket(url, body) {
  return new Promise((done) => {
    const heard = [], opened = new WebSocket(url, ["prefect"]);
    opened.onopen = () => body.map((message) => opened.send(JSON.stringify(message)));
    opened.onmessage = (event) => heard.push(event.data);
    opened.onclose = () => done(heard.join());
  });
}
function form(url, body) {
  // The browser sends name=value as text; a value that closes the name's string makes JSON of it.
  const [sent, field, frame] = ["form", "input", "iframe"].map((name) => document.createElement(name));
  frame.name = "frame" + Math.random();
  const text = JSON.stringify({...body, padding: ""}).slice(0, -2);
  Object.assign(field, {name: text, value: '"}', type: "hidden"});
  Object.assign(sent, {method: "POST", action: url, enctype: "text/plain", target: frame.name});
  sent.append(field);
  document.body.append(frame, sent);
  return new Promise((done) => {
    frame.onload = () => {
      let seen = null;
      try { seen = frame.contentDocument && frame.contentDocument.body.innerText; } catch (error) {}
      done(seen || "");
    };
    sent.submit();
  });
}
async function ask(how, url, body) {
  const text = JSON.stringify(body);
  if (how === "socket") return socket(url, body);
  if (how === "form") return form(url, body);
  if (how === "beacon") { navigator.sendBeacon(url, new Blob([text])); return ""; }
  const options = {
    read: {},
    "read with the browser's logins": {credentials: "include"},
    text: {method: "POST", mode: "no-cors", body: text},
    "without a type": {method: "POST", mode: "no-cors", body: new Blob([text])},
    json: {method: "POST", body: text, headers: {"Content-Type": "application/json"}},
    "with a guessed login": {method: "POST", body: text, headers: {Authorization: "Basic " + btoa("tuneline:guess")}},
    delete: {method: "DELETE"},
  }[how];
  const answer = await fetch(url, options);
  return answer.type === "opaque" ? "" : "status " + answer.status + ": " + await answer.text();
}
addEventListener("load", async () => {
  const seen = await Promise.all(attempts.map(([how, url, body]) =>
    Promise.race([ask(how, url, body), patience]).catch((error) => "refused: " + error)));
  await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
});
</script><body></body>"""


def attempts(prefect: str, mlflow: str) -> list[tuple[str, str, Any]]:
    """What a page can try, as (how, address, body)."""
    sends = ("text", "without a type", "json", "with a guessed login", "form", "beacon")
    flow, deployment = {"name": "evil"}, {"name": "evil", "flow_id": "00000000-0000-0000-0000-000000000000"}
    event = {
        "occurred": "2026-01-01T00:00:00Z",
        "event": "evil",
        "resource": {"prefect.resource.id": "evil"},
        "id": "0" * 32,
    }
    found: list[tuple[str, str, Any]] = []
    for how in sends:
        found += [(how, f"{prefect}/api/flows/", flow), (how, f"{prefect}/api/deployments/", deployment)]
        found += [(how, f"{prefect}/api/work_pools/", {"name": "evil", "type": "process"})]
        for api in ("api", "ajax-api"):
            found.append((how, f"{mlflow}/{api}/2.0/mlflow/experiments/create", {"name": f"evil {how} {api}"}))
        found.append((how, f"{mlflow}/ajax-api/2.0/mlflow/registered-models/create", {"name": f"evil {how}"}))
        found.append((how, f"{mlflow}/api/2.0/mlflow/experiments/delete", {"experiment_id": "0"}))
        found.append((how, f"{mlflow}/graphql", {"query": "mutation {}"}))
    for how in ("read", "read with the browser's logins"):
        found += [(how, f"{prefect}/api/{path}", None) for path in ("admin/settings", "admin/version", "ui-settings")]
        found += [(how, f"{mlflow}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0", None)]
    found.append(("delete", f"{prefect}/api/work_pools/kept", None))
    sockets = prefect.replace("http:", "ws:")
    for path in ("events/in", "events/out", "logs/out"):
        found.append(("socket", f"{sockets}/api/{path}", [{"type": "auth", "token": "tuneline:guess"}, event]))
        found.append(("socket", f"{sockets}/api/{path}", [event]))
    return found


@contextmanager
def attacker(tried: list[tuple[str, str, Any]]) -> Iterator[tuple[int, Queue[list[str]]]]:
    """A server of the page, and what the page has seen."""
    seen: Queue[list[str]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE.replace("ATTEMPTS", json.dumps(tried)).encode())

        def do_POST(self) -> None:
            seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, seen
        server.shutdown()


def visit(address: str, seen: Queue[list[str]], profile: Path) -> list[str]:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", address]
    with (profile.with_suffix(".log")).open("wb") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return seen.get(timeout=120)
    except Empty:
        pytest.fail(
            f"the page did not run; the browser's last words:\n{profile.with_suffix('.log').read_text()[-2000:]}"
        )
    finally:
        browser.send_signal(signal.SIGTERM)
        try:
            browser.wait(20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()


def status(address: str, host: str, origin: str | None, body: bytes | None) -> int:
    """What a server answers to a request as a browser sends it after a name was bound to this machine anew."""
    headers = {"Host": host, "Content-Type": "text/plain"} | ({"Origin": origin} if origin else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is on the PATH")
def test_a_page_of_another_origin_is_refused_everything(project: Project, tmp_path: Path) -> None:
    ports = free_port(), free_port()
    mlflow, prefect = (f"http://127.0.0.1:{port}" for port in ports)
    arguments = ("ui", "--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1]))
    log = tmp_path / "ui.log"
    with background(project, log, *arguments):
        wait_for(lambda: "Ctrl-C stops both" in log.read_text(), 300, log)
        login = (project.root / prefect_login.FILE).read_text().strip()

        def held() -> dict[str, Any]:
            kinds = ("flows", "deployments", "work_pools")
            found = {kind: post(f"{prefect}/api/{kind}/filter", {}, login) for kind in kinds}
            found["events"] = post(f"{prefect}/api/events/filter", {"filter": {"event": {"name": ["evil"]}}}, login)[
                "total"
            ]
            search = f"{mlflow}/api/2.0/mlflow/experiments/search"
            found["experiments"] = post(search, {"max_results": 100})["experiments"]
            models = urllib.request.urlopen(f"{mlflow}/api/2.0/mlflow/registered-models/search", timeout=30)
            return found | {"models": json.load(models)}

        post(f"{prefect}/api/work_pools/", {"name": "kept", "type": "process"}, login)
        before = held()

        tried = attempts(prefect, mlflow)
        # A name of the page's own site that leads to this machine: to a server it is a foreign host.
        for host in (FOREIGN, "localhost"):
            tried += attempts(f"http://{host}:{ports[1]}", f"http://{FOREIGN}:{ports[0]}")
        with attacker(tried) as (port, seen):
            found = visit(f"http://{FOREIGN}:{port}/", seen, tmp_path / "profile")
        assert len(found) == len(tried) > 150
        answers = [
            (*one[:2], what)
            for one, what in zip(tried, found, strict=True)
            if what and not what.startswith("refused: ")
        ]
        assert answers == []
        assert held() == before

        # Of a page that another program on this machine serves, Prefect does nothing either.
        local = [one for one in attempts(prefect, prefect) if "mlflow" not in one[1]]
        with attacker(local) as (port, seen):
            found = visit(f"http://127.0.0.1:{port}/", seen, tmp_path / "local")
        assert [what for what in found if what and not what.startswith("refused: ")] == []
        assert held() == before

        # A name that is bound to this machine anew makes the page the server's own: only the host tells it then.
        for host in ("attacker.test", "10.attacker.test", "192.168.attacker.test", "localhost.attacker.test"):
            for origin in (None, f"http://{host}:{ports[0]}"):
                experiments = f"{mlflow}/ajax-api/2.0/mlflow/experiments"
                assert status(f"{experiments}/create", f"{host}:{ports[0]}", origin, b'{"name": "evil"}') == 403
                assert status(f"{experiments}/get?experiment_id=0", f"{host}:{ports[0]}", origin, None) == 403
                assert status(f"{prefect}/api/flows/", f"{host}:{ports[1]}", origin, b'{"name": "evil"}') == 401
        assert held() == before
