"""What `tuneline watch` starts when the alias `champion` has moved: verify the version, then show that in Prefect.

    python flows/follow.py

The version is verified before Prefect is imported, and whether Prefect works decides nothing.
"""

import os
import sys

import script
import temporary_server

from tuneline import params, prefect_login, processes
from tuneline.decisions import promotion
from tuneline.errors import SetupError
from tuneline.registry import tracking

_STOPPED = "stopped; what is not verified yet is verified by the next run"


def main() -> None:
    """Exit with code 0; 1 if a promotion was undone, or with the reason on stderr if nothing could be verified."""
    script.run(_follow, _STOPPED)


def _follow() -> None:
    p = params.load()
    model = p.registry.model
    if promotion.is_settled(tracking.connect(), model):
        print(f"{model}: the champion is the last verified version; nothing has changed")
        return
    outcome = promotion.follow(p, log=_print)
    for step in outcome.steps:
        _print(f"{model}: {step.told()}")
    address = prefect_login.server_address(script.ROOT, os.environ)
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
    if outcome.undone:
        sys.exit(1)


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    processes.run_and_exit(main)
