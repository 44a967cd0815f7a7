"""Runs DVC: finds the stages that are stale, rebuilds them, and turns DVC's errors into messages for a person."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tuneline import git, params, processes
from tuneline.errors import BusyError, GitError, KilledError, ParamsError, PipelineError, SetupError
from tuneline.pipeline import dvc_files, graph
from tuneline.work import WORK

_ERROR = "error: "
# The line of `dvc status` for an output whose objects are not all in the cache, whether or not the workspace has it.
_LOST = re.compile(r"outs (.+) not in cache", re.DOTALL)
_NEVER_MADE = "it was never made"
# Params keys in the name of a run.
_NAMED_KEYS = 2
# Lines of dvc that only help those who call it by hand.
_NOISE = re.compile(
    r"To track the changes|To enable auto staging|Use `dvc push`|(Updat|Generat)ing lock file|\s+(git add|dvc config) "
    r"|Having any troubles\?|Stage '.*' didn't change|'.*' didn't change"
)
# How dvc announces a stage and its command.
_ANNOUNCED = re.compile(r"Running stage '|> ")
_MISSING = re.compile(
    r"(?:missing data 'sources?': |No such file or directory: '|dependency ')(.+?)'?(?: does not exist)?$"
)
_STAGE_KILLED = re.compile(r"exited with (-\d+)$")
_DAMAGED = ("database disk image is malformed", "file is not a database")
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
# SQLite's message where it cannot write, most often because the disk is full.
_REFUSED = "disk I/O error"
_CONFIGURATION = "configuration error"
# With fewer free bytes the disk counts as full.
_LEAST = 1 << 20
Keeper = Literal["git", "cache", "remote", "elsewhere", "nothing"]
"""Who has a missing input: git; DVC's cache; probably the remote; probably another clone ("elsewhere": a .dvc file
names the input and this clone has no remote); nothing that this clone knows."""
_NO_SOURCE = "put it back, or import the set from another place: `dvc import-url --force SOURCE SET`"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def hold_project(log: Callable[[str], None] = _print) -> Iterator[None]:
    """Hold this project's pipeline: one run, one decision, one change of the raw set at a time.

    First it repairs those of DVC's own files that a killed dvc has left unfinished.

    Args:
        log: called with a line for each file that was repaired.

    Raises:
        BusyError: another process holds the project.
        GitError: one of DVC's files is needed from the last commit, but git fails.
        PipelineError: only a person can repair one of DVC's files.
    """
    with processes.exclusive(WORK / "run.lock", "this project's pipeline"):
        for line in dvc_files.repair():
            log(line)
        dvc_files.keep_copies()
        yield


def stale_stages(stage: str | None = None) -> dict[str, list[str]]:
    """The stages that are stale according to `dvc status`, with the reasons.

    Args:
        stage: the only stage to look at; None for the last stage, those of `aside_stages`, and all that they depend on.

    Returns:
        Stage (or .dvc file) -> why it is stale, in words, in the order of dvc.yaml.

    Raises:
        PipelineError: `dvc status` fails.
    """
    names = graph.stage_names()
    last = [names[-1], *graph.aside_stages()]
    status = _json(["status", "--json", stage] if stage else ["status", "--json", "--with-deps", *last])
    order = {name: place for place, name in enumerate(names)}
    made = graph.read_locked_stages()
    return {
        name: [reason for change in changes for reason in _reasons(change)]
        if name in made or name.endswith(".dvc")
        else [_NEVER_MADE]
        for name, changes in sorted(status.items(), key=lambda item: (order.get(item[0], -1), item[0]))
    }


def _reasons(change: dict[str, dict[str, Any]] | str) -> list[str]:
    if isinstance(change, str):
        return [change]
    return [
        f"{what.removeprefix('changed ')} {name} {_state(state)}"
        for what, entries in change.items()
        for name, state in entries.items()
    ]


def _state(state: Any) -> str:
    # For a params file DVC nests: {"params.yaml": {"finetune.seed": "modified"}}.
    return ", ".join(f"{key} {value}" for key, value in state.items()) if isinstance(state, dict) else str(state)


def describe_cause(stale: Mapping[str, Sequence[str]], p: params.Params) -> str:
    """Why stages are stale, in a few words for the name of a run.

    Args:
        stale: what `stale_stages` returns; not empty.
        p: the params.

    Returns:
        As in "data changed" or "params finetune, compute and code changed".
    """
    reasons = [reason for found in stale.values() for reason in found]
    if all(reason == _NEVER_MADE for reason in reasons):
        return "first run"
    data = (p.data.raw, p.data.pretraining, p.paths.mixture)
    kinds: list[str] = []
    if any(name.endswith(".dvc") for name in stale) or _names(reasons, *(f"deps {path} " for path in data)):
        kinds.append("data")
    keys = [key for reason in reasons for key in _keys(reason)]
    if keys:
        known = list(dict.fromkeys(keys))
        more = f" and {len(known) - _NAMED_KEYS} more" if len(known) > _NAMED_KEYS else ""
        kinds.append(f"params {', '.join(known[:_NAMED_KEYS])}{more}")
    if p.base.source != "builtin" and _names(reasons, f"deps {p.base.input} "):
        kinds.append("base")
    if _names(reasons, f"deps {p.paths.expectations}/"):
        kinds.append("expectations")
    if _names(reasons, f"deps {p.paths.checks} "):
        kinds.append("checks")
    if _names(reasons, "deps src/", "changed command"):
        kinds.append("code")
    if _names(reasons, "deps requirements"):
        kinds.append("libraries")
    if kinds:
        return f"{' and '.join(kinds)} changed"
    is_missing = any(reason.endswith(" deleted") or _LOST.fullmatch(reason) for reason in reasons)
    return "outputs missing" if is_missing else "outputs changed"


def _names(reasons: Sequence[str], *starts: str) -> bool:
    return any(reason.startswith(starts) for reason in reasons)


def _keys(reason: str) -> list[str]:
    """The keys of params that a reason names, as in "deps params.yaml finetune modified, task modified"."""
    start = f"deps {params.PARAMS_FILE} "
    return re.findall(r"(\S+) \w+(?:,|$)", reason.removeprefix(start)) if reason.startswith(start) else []


def lost_outputs(stale: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The stages that are stale only because DVC's cache has lost outputs.

    Args:
        stale: what `stale_stages` returns.

    Returns:
        Stage (or .dvc file) -> the lost outputs.
    """
    found = {name: [_LOST.fullmatch(reason) for reason in reasons] for name, reasons in stale.items()}
    return {name: [match[1] for match in matches if match] for name, matches in found.items() if all(matches)}


def tracked_files(folder: Path) -> list[Path]:
    """The files below a folder that DVC counts as part of it: those that .dvcignore names are left out."""
    from dvc.repo import Repo

    with Repo() as repo:
        found = repo.dvcignore.find(repo.fs, str(folder.absolute()))
        return sorted(folder / Path(name).relative_to(folder.absolute()) for name in found)


def commit_to_cache(*keepers: str) -> None:
    """Put outputs into DVC's cache that the workspace holds as dvc.lock or a .dvc file records them.

    Args:
        keepers: the stages and the .dvc files.

    Raises:
        BusyError: another dvc holds the project.
        PipelineError: an output differs from the record, or DVC fails.
    """
    # Without --force: DVC refuses an output that differs, instead of recording it as made by the stage.
    _run(["commit", "--quiet", "--no-relink", *keepers], lambda line: None, what=", ".join(keepers))


def _not_in_cache() -> list[str]:
    # DVC writes a folder with a slash at its end.
    return [path.rstrip("/") for path in _json(["data", "status", "--json"]).get("not_in_cache", [])]


def reproduce(stage: str, log: Callable[[str], None]) -> bool:
    """Rebuild what is stale of `stage` and of the stages that it depends on.

    Args:
        stage: a stage of dvc.yaml.
        log: called with each line of output while dvc runs.

    Returns:
        Whether `stage` ran; DVC restores outputs that its cache holds from an earlier run with the same inputs.

    Raises:
        BusyError: another dvc holds the project.
        ParamsError: DVC would delete files that no stage has made.
        PipelineError: the stage failed; holds the stage's own message.
    """
    refuse_unsafe_outputs(params.load())
    graph.make_shared_folders()
    ran = False

    def log_and_look(line: str) -> None:
        nonlocal ran
        ran = ran or line == f"Running stage '{stage}':"
        log(line)

    _run(["repro", stage], log_and_look, what=stage)
    return ran


@dataclass(frozen=True)
class Elsewhere:
    """Another folder of a project, in which its stages run with its own code."""

    folder: Path
    python: Path
    """The Python that runs DVC."""
    sources: Path
    """The folder of the Python code that runs there."""
    variables: Mapping[str, str]
    """The environment."""


def build_anew(stage: str, place: Elsewhere, log: Callable[[str], None]) -> None:
    """Run a stage in another folder, whatever caches hold; its outputs are put into no cache.

    Args:
        stage: of dvc.yaml there.
        place: the folder.
        log: called with each line of output while dvc runs.

    Raises:
        PipelineError: the stage failed; holds the stage's own message.
    """
    graph.make_shared_folders(place.folder)
    arguments = ["repro", "--single-item", "--force", "--no-run-cache", "--no-commit", stage]
    code, errors, last = _streamed(arguments, lambda line: None if _ANNOUNCED.match(line) else log(line), place)
    if code != 0:
        raise _failure(stage, code, errors, last)


def reproduce_at(
    place: Elsewhere, stage: str, log: Callable[[str], None], is_unwanted: Callable[[], bool] = lambda: False
) -> bool:
    """Rebuild one stage in another folder of the project, whose DVC uses the cache of this project.

    Args:
        place: the folder.
        stage: of dvc.yaml there; what it depends on is there already.
        log: called with each line of output while dvc runs.
        is_unwanted: asked several times a second; when it says so, the stage is killed.

    Returns:
        Whether the stage ended; False if it was killed because it is unwanted.

    Raises:
        PipelineError: the stage failed; holds the stage's own message.
    """
    graph.make_shared_folders(place.folder)
    code, errors, last = _streamed(["repro", "--single-item", stage], log, place, is_unwanted)
    if code == 0:
        return True
    if is_unwanted():
        return False
    raise _failure(stage, code, errors, last)


def run_module_at(
    place: Elsewhere,
    module: str,
    arguments: Sequence[str],
    log: Callable[[str], None],
    is_unwanted: Callable[[], bool],
    killed: int,
) -> bool:
    """Run a module of the code in another folder of the project; it prints `error: ` before each reason of a failure.

    Args:
        place: the folder.
        module: its name.
        arguments: of the module.
        log: called with each line of output.
        is_unwanted: as for `reproduce_at`.
        killed: the exit code by which the module says that a process of its own was killed.

    Returns:
        Whether it ended; False if it was killed because it is unwanted.

    Raises:
        KilledError: it was killed by another.
        PipelineError: it failed; holds its own message.
    """
    code, errors, last = _streamed(list(arguments), log, place, is_unwanted, module)
    if code == 0:
        return True
    if is_unwanted():
        return False
    error = _failure(module, code, errors, last)
    raise KilledError(*error.problems) if code == killed else error


def use_cache_at(place: Elsewhere, cache: Path) -> None:
    """Let DVC in another folder use a cache of this machine; only the configuration that git ignores changes.

    Args:
        place: the folder.
        cache: the folder of the cache.

    Raises:
        PipelineError: DVC fails.
    """
    code, errors, last = _streamed(["cache", "dir", "--local", str(cache.absolute())], lambda line: None, place)
    if code != 0:
        raise _failure("dvc cache dir", code, errors, last)


def check_out_at(place: Elsewhere, *paths: str) -> None:
    """Lay out, from DVC's cache, outputs in another folder of the project as the dvc.lock there records them.

    Raises:
        PipelineError: the cache does not have them.
    """
    code, errors, last = _streamed(["checkout", "--quiet", *paths], lambda line: None, place)
    if code != 0:
        raise _failure("dvc checkout", code, errors, last)


def save_experiment_at(place: Elsewhere, name: str, stage: str) -> None:
    """Save another folder of the project as an experiment of its commit, which `dvc exp show` then lists.

    Args:
        place: the folder.
        name: of the experiment; another of this name is replaced.
        stage: whose outputs the experiment has.

    Raises:
        PipelineError: DVC fails.
    """
    code, errors, last = _streamed(["exp", "save", "--force", "--name", name, stage], lambda line: None, place)
    if code != 0:
        raise _failure(f"dvc exp save {name}", code, errors, last)


def _failure(what: str, code: int, errors: list[str], last: list[str]) -> PipelineError:
    _refuse_full([line for line in errors if line.startswith("ERROR: ")], what)
    own = _own_errors(code, errors, what)
    return PipelineError(*(own or [line[len(_ERROR) :] for line in errors] or last or [f"{what}: dvc failed"]))


def changed_inputs(place: Elsewhere, stage: str) -> dict[str, list[str]]:
    """What differs in another folder from the records of its dvc.lock and .dvc files; what is not there is left out.

    Args:
        place: the folder.
        stage: the stage to look at, with all that it depends on.

    Returns:
        Stage (or .dvc file) -> what differs, in words.
    """
    done = subprocess.run(
        processes.bound_command(_command(["status", "--json", "--with-deps", stage], place)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=place.folder,
        env=dict(place.variables),
        check=False,
    )
    if done.returncode != 0:
        shown = [line for line in done.stderr.splitlines() if line.strip() and not _NOISE.match(line)]
        raise PipelineError(*(line.removeprefix("ERROR: ") for line in shown))
    found = {}
    # A folder of which some parts are not there yet is another one.
    parts = {f"deps {shared} modified" for shared in graph.shared_folders(place.folder)}
    for name, changes in json.loads(done.stdout).items():
        reasons = [reason for change in changes for reason in _reasons(change) if reason not in parts]
        wrong = [reason for reason in reasons if not reason.endswith((" deleted", " not in cache"))]
        if wrong:
            found[name] = wrong
    return found


def remove_left_outputs(log: Callable[[str], None]) -> None:
    """Remove what a stage has made that params.yaml no longer names, where another stage would read it.

    DVC leaves such outputs where they are. Its cache keeps them.

    Args:
        log: called with a line for each.
    """
    for place in graph.left_outputs():
        if Path(place).is_dir() and not Path(place).is_symlink():
            shutil.rmtree(place)
            log(f"{place}: removed, because {params.PARAMS_FILE} no longer names the stage that made it")


def refuse_unsafe_outputs(p: params.Params) -> None:
    """Refuse outputs that git holds, or that are reached through a link: DVC deletes an output before its stage runs.

    Args:
        p: the params; their own bounds keep outputs apart from each other and inside their folders.

    Raises:
        GitError: git fails.
        ParamsError: names all such outputs.
    """
    places = list(_outputs(p))
    problems = [
        f"{link}: is a link to {link.readlink()}, and DVC deletes an output ({place}) before its stage writes it; "
        f"make {link} a folder of the project, or set another path in {params.PARAMS_FILE} (paths)"
        for link, place in {_link(place): place for place in places}.items()
        if link
    ]
    if places:
        # icase: some file systems do not distinguish capital letters.
        try:
            held = git.ask("ls-files", "-z", "--", *(f":(literal,icase){place}" for place in places))
        except GitError as error:
            raise GitError(
                *problems,
                *error.problems,
                "DVC deletes an output before its stage writes it, and git does not say whether it holds files there, "
                "so nothing is deleted and no stage runs",
            ) from None
        problems += [
            f"{name}: git holds it, and DVC deletes an output before its stage writes it; set another path in "
            f"{params.PARAMS_FILE} (paths), or take the file out of git with: git rm --cached '{name}'"
            for name in filter(None, held.split("\0"))
        ]
    if problems:
        raise ParamsError(*problems)


def _outputs(p: params.Params) -> Iterator[str]:
    """The paths of all outputs, without the metrics, which git holds."""
    values = p.model_dump()
    for stage in graph.read_stages().values():
        for out in stage.get("outs", []):
            yield graph.fill_template(out if isinstance(out, str) else next(iter(out)), values)


def _link(place: str) -> Path | None:
    """The link to a folder through which a path is reached; a link to a file leads into DVC's cache."""
    path = Path(place)
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink() and one.is_dir()), None)


def update_imported(imported: Path, log: Callable[[str], None]) -> None:
    """Fetch the present content of the source of an imported set.

    Args:
        imported: the .dvc file of a `dvc import` or `dvc import-url`.
        log: called with each line of output while dvc runs.

    Raises:
        BusyError: another dvc holds the project.
        PipelineError: the source cannot be read; the set stays as it was.
    """
    try:
        _run(["update", str(imported)], log, what=str(imported), remedy=_NO_SOURCE)
    except BusyError:
        raise
    except PipelineError as error:
        # DVC deletes the set before it looks for the source.
        _run(["checkout", "--quiet", str(imported)], log, what=str(imported))
        kept = f"{imported.with_suffix('')} is as it was"
        raise PipelineError(f"{imported}: the set could not be updated:", *error.problems, kept) from None


def add_to_dvc(*paths: Path) -> None:
    """Put files or folders under DVC.

    Raises:
        PipelineError: DVC's own message.
    """
    names = [str(path) for path in paths]
    _run(["add", "--quiet", *names], lambda line: None, what=", ".join(names))


def _command(arguments: list[str], place: Elsewhere | None = None, module: str = "dvc") -> list[str]:
    if place is None:
        return [sys.executable, "-m", module, *arguments]
    # Only for dvc and the stage: what binds dvc to this process is this project's code. All other variables come
    # another way, because every user of the machine can see arguments.
    return ["env", f"PYTHONPATH={place.sources}", str(place.python), "-m", module, *arguments]


def _run(arguments: list[str], log: Callable[[str], None], what: str, remedy: str | None = None) -> None:
    code, errors, last = _streamed(arguments, log)
    of_dvc = [line for line in errors if line.startswith("ERROR: ")]
    if code != 0 and _repaired(of_dvc, log):
        code, errors, last = _streamed(arguments, log)
        of_dvc = [line for line in errors if line.startswith("ERROR: ")]
    if code == 0:
        dvc_files.keep_copies()
        return
    _refuse_configuration(of_dvc)
    _refuse_busy(of_dvc, what)
    if missing := next(filter(None, map(_MISSING.search, of_dvc)), None):
        place = missing[1].removeprefix(f"{Path.cwd()}/")
        if remedy:
            raise PipelineError(f"{place}: is missing; {remedy}")
        raise PipelineError(*_missing(place))
    own = _own_errors(code, errors, what)
    if not own:
        _refuse_full(of_dvc, what)
    raise PipelineError(*(own or [line[len(_ERROR) :] for line in errors] or last or [f"{what}: dvc failed"]))


def _streamed(
    arguments: list[str],
    log: Callable[[str], None],
    place: Elsewhere | None = None,
    is_unwanted: Callable[[], bool] | None = None,
    module: str = "dvc",
) -> tuple[int, list[str], list[str]]:
    """Run dvc or another module, and log its lines; returns its exit code, its errors and its last other lines."""
    errors: list[str] = []
    last: list[str] = []
    where = {"folder": place.folder, "variables": place.variables} if place else {}
    with ExitStack() as stack:
        process = stack.enter_context(processes.process_group(_command(arguments, place, module), **where))
        assert process.stdout is not None
        if is_unwanted:
            stack.enter_context(processes.killed_when(is_unwanted, process))
        for line in map(str.rstrip, process.stdout):
            if line.lower().startswith(_ERROR):
                errors.append(line)
            elif line and not _NOISE.match(line):
                last = [*last[-19:], line]
                log(line)
    return process.returncode, errors, last


def _repaired(lines: Iterable[str], log: Callable[[str], None]) -> bool:
    """Whether DVC failed on a damaged database of its own that is now removed, so that another try can succeed."""
    removed = (
        dvc_files.remove_damaged_databases() if any(damage in line for line in lines for damage in _DAMAGED) else []
    )
    for line in removed:
        log(line)
    return bool(removed)


def _missing(place: str) -> list[str]:
    """The message about a missing file or folder."""
    try:
        return [missing_input(place, _keeper(place), params.load())]
    except GitError as error:
        return [f"{place}: is missing, and git does not say whether it holds it", *error.problems]


def missing_input(place: str, keeper: Keeper, p: params.Params) -> str:
    """One line: which input is missing, and how to get it back in this clone.

    Args:
        place: the file or folder, relative to the project's root.
        keeper: who has it.
        p: the params, which say what the input is for.
    """
    quoted, pointer = shlex.quote(place), shlex.quote(f"{place}.dvc")
    again = _again(place, p)
    if keeper == "git":
        return f"{place}: is missing, but git has it; get it back with: git restore {quoted}"
    if keeper == "cache":
        return f"{place}: is missing, but DVC's cache has it; get it back with: dvc checkout {pointer}"
    if keeper == "remote":
        return (
            f"{place}: is missing here and in DVC's cache; fetch it from the remote with: dvc pull {pointer} (if the "
            f"remote does not have it either: run `dvc push` in the clone that has it, {again})"
        )
    if keeper == "elsewhere":
        return (
            f"{place}: is missing here and in DVC's cache, and this clone has no remote to fetch it from; in the clone "
            "that has it run `dvc remote add --default storage URL`, commit .dvc/config and run `dvc push`; "
            f"then run `git pull` and `dvc pull` here; {again}"
        )
    is_text = place == p.paths.checks or (place == p.base.input and p.base.source == "hub")
    return (
        f"{place}: is missing, and git does not know {'it' if is_text else f'{place}.dvc'} either; if another clone "
        f"has it, run there the commands that `make run` prints at its end; {again}"
    )


def _again(place: str, p: params.Params) -> str:
    """How to make the input anew, by its purpose."""
    if place == p.data.raw:
        return "or bring its files with: tuneline use PATH"
    if place.startswith(f"{p.paths.mixture}/"):
        name = PurePosixPath(place).name
        return f"or bring its files with: tuneline use PATH --mix WEIGHT --name {shlex.quote(name)}"
    if place == p.paths.checks:
        return f"or make an empty file, which checks nothing, with: touch {shlex.quote(place)}"
    if place == p.base.input and p.base.source == "hub":
        return "or write `id: OWNER/NAME` and `revision: COMMIT` into it"
    if place == p.base.input and p.base.source == "merge":
        return "or write it again with: tuneline merge VERSION VERSION"
    translators = [path for one in p.data.augment.back_translation.values() for path in (one.model, one.back)]
    if place in (p.base.input, *translators):
        return f"or copy the model to it and run: dvc add {shlex.quote(place)}"
    return "or put it back"


def _keeper(place: str) -> Keeper:
    """Who has a missing file or folder."""
    if git.ask("ls-files", "--", place):
        return "git"
    if not Path(f"{place}.dvc").exists():
        return "nothing"
    if place not in _not_in_cache():
        return "cache"
    return "remote" if dvc_files.has_remote() else "elsewhere"


def _refuse_configuration(lines: list[str]) -> None:
    """Raise where DVC reports that its configuration is wrong; names the file and the line."""
    if any(_CONFIGURATION in line for line in lines):
        dvc_files.config()


def _refuse_busy(lines: list[str], what: str) -> None:
    """Raise where DVC reports that another dvc is running."""
    if any("is busy" in line or "Unable to acquire lock" in line for line in lines):
        raise BusyError(f"{what}: another dvc holds the project; wait for it to end, then run the same command again")


def _own_errors(code: int, errors: Iterable[str], what: str) -> list[str]:
    """The stage's own message, if it has one.

    Raises:
        KilledError: dvc or the stage was killed.
    """
    _refuse_killed(code, f"{what}: dvc")
    own = [line.removeprefix(_ERROR) for line in errors if line.startswith(_ERROR)]
    if not own:
        for killed in filter(None, map(_STAGE_KILLED.search, errors)):
            _refuse_killed(int(killed[1]), f"{what}: the stage")
    return own


def _refuse_killed(code: int, what: str) -> None:
    if code < 0:
        raise KilledError(
            f"{what} was killed by signal {-code} ({signal.strsignal(-code)}) from outside, for example because "
            "memory ran out; finished work is kept, and the same command goes on from there"
        )


def _refuse_full(lines: list[str], what: str) -> None:
    """Raise where DVC reports that the disk is full or broken."""
    is_refused = any(_REFUSED in line for line in lines)
    if any(sign in line for sign in _FULL for line in lines) or (
        is_refused and shutil.disk_usage(Path.cwd()).free < _LEAST
    ):
        raise SetupError(f"{Path.cwd()}: no space left on the disk; free some and run the same command again")
    if is_refused:
        raise SetupError(
            f"{what}: one of DVC's databases cannot be read or written ({_REFUSED}); check that the disk works and has "
            "space, then run the same command again"
        )


def _json(arguments: list[str]) -> dict[str, Any]:
    done = _captured(arguments)
    if done.returncode != 0 and _repaired(done.stderr.splitlines(), _print):
        done = _captured(arguments)
    if done.returncode != 0:
        shown = (line for line in done.stderr.splitlines() if line.strip() and not _NOISE.match(line))
        lines = [line.removeprefix("ERROR: ") for line in shown]
        _refuse_configuration(lines)
        _refuse_busy(lines, f"dvc {arguments[0]}")
        _refuse_killed(done.returncode, f"dvc {arguments[0]}: dvc")
        _refuse_full(lines, f"dvc {arguments[0]}")
        raise PipelineError(*(lines or [f"dvc {' '.join(arguments)}: exit code {done.returncode}"]))
    return json.loads(done.stdout)


def _captured(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = processes.bound_command(_command(arguments))
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
