"""What searches keep of their trials, what they were made from, and how it is removed.

work/search/NAME/               their numbers, and the folders of those that run
refs/tuneline-search/NAME       the project as it was when the search began
refs/exps/…/NAME-NUMBER         each trial that ended, as an experiment of DVC, which names its model
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tuneline import git, processes
from tuneline.decisions import raw_history, sources
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import GitError, ParamsError, PipelineError
from tuneline.pipeline import dvc_files, graph, objects, repro
from tuneline.training import checkpoints
from tuneline.work import WORK

FOLDER = WORK / "search"
REFS = "refs/tuneline-search"
TRIALS = "trials"
"""The folder of the trials that run, in that of a search."""
_EXPERIMENTS = "refs/exps"
# The stages that run in the folder of a trial.
_MADE = ("finetune", "evaluate")


def names() -> list[str]:
    """The names of all searches of which something is left."""
    folders = {path.name for path in FOLDER.glob("*/")}
    return sorted(folders | {ref.removeprefix(f"{REFS}/") for ref in git.refs_below(REFS)})


def that_saw(raw: RawHistory) -> dict[str, str]:
    """The searches that trained on rows, and those of which it is not known, each with what is known in words.

    Args:
        raw: answers whether raw sets hold the rows.
    """
    refs = git.refs_below(REFS)
    return {name: why for name in names() if (why := _how_it_saw(refs.get(f"{REFS}/{name}"), raw))}


def _how_it_saw(commit: str | None, raw: RawHistory) -> str | None:
    if commit is None:
        return "it is not known which rows it saw, because its git ref is gone"
    try:
        made = raw_history.read_made(sources.read(commit), raw)
    except (GitError, PipelineError) as error:
        return f"it is not known which rows it saw ({error.problems[0]})"
    if made.rows or made.texts:
        return f"its raw sets hold {made.rows} of the rows"
    if made.unknown:
        return f"it is not known which rows it saw: {', '.join(made.unknown)} as it was then is nowhere"
    return None


def made_by(name: str) -> Iterator[str]:
    """The md5s of what the trials of a search have made that are no experiments yet."""
    inside = git.ask("rev-parse", "--show-prefix")
    for lock in (FOLDER / name / TRIALS).glob(f"*/{inside}dvc.lock"):
        stages = graph.read_yaml(lock).get("stages", {})
        yield from (md5 for stage in _MADE for md5 in _outputs(stages.get(stage, {})))


def refuse_running() -> None:
    """Refuse to go on while a trial trains, such as on a cluster whose search was killed.

    Raises:
        BusyError: names the process.
    """
    inside = git.ask("rev-parse", "--show-prefix")
    with ExitStack() as stack:
        for lock in FOLDER.glob(f"*/{TRIALS}/*/{inside}{checkpoints.LOCK}"):
            stack.enter_context(processes.exclusive(lock, "the training of a trial"))


def remove(name: str) -> int:
    """Remove all that a search keeps in the project; a storage elsewhere keeps its numbers.

    Returns:
        The bytes of the models that were deleted in DVC's cache.
    """
    size = remove_trials(name)
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    if f"{REFS}/{name}" in git.refs_below(REFS):
        git.ask("update-ref", "-d", f"{REFS}/{name}")
    return size


def delete(name: str) -> list[str]:
    """Delete a search, as a person asks for it; returns what was done, in lines.

    Raises:
        BusyError: another command holds the project, or one of its trials trains.
        ParamsError: there is no search of this name.
    """
    if name not in (known := names()):
        raise ParamsError(f"--name {name}: there is no such search (there are: {', '.join(known) or 'none'})")
    with repro.hold_project():
        refuse_running()
        count = len(_experiments(name))
        size = sum(file.lstat().st_size for file in (FOLDER / name).rglob("*") if file.is_file())
        size += remove(name)
    return [f"search {name}: {count} experiments are deleted, {size / 1e6:,.1f} MB are freed"]


def remove_trials(name: str) -> int:
    """Remove the folders and the experiments of the trials of a search, and their models in DVC's cache.

    A model that the workspace or another commit names stays. So does all in a cache that other projects may share.

    Returns:
        The bytes of the models.
    """
    cache = dvc_files.cache_folder()
    experiments = _experiments(name)
    made = {*made_by(name)}
    for commit in experiments.values():
        with suppress(PipelineError):
            made |= {md5 for stage in _MADE for md5 in _outputs(sources.read(commit).locked.get(stage, {}))}
    shutil.rmtree(FOLDER / name / TRIALS, ignore_errors=True)
    git.ask("worktree", "prune")
    for ref in experiments:
        git.ask("update-ref", "-d", ref)
    if not made or not cache.resolve().is_relative_to(Path.cwd().resolve()):
        return 0
    named = {md5 for other in (raw_history.workspace(), *raw_history.commits()) for md5 in other.md5s()}
    named |= {md5 for other in names() if other != name for md5 in made_by(other)}
    places = [objects.place(cache, md5) for md5 in objects.with_listed(cache, made) - objects.with_listed(cache, named)]
    unneeded = [path for path in places if path.is_file()]
    size = sum(path.stat().st_size for path in unneeded)
    for path in unneeded:
        path.unlink()
    return size


def _experiments(name: str) -> dict[str, str]:
    """Ref -> commit of the trials of a search that ended."""
    every = git.refs_below(_EXPERIMENTS)
    return {ref: sha for ref, sha in every.items() if re.fullmatch(rf"{re.escape(name)}-\d+", ref.rpartition("/")[2])}


def _outputs(locked: dict[str, Any]) -> list[str]:
    return [out["md5"] for out in locked.get("outs", []) if "md5" in out]
