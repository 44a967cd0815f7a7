"""Receives MLflow's webhooks about aliases. They are hints: a lost, repeated or forged request does no harm.

MLflow signs each request: HMAC-SHA256 of `delivery id.timestamp.body` with the secret that was given when the webhook
was made, in the header X-MLflow-Signature as `v1,BASE64`.
"""

import base64
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneline.errors import SetupError, TrackingError
from tuneline.registry import addresses, tracking
from tuneline.registry.tracking import Tracker

_HOST = "127.0.0.1"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_LONGEST = 65_536
"""Bytes of a request's body; those of MLflow have some hundred."""
_SECONDS = 5.0
_MOST = 32
"""Requests that are read at the same time: a slow sender must not use up the threads of the watch."""


def is_signed(secret: str, delivery: str, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether MLflow has signed a request with this secret.

    Args:
        secret: of the webhook.
        delivery: the header X-MLflow-Delivery-Id.
        timestamp: the header X-MLflow-Timestamp.
        body: of the request.
        signature: the header X-MLflow-Signature.
    """
    signed = f"{delivery}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    return hmac.compare_digest(b"v1," + expected, signature.encode("utf-8", "surrogateescape"))


@contextmanager
def listening(port: int, wake: Callable[[], None], emit: Callable[[str], None]) -> Iterator[None]:
    """Have MLflow call `wake` when an alias is set or removed, while the block runs.

    Where MLflow does not offer webhooks, a line says so, and nothing is received.

    Args:
        port: of this machine, where the requests come in; 0: any free port.
        wake: called for each signed request.
        emit: called with a line.

    Raises:
        SetupError: another program uses the port.
    """
    secret = secrets.token_urlsafe(32)
    try:
        server = _Server((_HOST, port), _handler(secret, wake))
    except OSError as error:
        raise SetupError(
            f"--webhook-port {port}: cannot be used ({error.strerror}); choose another port, or 0 for any free port"
        ) from None
    with server:
        threading.Thread(target=server.serve_forever, name="webhooks", daemon=True).start()
        made = _make(f"http://{_HOST}:{server.server_port}/", secret, emit)
        try:
            yield
        finally:
            if made:
                _remove(*made)
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        if threading.active_count() > _MOST:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: anyone on this machine could fill the terminal with tracebacks."""


def _handler(secret: str, wake: Callable[[], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            # Python refuses to read a number of thousands of digits.
            if not length.isdecimal() or len(length) > len(str(_LONGEST)) or int(length) > _LONGEST:
                self._answer(413)
                return
            body = self.rfile.read(int(length))
            names = ("X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature")
            delivery, timestamp, signature = (self.headers.get(name, "") for name in names)
            if not is_signed(secret, delivery, timestamp, body, signature):
                self._answer(401)
                return
            wake()
            self._answer(204)

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing: anyone on this machine could fill the terminal."""

    return Handler


def _make(url: str, secret: str, emit: Callable[[str], None]) -> tuple[Tracker, str] | None:
    """The webhook in MLflow; None where MLflow refuses it."""
    try:
        tracker = tracking.connect()
        if addresses.database_of(tracker.address):
            emit("MLflow's webhooks are not used: the registry is a file and not a server")
            return None
        if (host := urlsplit(tracker.address).hostname) not in _THIS_MACHINE:
            # There, the address would be that of another program.
            emit(f"MLflow's webhooks are not used: the server {host} cannot reach {_HOST} of this machine")
            return None
        name = _name()
        for number in tracker.find_webhooks(name):
            # A killed process has left it.
            tracker.delete_webhook(number)
        made = tracker.create_webhook(name, url, secret)
    except TrackingError as error:
        emit(f"MLflow's webhooks are not used: {error.problems[0]}")
        return None
    emit(f"MLflow announces changes of aliases to {url}")
    return tracker, made


def _remove(tracker: Tracker, number: str) -> None:
    try:
        tracker.delete_webhook(number)
    except TrackingError:
        # The server has ended before; the next process with this name removes the webhook.
        return


def _name() -> str:
    """The name of this project's webhook: of this folder on this machine."""
    place = hashlib.sha256(f"{os.uname().nodename} {Path.cwd()}".encode()).hexdigest()[:12]
    return f"tuneline-watch-{place}"
