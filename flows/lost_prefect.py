"""Ends a run that has lost Prefect's server, with one line; finished work is kept."""

import time
from typing import NoReturn

import httpx
import temporary_server
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tuneline import stopping

ERRORS = (httpx.TransportError, PrefectHTTPStatusError, RuntimeError)
"""The errors that Prefect's client raises where its server does not answer as it should are among these."""
# Seconds in which a server that is started again may come back.
_PATIENCE = 15.0
_TIMEOUT = 5.0
_NOT_REACHED = "Failed to reach API"
_KEPT = "finished work is kept, and the same command goes on from there"


def end_if_lost() -> None:
    """End the process if Prefect does not answer for `_PATIENCE` seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not _is_answering():
        if time.monotonic() > deadline:
            _end()
        time.sleep(1)


def end_if_caused(error: BaseException) -> None:
    """End the process if `error`, one of `ERRORS`, means that Prefect's server is lost or refuses this project."""
    if isinstance(error, PrefectHTTPStatusError):
        code = error.response.status_code
        if code >= 500:
            _end()
        if code in (401, 403):
            stopping.end_now(f"{_name()} refuses this project ({code}): see docs/schedule.md")
    elif (
        # Prefect's client has tried several times, as its settings say.
        isinstance(error, httpx.TimeoutException)
        or (isinstance(error, RuntimeError) and _NOT_REACHED in str(error))
        or not _is_answering()
    ):
        _end()


def _is_answering() -> bool:
    # Without the client's own retries: the caller decides about another try.
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
