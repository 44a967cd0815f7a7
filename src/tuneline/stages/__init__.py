"""The stages of dvc.yaml, one module each; this file is how each of them starts and ends."""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tuneline import environment, params
from tuneline.errors import TunelineError

_PR_SET_PDEATHSIG = 1


def run(stage: Callable[[params.Params], None]) -> NoReturn:
    """Run one stage and exit: 0, or 1 with one message for the person who must mend it.

    Args:
        stage: what to do with the checked params.
    """
    _die_with_parent()
    if environment.load():
        # libgomp reads its settings before any Python code runs, so they hold only in a new image of this process.
        os.execv(sys.executable, sys.orig_argv)
    try:
        stage(params.load())
    except TunelineError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or Path.cwd()
        print(f"{place}: no space left on the disk; free some and run the same command again", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _die_with_parent() -> None:
    """A killed dvc must not leave a trainer behind, beside which the next repro would start a second one."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
