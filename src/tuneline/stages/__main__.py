"""How a stage starts and ends: exit code 0, or 1 with one message for the person who must mend it.

    python -m tuneline.stages NAME

The params are checked before the stage's own imports, which take seconds where torch is among them.
"""

import errno
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import NoReturn

from tuneline import environment, params, processes, stages
from tuneline.errors import TunelineError


def main(arguments: list[str]) -> None:
    """Run the stage that the only argument names."""
    processes.die_with_parent()
    environment.enter()
    names = sorted(module.name for module in pkgutil.iter_modules(stages.__path__) if module.name != "__main__")
    if len(arguments) != 1 or arguments[0] not in names:
        _stop(f"{' '.join(arguments) or 'no name'}: is no stage; there are {', '.join(names)}")
    try:
        p = params.load()
        importlib.import_module(f"tuneline.stages.{arguments[0]}").main(p)
    except TunelineError as error:
        _stop(*error.problems)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _stop(f"{error.filename or Path.cwd()}: no space left on the disk; free some and run the same command again")


def _stop(*problems: str) -> NoReturn:
    for problem in problems:
        for line in problem.splitlines():
            print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
