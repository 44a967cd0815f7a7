"""Whether the workspace and DVC's cache still hold the bytes that dvc.lock and the .dvc files record.

DVC trusts a file in the workspace while its size and time of change stay the same, and an object of its cache while it
is read-only. Only hashing them again shows what a failing disk or another program has done to them.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import DataError
from tuneline.pipeline import dvc_files, graph, repro
from tuneline.pipeline.graph import Output

_THREADS = 4
_FOLDER = ".dir"
_DVC = ".venv/bin/dvc"
# Files in one command; with more, the command fetches the complete output.
_NAMED = 20
# Outputs named in the line about those that are put back.
_SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """An output whose bytes are not those that DVC has recorded."""

    output: Output
    in_workspace: tuple[str, ...] = ()
    """The files that differ; the output itself where the listing that names its files is lost."""
    in_cache: tuple[Path, ...] = ()
    """The objects that differ or are missing."""

    def problem(self) -> str:
        """One line: what is damaged, where it is, and the command that repairs it."""
        places = [*self.in_workspace, *map(str, self.in_cache)]
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        verb = "differs" if len(places) == 1 else "differ"
        return (
            f"{', '.join(places[:_NAMED])}{more}: {verb} from what {_source(self.output)} records, although DVC "
            f"takes {'it' if len(places) == 1 else 'them'} for unchanged; {self._remedy()}"
        )

    def _remedy(self) -> str:
        path, keeper = self.output.path, self.output.keeper
        is_set = keeper.endswith(".dvc")
        objects = [str(place) for place in self.in_cache]
        if self.in_workspace and (self.in_cache or not self.output.is_cached):
            gone = f"rm -rf {shlex.join([path, *objects])}"
            if not is_set:
                return f"make it again with: {gone} && {_DVC} repro -f -s {shlex.quote(keeper)}"
            if dvc_files.has_remote():
                # The damaged set is deleted only after the remote has given another one.
                pointer = shlex.quote(keeper)
                return (
                    f"fetch it from the remote with: rm -f {shlex.join(objects)} && {_DVC} fetch {pointer} && "
                    f"rm -rf {shlex.quote(path)} && {_DVC} checkout {pointer}"
                )
            return (
                "neither this folder nor DVC's cache has it undamaged, and this clone has no remote: put its files "
                f"back from their origin, then run: rm -f {shlex.join(objects)} && {_DVC} add {shlex.quote(path)}"
            )
        if self.in_workspace:
            some = self.in_workspace if len(self.in_workspace) <= _NAMED else (path,)
            target = keeper if is_set else path
            return f"DVC's cache has it undamaged: rm -rf {shlex.join(some)} && {_DVC} checkout {shlex.quote(target)}"
        return f"the workspace has it undamaged: rm -f {shlex.join(objects)} && {_commit(self.output)}"


def refuse_damage(outputs: Iterable[Output], *, cache: bool) -> None:
    """Hash outputs again, and refuse those that are damaged.

    Args:
        outputs: the outputs; those that the workspace lacks are skipped, because DVC itself reports them.
        cache: whether to hash their objects in DVC's cache, too; a missing object counts as damaged.

    Raises:
        DataError: names every output that differs, with the command that repairs it.
    """
    objects = dvc_files.cache_folder()
    found = []
    for output in outputs:
        damage = _find_damage(output, objects, cache=cache)
        if damage and damage.in_workspace and not cache:
            # The command that repairs the workspace depends on what the cache holds.
            damage = _find_damage(output, objects, cache=True)
        found += [damage] if damage else []
    if found:
        raise DataError(*(damage.problem() for damage in found), "then run the same command again")


def refill_cache(stale: Mapping[str, Sequence[str]], log: Callable[[str], None]) -> bool:
    """Put outputs that DVC's cache has lost back into it from the workspace, so that no stage runs for them.

    DVC calls a stage stale when its cache does not hold the outputs, even where the workspace holds them. The outputs
    are hashed first, because DVC itself would trust their times of change.

    Args:
        stale: what `repro.stale_stages` returns.
        log: called with a line about what is put back, and a line for each output that the workspace does not hold.

    Returns:
        Whether an output was put back, so that less is stale now.

    Raises:
        BusyError: another dvc holds the project.
        PipelineError: DVC cannot write its cache.
    """
    undamaged: dict[str, list[str]] = {}
    lost = repro.lost_outputs(stale)
    made = graph.recorded_outputs() if lost else []
    for keeper, paths in lost.items():
        outputs = [output for output in made if output.keeper == keeper]
        wrong = {output.path: different for output in outputs if (different := _missing(output))}
        if outputs and not wrong:
            undamaged[keeper] = paths
        for path, different in wrong.items():
            log(
                f"{path}: DVC's cache has lost it, and the workspace does not hold what {_named(keeper)} records "
                f"either ({different}); {_consequence(keeper)}"
            )
    if not undamaged:
        return False
    repro.commit_to_cache(*undamaged)
    places = [path for paths in undamaged.values() for path in paths]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    log(
        f"DVC's cache has lost {', '.join(places[:_SHOWN])}{more}; the workspace holds the same bytes as dvc.lock "
        "records, so they are put back into the cache from there, and no stage runs for them"
    )
    return True


def _missing(output: Output) -> str | None:
    """How the workspace differs from the record of an output; None where it does not."""
    path = Path(output.path)
    if not path.exists():
        return f"{path} is missing"
    if not output.md5.endswith(_FOLDER):
        return f"{path} differs" if not path.is_file() or _md5(path) != output.md5 else None
    if not path.is_dir():
        return f"{path} is a file"
    return f"files in {path} differ" if _folder_md5(_listing(path)) != output.md5 else None


def _consequence(keeper: str) -> str:
    if keeper.endswith(".dvc"):
        return "the pipeline reads what the workspace holds now"
    elsewhere = f", or fetch it first with: {_DVC} pull" if dvc_files.has_remote() else ""
    return f"stage {keeper} makes it again{elsewhere}"


def _named(keeper: str) -> str:
    return keeper if keeper.endswith(".dvc") else "dvc.lock"


def _source(output: Output) -> str:
    return "its .dvc file" if output.keeper.endswith(".dvc") else f"dvc.lock (stage {output.keeper})"


def _commit(output: Output) -> str:
    return f"{_DVC} commit -f {shlex.quote(output.keeper)}"


def _find_damage(output: Output, objects: Path, *, cache: bool) -> Damage | None:
    if output.md5.endswith(_FOLDER):
        return _find_damage_in_folder(output, objects, cache=cache)
    path, place = Path(output.path), _place(objects, output.md5)
    wrong = _differing({path: output.md5}) if path.is_file() else set()
    bad = _differing({place: output.md5}) if cache and output.is_cached else set()
    return _damage(output, [output.path] if wrong else [], sorted(bad))


def _find_damage_in_folder(output: Output, objects: Path, *, cache: bool) -> Damage | None:
    folder, listing = Path(output.path), _place(objects, output.md5)
    if not _differing({listing: output.md5.removesuffix(_FOLDER)}):
        # Its hash is right, so it is the listing that DVC has written, however large it is.
        listed = {one["relpath"]: one["md5"] for one in json.loads(listing.read_bytes())}
        there = {folder / name: md5 for name, md5 in listed.items() if (folder / name).is_file()}
        wrong, bad = _differing(there), []
    else:
        listed = _listing(folder)
        if _folder_md5(listed) != output.md5:
            # Only the listing could say which of its files differ.
            return _damage(output, [output.path] if folder.exists() else [], [listing])
        wrong, bad = set(), [listing]
    bad = [*bad, *sorted(_differing({_place(objects, md5): md5 for md5 in listed.values()}))] if cache else []
    return _damage(output, sorted(path.as_posix() for path in wrong), bad)


def _damage(output: Output, in_workspace: Sequence[str], in_cache: Sequence[Path]) -> Damage | None:
    return Damage(output, tuple(in_workspace), tuple(in_cache)) if in_workspace or in_cache else None


def _place(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _listing(folder: Path) -> dict[str, str]:
    """Relative path -> md5 of every file below a folder."""
    paths = repro.tracked_files(folder)
    return {path.relative_to(folder).as_posix(): md5 for path, md5 in _hashed(paths).items()}


def _folder_md5(listed: dict[str, str]) -> str:
    """The md5 by which DVC names a folder of these files."""
    text = json.dumps([{"md5": listed[name], "relpath": name} for name in sorted(listed)], sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + _FOLDER


def _differing(wanted: dict[Path, str]) -> set[Path]:
    """The files that are missing or have another md5."""
    hashed = _hashed([path for path in wanted if path.is_file()])
    return {path for path, md5 in wanted.items() if hashed.get(path) != md5}


def _hashed(paths: Sequence[Path]) -> dict[Path, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(_md5, paths), strict=True))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
