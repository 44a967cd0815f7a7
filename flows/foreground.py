"""Runs a flow in this process for a person: quiet about Prefect's own affairs, and clear about how it ended."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import flow_logs
import lost_prefect
import temporary_server

from tuneline import stopping
from tuneline.errors import TunelineError, as_setup_error


def run(flow: Callable[[], Any]) -> str:
    """Run a flow; after a failure, exit with code 1 and the reason on stderr.

    Args:
        flow: runs it and returns its final state.

    Returns:
        The message of its state.

    Raises:
        stopping.Stopped: a person stopped the flow; its state is Cancelled.
    """
    logger = logging.getLogger("prefect.flow_runs")
    if temporary_server.is_used():
        logger.addFilter(flow_logs.without_address)
    # Before LogFilter, which removes the exception from the record.
    logger.addFilter(flow_logs.without_error)
    flow_logs.add_log_filter()
    flow_logs.silence_lost_server()
    try:
        state = flow()
    except lost_prefect.ERRORS as error:
        lost_prefect.end_if_caused(error)
        raise
    if isinstance(state.data, stopping.Stopped):
        raise state.data
    if state.is_completed():
        return str(state.message)
    error = None if state.name == flow_logs.GATE_FAILED else state.result(raise_on_failure=False)
    if isinstance(error, OSError):
        error = as_setup_error(error) or error
    if isinstance(error, BaseException) and not isinstance(error, TunelineError):
        raise error
    print(f"\n{error or state.message}", file=sys.stderr)
    sys.exit(1)
