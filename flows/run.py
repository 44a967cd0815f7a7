"""What `make run` does: run the training flow in this process, or say that nothing is to do.

    python flows/run.py

DVC and the registry tell whether something is to do. Prefect takes longer to start than both, so it starts only if
something is to do, or if a Prefect server is set, which shows every run.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import script
import temporary_server

from tuneline import params, processes
from tuneline.commands import garbage
from tuneline.decisions import erasure, erasure_plan, git_steps, last_decision
from tuneline.errors import TunelineError
from tuneline.pipeline import graph, repro

_STOPPED = "stopped; finished work is kept, and `make run` goes on from there"


def main() -> None:
    """Exit with code 0; 1 and the reasons on stderr; 130 and a line after Ctrl-C; 143 and a line after SIGTERM."""
    is_erasing = (script.ROOT / erasure_plan.JOURNAL).is_file()
    script.run(_run, erasure.STOPPED if is_erasing else _STOPPED, above="\n")


def _run() -> None:
    has_server = temporary_server.is_another_set()
    current = None if has_server else _current_decision()
    if current is None:
        _run_flow(has_server)
        return
    outcome, added = current
    print("nothing is stale, and the gate has already decided about this model with these rules and this champion")
    if outcome.is_failed:
        sys.exit(f"\n{outcome.message([])}")
    notes = filter(None, [garbage.warning(), added])
    print("", *git_steps.keep_commands(params.load()), *notes, outcome.message([]), sep="\n")


def _run_flow(has_server: bool) -> None:
    with temporary_server.starting(is_needed=not has_server):
        import train
    train.run_here()


def _current_decision() -> tuple[last_decision.Outcome, str | None] | None:
    """The last decision if it still holds and nothing is stale; and a line about a commit added to the version."""
    with repro.hold_project(), ThreadPoolExecutor(1) as beside:
        p = params.load()
        for raw in graph.imported_sets(p):
            repro.update_imported(raw, print)
        stale = beside.submit(repro.stale_stages)
        try:
            found = last_decision.load_if_current(p)
        except TunelineError:
            # Stale stages are rebuilt first, whether or not MLflow answers now.
            if stale.result():
                return None
            raise
        if not isinstance(found, last_decision.Outcome) or stale.result():
            return None
        return found, last_decision.add_commit(p, found)


if __name__ == "__main__":
    processes.run_and_exit(main)
