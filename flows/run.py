"""What `make run` does: say so where there is nothing to do, else run the training flow here and now.

    python flows/run.py

DVC and the registry say whether there is anything to do. Prefect, whose start takes longer than both, is started only
where there is, or where it has a server of its own, which shows every run.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import temporary_server

from tuneline import environment, params, prefect_login, processes, stopping, terminal
from tuneline.commands import garbage
from tuneline.decisions import git_steps, last_decision
from tuneline.errors import TunelineError, as_setup_error
from tuneline.pipeline import graph, repro

ROOT = Path(__file__).resolve().parent.parent
_STOPPED = "stopped; finished work is kept, and `make run` goes on from there"


def main() -> None:
    """End with code 0; or 1 and the reasons on stderr; or 130 by Ctrl-C and 143 by SIGTERM, and a line."""
    os.chdir(ROOT)
    terminal.guard(colours=True)
    try:
        environment.enter()
        with stopping.stoppable(_STOPPED):
            _run()
    except TunelineError as error:
        sys.exit(f"\n{error}")
    except OSError as error:
        if (problem := as_setup_error(error)) is None:
            raise
        sys.exit(f"\n{problem}")
    except stopping.Stopped as stopped:
        sys.exit(stopped.code)


def _run() -> None:
    has_server = _has_prefect_server()
    found = None if has_server else _settled()
    if found is None:
        _flow(has_server)
        return
    outcome, added = found
    print("nothing is stale, and the gate has decided about this model, these rules and this champion already")
    if outcome.is_failed:
        sys.exit(f"\n{outcome.message([])}")
    said = filter(None, [garbage.warning(), added])
    print("", *git_steps.keep_commands(params.load()), *said, outcome.message([]), sep="\n")


def _flow(has_server: bool) -> None:
    # Nothing else is said for ten seconds and more.
    print("starting Prefect" if has_server else "starting Prefect and its temporary server", flush=True)
    server = None if has_server else temporary_server.start()
    # Takes seconds, as the start of the server does.
    import train

    if server:
        server.wait()
    train.by_hand()


def _settled() -> tuple[last_decision.Outcome, str | None] | None:
    """What was decided before, where nothing is stale and it still stands; and what the version tells now."""
    with repro.hold_project(), ThreadPoolExecutor(1) as beside:
        p = params.load()
        for raw in graph.imported_sets(p):
            repro.update_imported(raw, print)
        stale = beside.submit(repro.stale_stages)
        try:
            found = last_decision.load_if_current(p)
        except TunelineError:
            # What must be rebuilt first is rebuilt, whether or not MLflow answers now.
            if stale.result():
                return None
            raise
        if not isinstance(found, last_decision.Outcome) or stale.result():
            return None
        return found, last_decision.add_commit(p, found)


def _has_prefect_server() -> bool:
    """Whether a Prefect server is to show runs, by the environment or one of the files that Prefect reads."""
    address = prefect_login.server_address(ROOT, os.environ)
    if address:
        prefect_login.check_login(address, os.environ)
    return bool(address or os.environ.get("PREFECT_PROFILE"))


if __name__ == "__main__":
    processes.run_and_exit(main)
