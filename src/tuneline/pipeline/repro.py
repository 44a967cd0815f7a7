"""Runs DVC, which owns the graph: what is stale and why, and rebuilding it stage by stage."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tuneline import git, params, processes
from tuneline.errors import BusyError, GitError, ParamsError, PipelineError, SetupError
from tuneline.pipeline import dvc_files, graph
from tuneline.work import WORK

_ERROR = "error: "
# What `dvc status` says of an output whose objects are not all in the cache, whether or not the workspace has it.
_LOST = re.compile(r"outs (.+) not in cache", re.DOTALL)
_NEVER_MADE = "it was never made"
# Keys in the name of a run.
_NAMED_KEYS = 2
# What dvc says to those who call it by hand.
_NOISE = re.compile(
    r"To track the changes|To enable auto staging|Use `dvc push`|(Updat|Generat)ing lock file|\s+(git add|dvc config) "
    r"|Having any troubles\?|Stage '.*' didn't change|'.*' didn't change"
)
_MISSING = re.compile(
    r"(?:missing data 'sources?': |No such file or directory: '|dependency ')(.+?)'?(?: does not exist)?$"
)
_STAGE_KILLED = re.compile(r"exited with (-\d+)$")
_DAMAGED = ("database disk image is malformed", "file is not a database")
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
# What SQLite says where it cannot write, most often because the disk is full.
_REFUSED = "disk I/O error"
_CONFIGURATION = "configuration error"
# Bytes; with fewer free the disk counts as full.
_LEAST = 1 << 20
Keeper = Literal["git", "cache", "remote", "elsewhere", "nothing"]
"""Who has what is missing: git; DVC's cache; a remote, as far as this clone knows; another clone, because a .dvc file
names it and this clone has no remote; nothing that this clone knows of."""
_NO_SOURCE = "put it back, or import the set from another place: `dvc import-url --force SOURCE SET`"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def hold_project(tell: Callable[[str], None] = _tell) -> Iterator[None]:
    """Hold this project's pipeline: one run, one decision, one change of the raw set at a time.

    What a killed dvc has left of its own files is mended first.

    Args:
        tell: is given a line for each file that was mended.

    Raises:
        BusyError: another process holds it.
        PipelineError: a file of DVC's can be mended only by a person.
    """
    with processes.exclusive(WORK / "run.lock", "this project's pipeline"):
        for line in dvc_files.mend():
            tell(line)
        dvc_files.keep()
        yield


def stale_stages(stage: str | None = None) -> dict[str, list[str]]:
    """What `dvc status` finds changed.

    Args:
        stage: the one to look at, without what is upstream of it; None: the last stage and all that it depends on.

    Returns:
        Stage (or .dvc file) -> why it is stale, in words, in the order of dvc.yaml; what is up to date is absent.

    Raises:
        PipelineError: DVC cannot say.
    """
    names = graph.stage_names()
    status = _json(["status", "--json", stage] if stage else ["status", "--json", "--with-deps", names[-1]])
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
    """Why stages are stale, in a few words for the name of a run; what follows from these changes is left out.

    Args:
        stale: what `stale` returns; not empty.
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
    """The params that a reason names, as in "deps params.yaml finetune modified, task modified"."""
    start = f"deps {params.PARAMS_FILE} "
    return re.findall(r"(\S+) \w+(?:,|$)", reason.removeprefix(start)) if reason.startswith(start) else []


def lost_outputs(stale: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of what is stale, that for which nothing has changed but that DVC's cache has lost outputs.

    Args:
        stale: what `stale` returns.

    Returns:
        Stage (or .dvc file) -> the outputs.
    """
    found = {name: [_LOST.fullmatch(reason) for reason in reasons] for name, reasons in stale.items()}
    return {name: [match[1] for match in matches if match] for name, matches in found.items() if all(matches)}


def tracked_files(folder: Path) -> list[Path]:
    """The files below a folder that belong to it for DVC: those that .dvcignore names do not."""
    from dvc.repo import Repo

    with Repo() as repo:
        found = repo.dvcignore.find(repo.fs, str(folder.absolute()))
        return sorted(folder / Path(name).relative_to(folder.absolute()) for name in found)


def commit_to_cache(*keepers: str) -> None:
    """Put what stages have made, or .dvc files name, into DVC's cache, as far as it is what dvc.lock says.

    Args:
        keepers: the stages and the .dvc files.

    Raises:
        BusyError: another dvc holds the project.
        PipelineError: it is not; or with DVC's own words.
    """
    # Not forced: DVC refuses where anything differs, instead of noting it as what the stage has made.
    _run(["commit", "--quiet", "--no-relink", *keepers], lambda line: None, what=", ".join(keepers))


def _not_in_cache() -> list[str]:
    # DVC writes a folder with a slash at its end.
    return [path.rstrip("/") for path in _json(["data", "status", "--json"]).get("not_in_cache", [])]


def reproduce(stage: str, emit: Callable[[str], None]) -> None:
    """Rebuild `stage` and what it depends on, as far as it is stale.

    Args:
        stage: a stage of dvc.yaml.
        emit: is given each line of output while it runs.

    Raises:
        BusyError: another dvc holds the project.
        ParamsError: DVC would delete what no stage has made.
        PipelineError: the stage stopped; carries its own message.
    """
    refuse_unsafe_outputs(params.load())
    _run(["repro", stage], emit, what=stage)


def refuse_unsafe_outputs(p: params.Params) -> None:
    """Refuse outputs that git holds, or that lie behind a link.

    Args:
        p: the params, whose own bounds keep outputs apart from each other and inside their folders.

    Raises:
        GitError: git does not say what it holds.
        ParamsError: all of them at once.
    """
    places = list(_outputs(p))
    problems = [
        f"{link}: is a link to {link.readlink()}, and DVC deletes an output ({place}) before a stage writes it anew; "
        f"make {link} a folder of the project, or name another place in {params.PARAMS_FILE} (paths)"
        for link, place in {_link(place): place for place in places}.items()
        if link
    ]
    if places:
        # Whatever the capital letters: some file systems do not tell them apart.
        try:
            held = git.ask("ls-files", "-z", "--", *(f":(literal,icase){place}" for place in places))
        except GitError as error:
            raise GitError(
                *problems,
                *error.problems,
                "DVC deletes an output before a stage writes it anew, and whether git holds files there cannot be "
                "told: nothing is deleted, and nothing made",
            ) from None
        problems += [
            f"{name}: git holds it, and DVC deletes an output before a stage writes it anew; name another place in "
            f"{params.PARAMS_FILE} (paths), or take it out of git with: git rm --cached '{name}'"
            for name in filter(None, held.split("\0"))
        ]
    if problems:
        raise ParamsError(*problems)


def _outputs(p: params.Params) -> Iterator[str]:
    """The paths of all outputs; those of metrics, which git is to hold, are left out."""
    values = p.model_dump()
    for stage in graph.read_stages().values():
        for out in stage.get("outs", []):
            yield graph.fill_template(out if isinstance(out, str) else next(iter(out)), values)


def _link(place: str) -> Path | None:
    """The link through which a place is reached; a file that is one itself is a file of DVC's cache."""
    path = Path(place)
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink() and one.is_dir()), None)


def update_imported(imported: Path, emit: Callable[[str], None]) -> None:
    """Fetch what an imported set's source holds now.

    Args:
        imported: the .dvc file of a `dvc import` or `dvc import-url`.
        emit: is given each line of output while it runs.

    Raises:
        BusyError: another dvc holds the project.
        PipelineError: the source cannot be read; the set is as it was.
    """
    try:
        _run(["update", str(imported)], emit, what=str(imported), remedy=_NO_SOURCE)
    except BusyError:
        raise
    except PipelineError as error:
        # DVC removes the set before it looks for its source.
        _run(["checkout", "--quiet", str(imported)], emit, what=str(imported))
        kept = f"{imported.with_suffix('')} is as it was"
        raise PipelineError(f"{imported}: the set could not be updated:", *error.problems, kept) from None


def add_to_dvc(*paths: Path) -> None:
    """Put files or folders under DVC.

    Raises:
        PipelineError: with DVC's own words.
    """
    names = [str(path) for path in paths]
    _run(["add", "--quiet", *names], lambda line: None, what=", ".join(names))


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _run(arguments: list[str], emit: Callable[[str], None], what: str, remedy: str | None = None) -> None:
    code, errors, last = _streamed(arguments, emit)
    of_dvc = [line for line in errors if line.startswith("ERROR: ")]
    if code != 0 and _mended(of_dvc, emit):
        code, errors, last = _streamed(arguments, emit)
        of_dvc = [line for line in errors if line.startswith("ERROR: ")]
    if code == 0:
        dvc_files.keep()
        return
    _refuse_configuration(of_dvc)
    _refuse_busy(of_dvc, what)
    if missing := next(filter(None, map(_MISSING.search, of_dvc)), None):
        place = missing[1].removeprefix(f"{Path.cwd()}/")
        if remedy:
            raise PipelineError(f"{place}: is not there; {remedy}")
        raise PipelineError(*_missing(place))
    _refuse_killed(code, f"{what}: dvc")
    own = [line.removeprefix(_ERROR) for line in errors if line.startswith(_ERROR)]
    if not own:
        for killed in filter(None, map(_STAGE_KILLED.search, of_dvc)):
            _refuse_killed(int(killed[1]), f"{what}: the stage")
        _refuse_full(of_dvc, what)
    raise PipelineError(*(own or [line[len(_ERROR) :] for line in errors] or last or [f"{what}: dvc failed"]))


def _streamed(arguments: list[str], emit: Callable[[str], None]) -> tuple[int, list[str], list[str]]:
    """Run dvc, and hand out what it prints: its exit code, its lines of errors, and its last other lines."""
    errors: list[str] = []
    last: list[str] = []
    with processes.process_group(_command(arguments)) as process:
        assert process.stdout is not None
        for line in map(str.rstrip, process.stdout):
            if line.lower().startswith(_ERROR):
                errors.append(line)
            elif line and not _NOISE.match(line):
                last = [*last[-19:], line]
                emit(line)
    return process.returncode, errors, last


def _mended(lines: Iterable[str], tell: Callable[[str], None]) -> bool:
    """Whether DVC has failed on a database of its own that could be removed, so that it is worth another try."""
    removed = dvc_files.mend_databases() if any(damage in line for line in lines for damage in _DAMAGED) else []
    for line in removed:
        tell(line)
    return bool(removed)


def _missing(place: str) -> list[str]:
    """What to say of a file or folder that is not there."""
    try:
        return [missing_input(place, _keeper(place), params.load())]
    except GitError as error:
        return [f"{place}: is not there, and git does not say whether it holds it", *error.problems]


def missing_input(place: str, keeper: Keeper, p: params.Params) -> str:
    """One line: what is missing, and how the person at this clone gets it back.

    Args:
        place: the file or folder, relative to the project's root.
        keeper: who has it.
        p: the params, which say what it is for.
    """
    quoted, pointer = shlex.quote(place), shlex.quote(f"{place}.dvc")
    again = _again(place, p)
    if keeper == "git":
        return f"{place}: is not there, but git has it; get it back with: git restore {quoted}"
    if keeper == "cache":
        return f"{place}: is not there, but DVC's cache has it; get it back with: dvc checkout {pointer}"
    if keeper == "remote":
        return (
            f"{place}: is not there and not in DVC's cache; fetch it from the remote with: dvc pull {pointer} (where "
            f"the remote does not have it either: run `dvc push` in the clone that has it, {again})"
        )
    if keeper == "elsewhere":
        return (
            f"{place}: is not there and not in DVC's cache, and this clone has no remote to fetch it from; in the "
            "clone that has it run `dvc remote add --default storage URL`, commit .dvc/config and run `dvc push`; "
            f"then run `git pull` and `dvc pull` here; {again}"
        )
    is_text = place == p.base.input and p.base.source == "hub"
    return (
        f"{place}: is not there, and git does not know {'it' if is_text else f'{place}.dvc'} either; if another clone "
        f"has it, run there what `make run` prints at its end; {again}"
    )


def _again(place: str, p: params.Params) -> str:
    """How it is brought here anew, by what it is for."""
    if place == p.data.raw:
        return "or bring its files with: tuneline use PATH"
    if place.startswith(f"{p.paths.mixture}/"):
        name = PurePosixPath(place).name
        return f"or bring its files with: tuneline use PATH --mix WEIGHT --name {shlex.quote(name)}"
    if place == p.base.input and p.base.source == "hub":
        return "or write `id: OWNER/NAME` and `revision: COMMIT` into it"
    if place == p.base.input:
        return f"or copy the model to it and run: dvc add {shlex.quote(place)}"
    return "or put it there"


def _keeper(place: str) -> Keeper:
    """Who has the file or folder that is missing."""
    if git.ask("ls-files", "--", place):
        return "git"
    if not Path(f"{place}.dvc").exists():
        return "nothing"
    if place not in _not_in_cache():
        return "cache"
    return "remote" if dvc_files.has_remote() else "elsewhere"


def _refuse_configuration(lines: list[str]) -> None:
    """Raise where DVC's own lines say that its configuration is wrong: with the file and the line."""
    if any(_CONFIGURATION in line for line in lines):
        dvc_files.config()


def _refuse_busy(lines: list[str], what: str) -> None:
    """Raise where DVC's own lines say that another dvc is at work."""
    if any("is busy" in line or "Unable to acquire lock" in line for line in lines):
        raise BusyError(f"{what}: another dvc holds the project; wait for it to end, then run the same command again")


def _refuse_killed(code: int, what: str) -> None:
    if code < 0:
        raise PipelineError(
            f"{what} was ended from outside by signal {-code} ({signal.strsignal(-code)}), as a system does that "
            "has no memory left; what is made stays, and the same command goes on from there"
        )


def _refuse_full(lines: list[str], what: str) -> None:
    """Raise where dvc's own lines say that the disk is full, or broken."""
    is_refused = any(_REFUSED in line for line in lines)
    if any(sign in line for sign in _FULL for line in lines) or (
        is_refused and shutil.disk_usage(Path.cwd()).free < _LEAST
    ):
        raise SetupError(f"{Path.cwd()}: no space left on the disk; free some and run the same command again")
    if is_refused:
        raise SetupError(
            f"{what}: a database of DVC's could not be read or written ({_REFUSED}); look whether the disk is sound "
            "and has space, then run the same command again"
        )


def _json(arguments: list[str]) -> dict[str, Any]:
    done = _captured(arguments)
    if done.returncode != 0 and _mended(done.stderr.splitlines(), _tell):
        done = _captured(arguments)
    if done.returncode != 0:
        said = (line for line in done.stderr.splitlines() if line.strip() and not _NOISE.match(line))
        lines = [line.removeprefix("ERROR: ") for line in said]
        _refuse_configuration(lines)
        _refuse_busy(lines, f"dvc {arguments[0]}")
        _refuse_killed(done.returncode, f"dvc {arguments[0]}: dvc")
        _refuse_full(lines, f"dvc {arguments[0]}")
        raise PipelineError(*(lines or [f"dvc {' '.join(arguments)}: exit code {done.returncode}"]))
    return json.loads(done.stdout)


def _captured(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = processes.bound_command(_command(arguments))
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
