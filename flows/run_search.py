"""What `tuneline search` starts, after it has checked everything: the flow of a search.

python flows/run_search.py OPTIONS                      the options as JSON
"""

import json
import os
import sys
from pathlib import Path

import script
import temporary_server

from tuneline import params, prefect_login, processes
from tuneline.search import options, space

_STOPPED = "stopped; ended trials are kept, and the same command goes on from there"


def main() -> None:
    """Exit with code 0; 1 and the reasons on stderr; 130 and a line after Ctrl-C; 143 and a line after SIGTERM."""
    script.run(_run, _STOPPED, above="\n")


def _run() -> None:
    asked = options.Options(**json.loads(sys.argv[1]))
    address = prefect_login.server_address(script.ROOT, os.environ)
    if address:
        prefect_login.check_login(address, os.environ)
    has_server = bool(address or os.environ.get("PREFECT_PROFILE"))
    print("starting Prefect" if has_server else "starting Prefect and its temporary server", flush=True)
    server = None if has_server else temporary_server.start()
    # The import takes seconds, in which the server starts. Workers of Dask import it too.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    import search

    if server:
        server.wait()
    search.run_here(asked)
    if asked.apply:
        p = params.load()
        print(*options.apply_best(asked, p, space.read(p)), sep="\n")


if __name__ == "__main__":
    processes.run_and_exit(main)
