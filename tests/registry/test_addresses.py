"""Which pages `make ui` names, by what answers at the address."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tuneline.registry import addresses


class _Page(BaseHTTPRequestHandler):
    """Another service at the address, or a proxy before it: it answers everything with a page."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"\xff\xfe", b"[]", b'{"experiment": null}'])
def test_an_answer_that_is_not_from_mlflow_gives_no_page(address: str, body: bytes) -> None:
    _Page.body = body
    assert list(addresses.ui_pages(address, "m")) == ["all models"]
