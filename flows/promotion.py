"""The promotion flow: verify the version that a person has made champion, and keep it or undo that.

tuneline exec -- prefect --no-prompt deploy --all --prefect-file flows/prefect.yaml
                                                  every 15 minutes, for a worker
tuneline watch                                    within seconds: follow.py verifies, and shows here what was done
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flow_logs
import lost_prefect
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from tuneline import params, stopping
from tuneline.decisions.promotion import Outcome, follow
from tuneline.errors import SetupError, first_line
from tuneline.reporting.markdown import escape


@flow(name="promotion", persist_result=False, retries=0)
def promotion() -> State:
    """Verify the champion if a person has moved the alias.

    Returns:
        Completed; or, if a promotion was undone, Failed with the name `PromotionUndone` and the reason.
    """
    flow_logs.add_log_filter()
    flow_logs.silence_lost_server()
    # Prefect has installed its own handler of SIGTERM, which would call the run crashed.
    stopping.take_over()
    if os.environ.get("TUNELINE_ROOT") != str(Path.cwd()):
        raise SetupError(
            f"{Path.cwd()}: this process lacks the project's environment; start the worker in the project's root with "
            "`tuneline exec -- prefect worker start --pool tuneline`"
        )
    try:
        return _final_state(follow(params.load(), log=get_run_logger().info))
    except stopping.Stopped as stopped:
        return Cancelled(message=str(stopped), data=stopped)


def show(outcome: Outcome) -> str | None:
    """Make a flow run in this process that shows what was done.

    Args:
        outcome: what `follow` has returned.

    Returns:
        Why Prefect does not show it; None if it does.
    """
    flow_logs.silence_lost_server()
    what = "; ".join(f"version {step.version} {step.action}" for step in outcome.steps) or "nothing has changed"

    @flow(name="promotion", flow_run_name=f"{outcome.model}: {what}", persist_result=False, retries=0)
    def shown() -> State:
        for step in outcome.steps:
            for check in step.checks:
                get_run_logger().info(check.line())
        return _final_state(outcome)

    try:
        # `follow` has printed the same lines.
        with _without_console():
            state = shown(return_state=True)
    except lost_prefect.ERRORS as error:
        return first_line(error)
    return None if state.name in (flow_logs.PROMOTION_UNDONE, "Completed") else state.message


@contextmanager
def _without_console() -> Iterator[None]:
    """Let Prefect's log go to its server alone."""
    loggers = [logging.getLogger(name) for name in ("prefect", "prefect.flow_runs", "prefect.engine")]
    # The handler that sends to the server is none of these.
    handlers = [one for logger in loggers for one in logger.handlers if isinstance(one, logging.StreamHandler)]
    for handler in handlers:
        handler.addFilter(_drop)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_drop)


def _drop(_record: logging.LogRecord) -> bool:
    return False


def _final_state(outcome: Outcome) -> State:
    """Emit an event and write an artifact for each step, and return the state of the run."""
    for step in outcome.steps:
        emit_event(
            f"tuneline.promotion.{step.action}",
            resource={
                "prefect.resource.id": f"tuneline.model.{outcome.model}",
                "prefect.resource.name": outcome.model,
                "tuneline.version": step.version,
                "tuneline.champion": step.champion or "",
            },
            related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}],
            payload={"alias": step.alias, "reason": step.reason},
        )
        # Reasons and details may hold text of data and models.
        lines = [f"**{escape(step.line())}**", "", *(f"- {escape(check.line())}" for check in step.checks)]
        create_markdown_artifact("\n".join(lines), key="promotion", description="What was verified")
    message = "\n".join(step.line() for step in outcome.steps) or "nothing has changed"
    return Failed(name=flow_logs.PROMOTION_UNDONE, message=message) if outcome.undone else Completed(message=message)
