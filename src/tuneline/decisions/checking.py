"""Asks a model what data/checks.yaml asks, in a process of its own.

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

# Standard output may be JSON.
_STDERR = 2
_CHECKS, _SETTINGS = "checks.yaml", "checking.json"


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
    path = Path(p.paths.checks)
    if not check_file.load(path).of_task(p.task):
        return []
    with files.temporary_folder() as shared:
        shutil.copyfile(path, shared / _CHECKS)
        limits = [p.evaluate.batch_size, p.evaluate.max_new_tokens, p.finetune.max_length]
        settings = {"task": p.task, "limits": limits, "threads": p.compute.threads, "name": name}
        files.write_json(shared / _SETTINGS, settings)
        scoring.run_apart("tuneline.decisions.checking", shared, folder, p, stdout=_STDERR)
        return check_results.read(shared / check_results.FILE)[1]


def _answer_request(shared: Path, folder: Path) -> None:
    settings = files.read_object(shared / _SETTINGS, "task", "limits", "threads", "name")
    # These imports load torch, which takes seconds.
    from tuneline.behaviour import asking
    from tuneline.modeling.models import use_threads

    use_threads(settings["threads"])
    checks, limits = check_file.load(shared / _CHECKS), asking.Limits(*settings["limits"])
    results = asking.ask(folder, checks, settings["task"], limits, settings["name"])
    files.write_json(shared / check_results.FILE, check_results.as_json("", results))


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(
        lambda: scoring.answer(Path(sys.argv[1]), lambda: _answer_request(Path(sys.argv[1]), Path(sys.argv[2])))
    )
