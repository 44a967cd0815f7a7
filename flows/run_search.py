"""What `tuneline search` starts, after it has checked everything: the flow of a search.

python flows/run_search.py OPTIONS                      the options as JSON
"""

import json
import os
import sys
from pathlib import Path

import script
import temporary_server

from tuneline import params, processes
from tuneline.search import options, space

_STOPPED = "stopped; ended trials are kept, and the same command goes on from there"


def main() -> None:
    """Exit with code 0; 1 and the reasons on stderr; 130 and a line after Ctrl-C; 143 and a line after SIGTERM."""
    script.run(_run, _STOPPED, above="\n")


def _run() -> None:
    asked = options.Options(**json.loads(sys.argv[1]))
    # Workers of Dask import the flow too.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with temporary_server.starting(is_needed=not temporary_server.is_another_set()):
        import search
    search.run_here(asked)
    if asked.apply:
        p = params.load()
        print(*options.apply_best(asked, p, space.read(p)), sep="\n")


if __name__ == "__main__":
    processes.run_and_exit(main)
