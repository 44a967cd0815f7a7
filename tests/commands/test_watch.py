"""`tuneline watch`: what it notices, and how often it asks; webhooks are signed."""

import errno
import os
import socket
import struct
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from types import SimpleNamespace

import mlflow
import pytest
from registry_fixtures import project as watched

from tuneline.commands import watch, webhook_listener
from tuneline.errors import TrackingError
from tuneline.params import Params
from tuneline.registry import history, tracking
from tuneline.registry.tracking import Tracker

__all__ = ["watched"]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def watcher(lines: list[str], tracker: Tracker, watched: Params, monkeypatch: pytest.MonkeyPatch) -> watch._Watcher:
    """A watcher whose flow decides for each promotion that the version stays."""
    model = watched.registry.model
    client = mlflow.MlflowClient()
    client.create_registered_model(model)
    for _ in range(2):
        client.create_model_version(model, "s3://nowhere")

    def follow(self: watch._Watcher) -> int:
        lines.append("flow")
        if self.flow_works:  # pyright: ignore[reportAttributeAccessIssue]
            now = tracker.aliases(model).get("champion")
            history.append(tracker, model, action="verified" if now else "removed", alias="champion", after=now)
        return 0

    monkeypatch.setattr(watch._Watcher, "_run_flow", follow)
    monkeypatch.setattr(watch._Watcher, "flow_works", True, raising=False)
    return watch._Watcher(lines.append, 3.0)


def promote(model: str, version: str) -> None:
    mlflow.MlflowClient().set_registered_model_alias(model, "champion", version)


def test_each_change_of_the_alias_starts_the_flow_once(watcher: watch._Watcher, lines: list[str]) -> None:
    watcher.look()
    assert lines == []
    for version in ("1", "2", "1"):
        promote(watcher.model, version)
        for _ in range(3):
            watcher.look()
    assert lines == ["flow"] * 3
    mlflow.MlflowClient().delete_model_version(watcher.model, "1")
    watcher.look()
    watcher.look()
    assert lines == ["flow"] * 4
    # The same version again, between two looks: nothing has changed.
    promote(watcher.model, "2")
    watcher.look()
    watcher.look()
    mlflow.MlflowClient().delete_registered_model_alias(watcher.model, "champion")
    promote(watcher.model, "2")
    watcher.look()
    assert lines == ["flow"] * 5


def test_a_flow_that_decides_nothing_is_started_again_less_often(
    watcher: watch._Watcher, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch._Watcher, "flow_works", False, raising=False)
    promote(watcher.model, "1")
    pauses = []
    for _ in range(5):
        watcher.look()
        pauses.append(watcher._pause)
    assert pauses == [6, 12, 20, 20, 20]
    assert [line for line in lines if line != "flow"] == [
        "flows/follow.py has decided nothing (exit code 0); this is tried again until it works"
    ]
    monkeypatch.setattr(watch._Watcher, "flow_works", True, raising=False)
    watcher.look()
    assert lines[-1] == "the promotions are followed again"
    assert watcher._pause == 3


def test_an_outage_of_the_registry_is_told_once_and_survived(
    watcher: watch._Watcher, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.look()
    promote(watcher.model, "1")

    def away(*_: object) -> None:
        raise TrackingError("MLflow does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "aliases", away)
        patch.setattr(tracking, "connect", away)
        for _ in range(4):
            watcher.look()
    assert lines == ["MLflow does not answer; this is tried again until it works"]
    watcher.look()
    assert lines[1:] == ["flow", "the registry answers again"]


def test_a_machine_without_memory_does_not_end_the_watch(
    watcher: watch._Watcher, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.look()
    promote(watcher.model, "1")

    def full(_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(watch._Watcher, "_run_flow", full)
        watcher.look()
    watcher.look()
    assert lines == [
        "the watch: [Errno 12] Cannot allocate memory; this is tried again until it works",
        "flow",
        "the promotions are followed again",
    ]


def test_requests_that_are_slow_broken_or_too_many_leave_no_trace(
    lines: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, str] = {}
    server = SimpleNamespace(
        address="http://127.0.0.1:5000",
        find_webhooks=lambda name: [],
        delete_webhook=lambda number: None,
        create_webhook=lambda name, url, secret: made.update(url=url) or "new",
    )
    monkeypatch.setattr(tracking, "connect", lambda: server)
    with webhook_listener.listening(0, lambda: None, lines.append), ExitStack() as stack:
        port = int(made["url"].rstrip("/").rpartition(":")[2])

        def ask(text: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as opened:
                opened.sendall(text)
                return opened.recv(99)

        assert b" 413 " in ask(b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        assert b" 413 " in ask(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        broken = socket.create_connection(("127.0.0.1", port))
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
        broken.close()
        before = threading.active_count()
        for _ in range(3 * webhook_listener._MOST):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            opened.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
        assert threading.active_count() <= max(before, webhook_listener._MOST + 1)
    assert capfd.readouterr().err == ""


def test_only_a_request_with_mlflows_signature_wakes_the_watch(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    made: dict[str, str] = {}
    server = SimpleNamespace(
        address="http://127.0.0.1:5000",
        find_webhooks=lambda name: ["old"],
        delete_webhook=lambda number: made.setdefault(f"deleted {number}", ""),
        create_webhook=lambda name, url, secret: made.update(name=name, url=url, secret=secret) or "new",
    )
    monkeypatch.setattr(tracking, "connect", lambda: server)
    woken = threading.Event()

    def send(signature: str, body: bytes = b"{}") -> int:
        headers = {"X-MLflow-Delivery-Id": "1", "X-MLflow-Timestamp": "2", "X-MLflow-Signature": signature}
        try:
            with urllib.request.urlopen(urllib.request.Request(made["url"], body, headers), timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with webhook_listener.listening(0, woken.set, lines.append):
        for wrong in ("", "v1,", "v1,é", _generate_hmac_signature("other", "1", "2", "{}")):
            assert send(wrong) == 401
        right = _generate_hmac_signature(made["secret"], "1", "2", "{}")
        assert send(right, b"{} ") == 401
        assert send(right, b"x" * 70_000) == 413
        assert not woken.is_set()
        assert send(right) == 204
        assert woken.is_set()
    assert made["url"].startswith("http://127.0.0.1:")
    assert "deleted old" in made
    assert "deleted new" in made
    assert lines == [f"MLflow announces changes of aliases to {made['url']}"]


def test_a_registry_without_a_server_has_no_webhooks(lines: list[str], tracker: Tracker, watched: Params) -> None:
    with webhook_listener.listening(0, lambda: None, lines.append):
        pass
    assert lines == ["MLflow's webhooks are not used: the registry is a file and not a server"]


def test_a_server_on_another_machine_is_not_told_an_address_of_this_one(
    lines: list[str], tracker: Tracker, watched: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "connect", lambda: Tracker(tracker._client, "http://mlflow.example:5000"))
    with webhook_listener.listening(0, lambda: None, lines.append):
        assert lines == [
            "MLflow's webhooks are not used: the server mlflow.example cannot reach 127.0.0.1 of this machine"
        ]
