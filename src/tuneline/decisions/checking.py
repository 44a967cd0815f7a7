"""Asks a model what data/checks.yaml asks, in a process of its own or in that which scores the model.

    python -m tuneline.decisions.checking SHARED FOLDER

As for `scoring`: what a model does while it is loaded and asked cannot disturb the caller.
"""

import shutil
import sys
from pathlib import Path

from tuneline import params, processes, terminal
from tuneline.behaviour import check_file, check_results
from tuneline.behaviour.check_results import CheckResult
from tuneline.core import files
from tuneline.decisions import scoring
from tuneline.errors import ModelError, TunelineError

# Standard output may be JSON.
_STDERR = 2
_CHECKS, _SETTINGS, _PROBLEMS = "checks.yaml", "checking.json", "not-checked.json"


def check(p: params.Params, folder: Path, name: str) -> list[CheckResult]:
    """The results of today's checks of the task; empty where paths.checks has none.

    Args:
        p: the params.
        folder: of the model.
        name: of the model, for its progress lines.

    Raises:
        DataError: the file of the checks is missing or wrong.
        ModelError: the model cannot be loaded.
        RegistryError: the process that asks it was ended.
    """
    with files.temporary_folder() as shared:
        if not write_request(shared, p, name):
            return []
        scoring.run_apart("tuneline.decisions.checking", shared, folder, p, stdout=_STDERR)
        return read_results(shared)


def write_request(shared: Path, p: params.Params, name: str) -> bool:
    """Write what another process needs to answer with `answer_request`; False where no check of the task is there.

    Args:
        shared: the folder that both processes know.
        p: the params.
        name: of the model, for its progress lines.

    Raises:
        DataError: the file of the checks is missing or wrong.
    """
    path = Path(p.paths.checks)
    if not check_file.load(path).of_task(p.task):
        return False
    shared.mkdir(exist_ok=True)
    shutil.copyfile(path, shared / _CHECKS)
    limits = [p.evaluate.batch_size, p.evaluate.max_new_tokens, p.finetune.max_length]
    settings = {"task": p.task, "limits": limits, "threads": p.compute.threads, "name": name}
    files.write_json(shared / _SETTINGS, settings)
    return True


def answer_request(shared: Path, folder: Path) -> None:
    """Ask the model in `folder`, and write the results or the problems into `shared`."""
    settings = files.read_object(shared / _SETTINGS, "task", "limits", "threads", "name")
    # These imports load torch, which takes seconds.
    from tuneline.behaviour import asking
    from tuneline.modeling.models import use_threads

    use_threads(settings["threads"])
    try:
        checks, limits = check_file.load(shared / _CHECKS), asking.Limits(*settings["limits"])
        results = asking.ask(folder, checks, settings["task"], limits, settings["name"])
    except TunelineError as error:
        files.write_json(shared / _PROBLEMS, list(error.problems))
        return
    files.write_json(shared / check_results.FILE, check_results.as_json(None, results))


def read_results(shared: Path) -> list[CheckResult]:
    """The results of `answer_request`.

    Raises:
        ModelError: the model could not be asked.
    """
    if (shared / _PROBLEMS).is_file():
        raise ModelError(*files.read_json(shared / _PROBLEMS))
    if not (shared / check_results.FILE).is_file():
        raise ModelError("the model was not asked: its process has ended before")
    return check_results.read(shared / check_results.FILE)[1]


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: answer_request(Path(sys.argv[1]), Path(sys.argv[2])))
