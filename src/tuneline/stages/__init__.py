"""The stages of dvc.yaml, one module each; this file is how each of them starts and ends."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tuneline import environment, params, processes
from tuneline.errors import TunelineError


def run(stage: Callable[[params.Params], None]) -> NoReturn:
    """Run one stage and exit: 0, or 1 with one message for the person who must mend it.

    Args:
        stage: what to do with the checked params.
    """
    processes.die_with_parent()
    environment.enter()
    try:
        stage(params.load())
    except TunelineError as error:
        _stop(*error.problems)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _stop(f"{error.filename or Path.cwd()}: no space left on the disk; free some and run the same command again")
    sys.exit(0)


def _stop(*problems: str) -> NoReturn:
    for problem in problems:
        for line in problem.splitlines():
            print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
