"""How a script beside a flow begins and ends: its folder, the project's environment, and its exit code."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tuneline import environment, stopping, terminal
from tuneline.errors import TunelineError, as_setup_error

ROOT = Path(__file__).resolve().parent.parent


def run(body: Callable[[], None], stopped: str, *, above: str = "") -> None:
    """Run `body` in the project's root and environment.

    Exits with code 1 and the reasons on stderr; with 130 and a line after Ctrl-C; with 143 and a line after SIGTERM.

    Args:
        body: may exit with a code of its own.
        stopped: the line after a signal.
        above: printed before the reasons.
    """
    os.chdir(ROOT)
    terminal.guard(colours=True)
    try:
        environment.enter()
        with stopping.stoppable(stopped):
            body()
    except TunelineError as error:
        sys.exit(f"{above}{error}")
    except OSError as error:
        if (problem := as_setup_error(error)) is None:
            raise
        sys.exit(f"{above}{problem}")
    except stopping.Stopped as signal:
        sys.exit(signal.code)
