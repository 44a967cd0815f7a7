"""A page in headless Chromium that a test clicks and types in, by the protocol of its developer tools."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from test_attack_page import BROWSER, FLAGS
from test_schedule import free_port
from websockets.sync.client import connect
from websockets.sync.connection import Connection

ALIASES = "[data-component-id*='modelversionviewaliaseditor']"
FIELD = "[role=dialog] input"
SAVE = "[data-component-id='mlflow.edit-aliases-modal.save-button']"
_SECONDS = 240.0


class Page:
    """A page of the browser."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._number = connection, 0

    def _call(self, method: str, **values: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": values}))
        while True:
            answer = json.loads(self._connection.recv(timeout=_SECONDS))
            if answer.get("id") == self._number:
                return answer.get("result", {})

    def _value(self, expression: str) -> Any:
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found.get("result", {}).get("value")

    def open(self, address: str) -> None:
        # A page that differs by its part after # alone is not loaded again.
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def click(self, selector: str) -> None:
        """Click an element as soon as it is there."""
        found = f"document.querySelector({json.dumps(selector)})"
        deadline = time.monotonic() + _SECONDS
        while not self._value(f"!!{found}"):
            if time.monotonic() > deadline:
                pytest.fail(f"{selector} is not on the page:\n{self._value('document.body.innerText')}")
            time.sleep(0.5)
        self._value(f"{found}.focus(); {found}.click()")

    def type(self, text: str) -> None:
        """Type a text and press Enter."""
        self._call("Input.insertText", text=text)
        time.sleep(1)
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)
        time.sleep(1)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Chromium with one page."""
    assert BROWSER is not None
    port = free_port()
    command = [
        BROWSER,
        *FLAGS,
        "--remote-allow-origins=*",
        f"--remote-debugging-port={port}",
        "--window-size=1400,1000",
    ]
    with profile.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([*command, f"--user-data-dir={profile}"], stdout=log, stderr=subprocess.STDOUT)
    try:
        with connect(_socket_of(port), max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def _socket_of(port: int) -> str:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
            for page in json.load(answer):
                if page["type"] == "page":
                    return page["webSocketDebuggerUrl"]
        time.sleep(0.5)
    pytest.fail("Chromium does not answer")


def set_alias(page: Page, address: str, model: str, version: str, alias: str) -> None:
    """Give a version an alias as a person does on its page in the MLflow UI."""
    page.open(f"{address}/#/models/{model}/versions/{version}?workflowType=machine_learning")
    page.click(ALIASES)
    page.click(FIELD)
    page.type(alias)
    page.click(SAVE)
