"""DVC's objects: which of them the cache and the remote hold, and moving them between the two.

    .dvc/cache/files/md5/3f/2a…           a file, named by its md5
    .dvc/cache/files/md5/9c/41….dir       a folder: the JSON list of its files with their md5s

`python -m tuneline.pipeline.objects` asks or changes the remote, in a process of its own: the clients of remotes start
threads, and fail with errors of their own kinds.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneline import processes
from tuneline.core import files
from tuneline.errors import PipelineError, one_line
from tuneline.pipeline import dvc_files
from tuneline.pipeline.graph import Output

_FOLDER = ".dir"
_MD5 = re.compile("[0-9a-f]{32}")
_ANSWER = "answer: "


@dataclass(frozen=True)
class Moved:
    """What a push or a pull of outputs has done."""

    objects: int
    """Objects that were moved."""
    size: int
    """Their bytes."""
    present: int
    """Objects that were there before."""
    lost: dict[Output, list[str]]
    """The outputs that are not complete at the end, with the md5s of the objects."""


def place(folder: Path, md5: str) -> Path:
    """The file of an object in a cache."""
    return folder / md5[:2] / md5[2:]


def is_md5(text: object) -> bool:
    """Whether a value names an object as DVC does."""
    return isinstance(text, str) and _MD5.fullmatch(text.removesuffix(_FOLDER)) is not None


def is_folder(md5: str) -> bool:
    """Whether an object is the list of a folder's files."""
    return md5.endswith(_FOLDER)


def read_listing(folder: Path, md5: str) -> dict[str, str] | None:
    """Relative path -> md5 of the files of a folder; None if the cache lacks the list, or holds another thing."""
    path = place(folder, md5)
    if not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(_FOLDER):
        return None
    try:
        return _parse_listing(content)
    except (ValueError, TypeError, KeyError):
        # Its hash is right, and another program has made it.
        return None


def _parse_listing(content: bytes) -> dict[str, str]:
    entries = json.loads(content)
    if not isinstance(entries, list):
        raise TypeError("not a list")
    listed = {str(one["relpath"]): str(one["md5"]) for one in entries}
    if not all(_MD5.fullmatch(md5) for md5 in listed.values()):
        raise ValueError("not an md5")
    return listed


def find_missing(outputs: Iterable[Output]) -> dict[Output, list[str]]:
    """The outputs of which objects are in neither the cache nor the default remote; nothing is downloaded but lists.

    Args:
        outputs: those that DVC does not cache are left out.

    Returns:
        Output -> the md5s of the missing objects.

    Raises:
        PipelineError: the remote cannot be read.
    """
    folder = dvc_files.cache_folder()
    needed = {output: _objects_of(folder, output.md5) for output in outputs if output.is_cached}
    absent = {md5 for found in needed.values() for md5 in found if not place(folder, md5).is_file()}
    if not absent:
        return {}
    if dvc_files.has_remote():
        answer = _ask("list", absent)
        absent -= set(answer["found"])
        for output, found in needed.items():
            listing = answer["listings"].get(output.md5)
            if listing is not None:
                found += [md5 for md5 in listing["lacking"] if not place(folder, md5).is_file()]
                absent |= {md5 for md5 in listing["lacking"] if not place(folder, md5).is_file()}
    missing = {output: [md5 for md5 in dict.fromkeys(found) if md5 in absent] for output, found in needed.items()}
    return {output: found for output, found in missing.items() if found}


def _objects_of(folder: Path, md5: str) -> list[str]:
    """An object, and those of the files in its list where the cache has it."""
    listing = read_listing(folder, md5) if is_folder(md5) else None
    return [md5, *(listing or {}).values()]


def push(outputs: Iterable[Output]) -> Moved:
    """Copy objects from the cache to the default remote, if their bytes are those that their names tell.

    Args:
        outputs: those that DVC does not cache are left out.

    Raises:
        PipelineError: the remote cannot be read or written.
    """
    folder = dvc_files.cache_folder()
    needed = {output: _objects_of(folder, output.md5) for output in outputs if output.is_cached}
    every = {md5 for found in needed.values() for md5 in found}
    there = set(_ask("list", every)["found"]) if every else set()
    good = {md5 for md5 in every - there if is_undamaged(folder, md5)}
    if good:
        _ask("push", good)
        there |= set(_ask("list", good)["found"])
    return _moved(folder, needed, every, good & there, there)


def pull(outputs: Iterable[Output]) -> Moved:
    """Copy the objects that the cache lacks from the default remote; one whose bytes are damaged is removed again.

    Args:
        outputs: those that DVC does not cache are left out.

    Raises:
        PipelineError: the remote cannot be read.
    """
    folder = dvc_files.cache_folder()
    cached = [output for output in outputs if output.is_cached]
    before = {md5 for output in cached for md5 in _objects_of(folder, output.md5) if place(folder, md5).is_file()}
    absent = {md5 for output in cached for md5 in _objects_of(folder, output.md5)} - before
    if absent:
        pull_objects(absent)
    needed = {output: _objects_of(folder, output.md5) for output in cached}
    every = {md5 for found in needed.values() for md5 in found}
    new = set()
    for md5 in every - before:
        if is_undamaged(folder, md5):
            new.add(md5)
        else:
            place(folder, md5).unlink(missing_ok=True)
    return _moved(folder, needed, every, new, before | new)


def _moved(
    folder: Path, needed: Mapping[Output, list[str]], every: set[str], moved: set[str], there: set[str]
) -> Moved:
    lost = {output: [md5 for md5 in dict.fromkeys(found) if md5 not in there] for output, found in needed.items()}
    return Moved(
        objects=len(moved),
        size=sum(place(folder, md5).stat().st_size for md5 in moved),
        present=len((every & there) - moved),
        lost={output: found for output, found in lost.items() if found},
    )


def pull_objects(md5s: Iterable[str], into: Path | None = None) -> None:
    """Copy objects from the default remote, as far as it has them; the list of a folder takes its files along.

    Args:
        md5s: of the objects.
        into: a folder that becomes or is a cache; by default the project's cache.

    Raises:
        PipelineError: the remote cannot be read.
    """
    wanted = set(md5s)
    _ask("pull", wanted, into)
    # Only the lists tell which files they need.
    folder = into or dvc_files.cache_folder()
    listed = {one for md5 in wanted for one in _objects_of(folder, md5)} - wanted
    if absent := {md5 for md5 in listed if not place(folder, md5).is_file()}:
        _ask("pull", absent, into)


def in_remote(md5s: Iterable[str], kept: Iterable[str] = ()) -> dict[str, str]:
    """The objects that the default remote holds: md5 -> its place there; empty without a remote or objects.

    Args:
        md5s: of the objects; the list of a folder takes its files along.
        kept: of objects that are left out, with the files in their lists.

    Raises:
        PipelineError: the remote cannot be read.
    """
    wanted = set(md5s)
    if not wanted or not dvc_files.has_remote():
        return {}
    folder = dvc_files.cache_folder()
    # The files of the other lists are known here.
    unread = [md5 for md5 in kept if is_folder(md5) and read_listing(folder, md5) is None]
    return _ask("places", wanted, kept=with_listed(folder, kept), unread=unread)["places"]


def remove_from_remote(md5s: Iterable[str]) -> None:
    """Delete objects that the default remote holds.

    Raises:
        PipelineError: the remote cannot be read or written.
    """
    _ask("remove", md5s)


def all_in_cache(folder: Path) -> Iterator[str]:
    """The md5 of every object in a cache, with `.dir` at the end of those that are lists."""
    for path in folder.glob("[0-9a-f][0-9a-f]/*"):
        md5 = f"{path.parent.name}{path.name}"
        if is_md5(md5):
            yield md5


def with_listed(folder: Path, md5s: Iterable[str]) -> set[str]:
    """Objects, and those of the files in their lists as far as the cache has the lists."""
    return {one for md5 in md5s for one in _objects_of(folder, md5)}


def is_undamaged(folder: Path, md5: str) -> bool:
    """Whether a cache has an object, with the bytes that its name tells."""
    path = place(folder, md5)
    return path.is_file() and _md5(path) == md5.removesuffix(_FOLDER)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def copy_verified(output: Output, caches: Sequence[Path], target: Path) -> list[str]:
    """Copy the files of an output from the first cache that holds their undamaged bytes.

    Args:
        output: the output.
        caches: as `dvc_files.cache_folder` gives them.
        target: the file or folder to make.

    Returns:
        The md5s that no cache holds undamaged; the target is then not complete.
    """
    if not is_folder(output.md5):
        return [] if _copied(output.md5, caches, target) else [output.md5]
    listing = next(filter(lambda one: one is not None, (read_listing(cache, output.md5) for cache in caches)), None)
    if listing is None:
        return [output.md5]
    target.mkdir(parents=True, exist_ok=True)
    lost = []
    for name, md5 in listing.items():
        path = target / name
        # A list that another program has made may name any path.
        if not path.resolve().is_relative_to(target.resolve()):
            raise PipelineError(f"{output.path}: its list in DVC's cache names a file outside the folder ({name})")
        if not _copied(md5, caches, path):
            lost.append(md5)
    return lost


def _copied(md5: str, caches: Sequence[Path], target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    for cache in caches:
        source = place(cache, md5)
        if source.is_file():
            files.copy(source, target)
            # The copy is what will be read.
            if _md5(target) == md5:
                return True
            target.unlink()
    return False


def _ask(
    action: Literal["list", "push", "pull", "places", "remove"],
    md5s: Iterable[str],
    into: Path | None = None,
    *,
    kept: Iterable[str] = (),
    unread: Iterable[str] = (),
) -> dict[str, Any]:
    """Ask a process of its own, whose last line is the answer."""
    request = {"action": action, "md5s": sorted(set(md5s)), "into": str(into.absolute()) if into else None}
    request |= {"kept": sorted(set(kept)), "unread": sorted(set(unread))}
    command = processes.bound_command([sys.executable, "-m", __name__])
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    last = next((line for line in reversed(done.stdout.splitlines()) if line.startswith(_ANSWER)), None)
    if done.returncode == 0 and last is not None:
        answer = json.loads(last.removeprefix(_ANSWER))
        if "problem" not in answer:
            return answer
        raise PipelineError(
            f"DVC's remote '{remote_name()}': {answer['problem']}; check it with: .venv/bin/dvc remote list"
        )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    why = lines[-1] if lines else f"exit code {done.returncode}"
    raise PipelineError(f"DVC's remote '{remote_name()}': {why}; check it with: .venv/bin/dvc remote list")


def remote_name() -> str:
    """The name of the default remote; empty without a remote."""
    return dvc_files.config()["core"].get("remote", "")


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    # Repo's `dir` is the folder above `files/md5`.
    changed = {"cache": {"dir": str(Path(request["into"]).parent.parent)}} if request["into"] else None
    with Repo(config=changed) as repo:
        if request["action"] == "list":
            return _list(repo.cloud.get_remote_odb(), request["md5s"])
        if request["action"] == "places":
            return {"places": _places(repo.cloud.get_remote_odb(), request)}
        if request["action"] == "remove":
            remote = repo.cloud.get_remote_odb()
            # The lists last: after a failure they still name the files.
            for there in sorted(remote.oids_exist(request["md5s"]), key=is_folder):
                remote.fs.remove(remote.oid_to_path(there))
            return {}
        objects = {HashInfo("md5", md5) for md5 in request["md5s"]}
        move = repo.cloud.push if request["action"] == "push" else repo.cloud.pull
        move(objects)
        return {}


def _places(remote: Any, request: Mapping[str, Any]) -> dict[str, str]:
    kept = set(request["kept"]) | _listed(remote, request["unread"])
    wanted = set(request["md5s"]) | _listed(remote, request["md5s"])
    return {md5: remote.oid_to_path(md5) for md5 in remote.oids_exist(sorted(wanted - kept))}


def _listed(remote: Any, md5s: Iterable[str]) -> set[str]:
    """The files in the lists that the remote holds."""
    found = set()
    for md5 in remote.oids_exist([md5 for md5 in md5s if is_folder(md5)]):
        try:
            found |= set(_parse_listing(remote.fs.cat_file(remote.oid_to_path(md5))).values())
        except (ValueError, TypeError, KeyError):
            # It is damaged, so nobody can read its files from it.
            continue
    return found


def _list(remote: Any, md5s: Sequence[str]) -> dict[str, Any]:
    found = set(remote.oids_exist(md5s))
    listings = {}
    for md5 in found:
        if is_folder(md5):
            entries = set(_parse_listing(remote.fs.cat_file(remote.oid_to_path(md5))).values())
            listings[md5] = {"lacking": sorted(entries - set(remote.oids_exist(sorted(entries))))}
    return {"found": sorted(found), "listings": listings}


def main() -> None:
    """Answer the request on standard input; a failure of the remote is an answer too."""
    request = json.loads(sys.stdin.read())
    try:
        answer = _answer(request)
    except Exception as error:  # whatever the client of a remote raises
        answer = {"problem": one_line(error)}
    print(f"{_ANSWER}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    processes.run_and_exit(main)
