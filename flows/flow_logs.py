"""What the flows log: lines that are safe to show, no tracebacks for a person's mistakes, and nothing twice."""

import logging
import re
import traceback

from prefect.exceptions import FailedRun

from tuneline import errors, stopping, terminal
from tuneline.errors import TunelineError

GATE_FAILED = "GateFailed"
"""The name of the state of a run whose gate failed."""
PROMOTION_UNDONE = "PromotionUndone"
"""The name of the state of a run that has undone a promotion."""
ABORTED = "Execution was aborted by "
"""How Prefect begins its message about a run that a signal has ended."""
# Prefect logs an error as an exception of the flow, and again at the end of the task and of the flow.
_ENDED_BY_ERROR = re.compile(
    r"(?P<state>Finished in state \w+)\(['\"](Task|Flow) run encountered an exception:? (?P<error>\w+): "
)
# Prefect's messages when a person stops a run before the flow itself begins; `stopping` has printed its own.
_STOP_MESSAGES = (
    *(f"Crash detected! {ABORTED}", f"Finished in state Crashed('{ABORTED}"),
    *("Running hook '_cancel", "Hook '_cancel"),
)


class LogFilter(logging.Filter):
    """Makes log lines safe to show, logs a TunelineError once and without a traceback, and the reasons of a gate and of
    a promotion once.

    The states of Prefect keep the problems of an error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record, whose message is made safe."""
        error = record.exc_info[1] if record.exc_info else None
        message = record.getMessage()
        if isinstance(error, TunelineError):
            # Prefect shows the repr of an error, with all problems on one line.
            message = message.replace(repr(error), f"\n{error}")
        message = terminal.safe_text(message)
        record.msg, record.args = message, ()
        if message.startswith(_STOP_MESSAGES) and stopping.is_active():
            return False
        if message.startswith(f"Task run failed with state: {GATE_FAILED}"):
            return False
        for name in (GATE_FAILED, PROMOTION_UNDONE):
            if message.startswith(f"Finished in state {name}"):
                record.msg, record.args = f"Finished in state {name}", ()
        if (ended := _ENDED_BY_ERROR.match(message)) and _is_ours(ended["error"]):
            record.msg, record.args = ended["state"], ()
        if isinstance(error, TunelineError):
            record.exc_info = None
        elif record.exc_info:
            # A formatter uses this text instead of formatting the traceback itself.
            record.exc_text = terminal.safe_text("".join(traceback.format_exception(*record.exc_info)))
        # A worker's engine ends with this exception after the flow has returned a state of type Failed and logged it.
        return not isinstance(error, FailedRun)


def _is_ours(name: str) -> bool:
    """Whether a class of this name is a TunelineError."""
    named = getattr(errors, name, None)
    return isinstance(named, type) and issubclass(named, TunelineError)


def add_log_filter() -> None:
    """Let `LogFilter` see what the flows, their tasks and the engine log."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logger = logging.getLogger(name)
        if not any(isinstance(one, LogFilter) for one in logger.filters):
            logger.addFilter(LogFilter())


def without_address(record: logging.LogRecord) -> bool:
    """Whether to log a record: a temporary server has no pages to open."""
    return not record.getMessage().startswith("View at ")


def without_error(record: logging.LogRecord) -> bool:
    """Whether to log a record: `run_here` prints the error of the run as its last lines."""
    return not (record.exc_info and isinstance(record.exc_info[1], TunelineError))


def _drop(_record: logging.LogRecord) -> bool:
    return False


def silence_lost_server() -> None:
    """Drop the log records of the threads that send logs and events: the run itself reports a lost server once."""
    for name in ("APILogWorker", "EventsWorker", "prefect._internal.concurrency", "prefect.events.clients"):
        # A filter, because Prefect resets the levels when the flow begins.
        logging.getLogger(name).addFilter(_drop)
    # Prefect's handler checks this before it writes to stderr.
    logging.raiseExceptions = False
