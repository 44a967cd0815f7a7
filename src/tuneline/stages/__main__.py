"""How a stage starts and ends: exit code 0, or 1 with a message.

    python -m tuneline.stages NAME
    python -m tuneline.stages NAME@ITEM                   a stage of a twin (its seed), or of data.augment (a name)
    python -m tuneline.stages NAME@without/COMPARISON     a stage of a training without some rows

The params are checked before the stage is imported, because importing torch takes seconds.
"""

import importlib
import os
import pkgutil
import sys
from concurrent.futures import BrokenExecutor
from typing import NoReturn

from tuneline import processes

if __name__ == "__main__":
    # Before what takes its time to import: a dvc that is killed meanwhile takes the stage with it.
    processes.die_with_named_parent()

from tuneline import environment, instruction_set, params, stages, terminal
from tuneline.errors import PipelineError, TunelineError, as_setup_error

_ASIDE = ("finetune", "evaluate")
"""The stages that train and measure other models than the candidate, for comparison."""
_OF_NAMES = ("augment", "replace_synonyms", "back_translate")


def main(arguments: list[str]) -> None:
    """Run the stage that the only argument names, for the item that follows its name and `@`."""
    try:
        environment.enter()
        names = sorted(module.name for module in pkgutil.iter_modules(stages.__path__) if module.name != "__main__")
        name, _, item = arguments[0].partition("@") if len(arguments) == 1 else ("", "", "")
        is_aside = name in _ASIDE and (item.isdecimal() or item.startswith(params.WITHOUT))
        fits = item != "" if name in _OF_NAMES else not item or is_aside
        if name not in names or not fits:
            raise PipelineError(
                f"{' '.join(arguments) or 'no name'}: is not a stage; the stages are {', '.join(names)}"
            )
        p = params.load()
        if p.compute.portable:
            instruction_set.restrict()
        # Of several processes that train together.
        os.environ[processes.PARENT] = str(os.getpid())
        with processes.importing():
            stage = importlib.import_module(f"tuneline.stages.{name}")
        stage.main(p, *([item] if item else []))
    except TunelineError as error:
        _stop(*error.problems)
    except BrokenExecutor:
        _stop("a worker process was killed, which happens if memory is short; run the same command again")
    except KeyboardInterrupt:
        _stop("interrupted; run the same command again to go on")
    except OSError as error:
        full = as_setup_error(error)
        if full is None:
            raise
        _stop(*full.problems)


def _stop(*problems: str) -> NoReturn:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(sys.argv[1:]))
