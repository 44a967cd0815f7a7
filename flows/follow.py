"""What `tuneline watch` starts when the alias `champion` has moved: verify the version, then show that in Prefect.

    python flows/follow.py

The version is verified before Prefect is imported, and whether Prefect works decides nothing.
"""

import os
import sys
from pathlib import Path

import temporary_server

from tuneline import environment, params, prefect_login, processes, stopping, terminal
from tuneline.decisions import promotion
from tuneline.errors import SetupError, TunelineError, as_setup_error
from tuneline.registry import tracking

ROOT = Path(__file__).resolve().parent.parent
_STOPPED = "stopped; what is not verified yet is verified by the next run"


def main() -> None:
    """Exit with code 0; 1 if a promotion was undone, or with the reason on stderr if nothing could be verified."""
    os.chdir(ROOT)
    terminal.guard(colours=True)
    try:
        environment.enter()
        with stopping.stoppable(_STOPPED):
            outcome = _follow()
    except TunelineError as error:
        sys.exit(str(error))
    except OSError as error:
        if (problem := as_setup_error(error)) is None:
            raise
        sys.exit(str(problem))
    except stopping.Stopped as stopped:
        sys.exit(stopped.code)
    if outcome.undone:
        sys.exit(1)


def _follow() -> promotion.Outcome:
    p = params.load()
    model = p.registry.model
    if promotion.is_settled(tracking.connect(), model):
        print(f"{model}: the champion is the last verified version; nothing has changed")
        return promotion.Outcome(model, None)
    outcome = promotion.follow(p, log=_print)
    for step in outcome.steps:
        _print(f"{model}: {step.line()}")
    address = prefect_login.server_address(ROOT, os.environ)
    # Not earlier: its start takes as much processor time as a verification, which people wait for.
    server = None if address or os.environ.get("PREFECT_PROFILE") else temporary_server.start()
    try:
        if address:
            prefect_login.check_login(address, os.environ)
        if server:
            server.wait()
        # The import takes seconds.
        import promotion as flows

        problem = flows.show(outcome)
    except SetupError as error:
        problem = str(error)
    if problem:
        _print(f"Prefect does not show this ({problem}); `tuneline history` does")
    return outcome


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    processes.run_and_exit(main)
