"""What a run does that has lost Prefect: it ends, in a line, and keeps what is made. Prefect only owns when."""

import time
from typing import NoReturn

import httpx
import temporary_server
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tuneline import stopping

ERRORS = (httpx.TransportError, PrefectHTTPStatusError, RuntimeError)
"""Among these are those that Prefect's client raises where its server does not answer as it should."""
# Seconds that a server may take to come back, as when it is started again.
_PATIENCE = 15.0
_TIMEOUT = 5.0
_NOT_REACHED = "Failed to reach API"
_KEPT = "finished work is kept, and the same command goes on from there"


def end_if_lost() -> None:
    """End the process where Prefect does not answer any more, nor within a while."""
    deadline = time.monotonic() + _PATIENCE
    while not _is_answering():
        if time.monotonic() > deadline:
            _end()
        time.sleep(1)


def end_if_caused(error: BaseException) -> None:
    """End the process where `error`, one of `ERRORS`, says that Prefect is lost, or is of no use."""
    if isinstance(error, PrefectHTTPStatusError):
        code = error.response.status_code
        if code >= 500:
            _end()
        if code in (401, 403):
            stopping.end_now(f"{_name()} refuses this project ({code}): see docs/schedule.md")
    elif (
        # It was tried several times, as Prefect's settings say.
        isinstance(error, httpx.TimeoutException)
        or (isinstance(error, RuntimeError) and _NOT_REACHED in str(error))
        or not _is_answering()
    ):
        _end()


def _is_answering() -> bool:
    # Whoever asks decides about another try.
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": _TIMEOUT}, sync_client=True) as client,
    ):
        return client.api_healthcheck() is None


def _name() -> str:
    return f"Prefect's server at {PREFECT_API_URL.value()}"


def _end() -> NoReturn:
    if temporary_server.is_used():
        stopping.end_now(f"{temporary_server.why_it_failed()}; {_KEPT}")
    stopping.end_now(f"{_name()} does not answer; {_KEPT}, once it is started again (`tuneline ui` starts one here)")
