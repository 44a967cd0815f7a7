"""Which commits were made from raw sets that hold some rows, and which objects of DVC hold none of them."""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tuneline import git, params
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import found_rows
from tuneline.data.removing.found_rows import Selection
from tuneline.decisions import sources
from tuneline.errors import DataError, PipelineError
from tuneline.fusion.merging import merge_recipe
from tuneline.pipeline import dvc_files, graph, objects
from tuneline.pipeline.graph import Output, Recorded


@dataclass
class RawHistory:
    """Answers whether raw sets, as they were at some time, hold the rows of a selection."""

    selection: Selection
    options: dict[str, Options]
    """Path of a set -> how it is read."""
    answers: dict[tuple[str, str, bool], int | None] = field(default_factory=dict)
    """Path and md5 of a set, and whether it is the pretraining text -> how many of the rows it holds."""
    needs_remote: bool = True
    """Whether a remote that cannot be read is an error; if not, it is not known what is only there."""
    merges: dict[str, list[str] | None] = field(default_factory=dict)
    """md5 of a folder -> the versions that `tuneline merge` has copied into it; None if that is not known."""
    seen: frozenset[str] = frozenset()
    """The versions that saw the rows."""
    _is_away: bool = False

    def seen_versions_in(self, path: str, md5: str, recorded: Recorded) -> int | None:
        """How many versions that saw the rows are in a folder that `tuneline merge` wrote; None if it is not known.

        Args:
            path: of the folder.
            md5: of the folder, as DVC writes it.
            recorded: what names it; its params tell that it is such a folder.
        """
        if md5 not in self.merges:
            base = recorded.values.get("base", {})
            is_named = isinstance(base, dict) and (base.get("source"), base.get("input")) == ("merge", path)
            self.merges[md5] = self._versions_in(path, md5, is_named)
        merged = self.merges[md5]
        return None if merged is None else len(self.seen & set(merged))

    def _versions_in(self, path: str, md5: str, is_named: bool) -> list[str] | None:
        if not objects.is_folder(md5):
            return []
        names: Iterable[str] = objects.read_listing(dvc_files.cache_folder(), md5) or ()
        if not names and is_named:
            with self.copied(path, md5) as copy:
                if copy is None:
                    return None
                names = list(files.sha256_tree(copy))
        is_merge = merge_recipe.FILE in names
        return sorted({name.split("/")[0] for name in names if name[0].isdecimal() and "/" in name} if is_merge else [])

    def rows_in(self, path: str, md5: str, *, is_text: bool) -> int | None:
        """How many of the rows a set holds; None if neither DVC's cache nor the remote has the set.

        Args:
            path: of the set.
            md5: of the set, as DVC writes it.
            is_text: whether the set is the pretraining text, made from the rows of another set.
        """
        key = (path, md5, is_text)
        if key not in self.answers:
            self.answers[key] = self._count(path, md5, is_text)
        return self.answers[key]

    def _count(self, path: str, md5: str, is_text: bool) -> int | None:
        with self.copied(path, md5) as copy:
            if copy is None:
                return None
            try:
                found = found_rows.find(copy, self.options_of(path), self.selection, is_text=is_text)
            except DataError:
                return None
            return sum(len(one.meant) for one in found)

    def options_of(self, path: str) -> Options:
        """How a set is read."""
        return self.options.get(path, Options())

    @contextmanager
    def copied(self, path: str, md5: str) -> Iterator[Path | None]:
        """A copy of a set as it was, which is deleted after the block; None if neither cache nor remote has it.

        Args:
            path: of the set.
            md5: of the set, as DVC writes it.

        Raises:
            PipelineError: only the remote may have it, and cannot be read.
        """
        with files.temporary_folder() as folder:
            output = Output(path, md5, path)
            copy = folder / "set"
            caches = [dvc_files.cache_folder()]
            if not objects.copy_verified(output, caches, copy):
                yield copy
            else:
                # In a cache of its own, which is deleted with the folder.
                fetched = folder / "cache" / "files" / "md5"
                if not self._is_away and dvc_files.has_remote():
                    self._pull(path, md5, fetched)
                yield None if objects.copy_verified(output, [*caches, fetched], copy) else copy

    def _pull(self, path: str, md5: str, into: Path) -> None:
        try:
            objects.pull_objects([md5], into)
        except PipelineError as error:
            if self.needs_remote:
                raise PipelineError(
                    *error.problems,
                    f"{path} as it was with the md5 {md5} may be only there, so it is not known whether it holds the "
                    "rows; nothing is changed; run this again when the remote answers, or with --erase-unknown, which "
                    "erases what was made from such sets too",
                ) from None
            # A remote may take minutes to fail.
            self._is_away = True


@dataclass(frozen=True)
class Made:
    """What was made from the rows, and what was not."""

    kept: set[str]
    """The md5s of objects that hold nothing of the rows, without those that lists name."""
    dropped: set[str]
    """The md5s of objects that hold the rows or were made from them."""
    paths: tuple[str, ...]
    """The outputs that were made from the rows."""
    rows: int
    """How many of the rows the raw sets hold."""
    texts: int
    """How many texts made from the rows the pretraining text holds."""
    unknown: tuple[str, ...]
    """The raw sets that are nowhere to be found."""


def read_made(recorded: Recorded, raw: RawHistory) -> Made:
    """What the stages of a commit, or of the workspace, made from the rows."""
    data, paths = recorded.values.get("data", {}), recorded.values.get("paths", {})
    text = data.get("pretraining")
    names = {data.get("raw"), text}
    mixture = paths.get("mixture", "")
    kept: set[str] = set()
    dropped: set[str] = set()
    unknown: dict[str, None] = {}
    touched: list[str] = []
    counts: dict[bool, dict[str, int]] = {False: {}, True: {}}
    for name in recorded.stages:
        entry = recorded.locked.get(name, {})
        is_touched = False
        for dep in entry.get("deps", []):
            path, md5 = dep["path"], dep.get("md5", "")
            if any(_overlap(path, one) for one in touched):
                is_touched = True
                continue
            # The folder of a mixture holds sets, each of them under DVC, and a page about them.
            sets = dict(_sets_below(recorded, mixture)) if path == mixture else {path: md5} if path in names else {}
            for place, of_set in sets.items():
                is_text = place == text and place != data.get("raw")
                count = raw.rows_in(place, of_set, is_text=is_text)
                if count is None:
                    unknown[place] = None
                counts[is_text][place] = count or 0
                is_touched |= count != 0
                (kept if count == 0 else dropped).add(of_set)
            if not sets and md5:
                count = raw.seen_versions_in(path, md5, recorded)
                if count is None:
                    unknown[path] = None
                is_touched |= count != 0
                (kept if count == 0 else dropped).add(md5)
        outs = entry.get("outs", [])
        (dropped if is_touched else kept).update(out["md5"] for out in outs if out.get("md5"))
        if is_touched:
            touched += [out["path"] for out in outs]
    rows, texts = (sum(counts[is_text].values()) for is_text in (False, True))
    return Made(kept - dropped, dropped, tuple(touched), rows, texts, tuple(unknown))


def _sets_below(recorded: Recorded, folder: str) -> Iterator[tuple[str, str]]:
    """Path and md5 of the sets under DVC in a folder."""
    yield from (one for one in of_pointers(recorded) if PurePosixPath(folder) in PurePosixPath(one[0]).parents)


def workspace() -> Recorded:
    """What the files of DVC in the workspace record."""
    pointers = {path: graph.read_yaml(Path(path)) for path in _pointers()}
    values = graph.read_yaml(Path(params.PARAMS_FILE))
    return Recorded(graph.read_stages(), graph.read_locked_stages(), values, pointers, ())


def _pointers() -> list[str]:
    found = []
    for folder, folders, names in os.walk("."):
        left_out = ("work", "src") if folder == "." else ()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in left_out]
        found += [Path(folder, name).as_posix().removeprefix("./") for name in names if name.endswith(".dvc")]
    return sorted(found)


def commits(also: Iterable[str] = ()) -> Iterator[Recorded]:
    """What each commit that a ref keeps and that changed a file of DVC records.

    Args:
        also: further commits, which no ref may keep; those that git does not have are left out.

    Raises:
        GitError: git fails, for example because an object is damaged.
    """
    # Without the option, git leaves out what a merge did not take over; its data are in the cache all the same.
    listed = git.ask("log", "--all", "--full-history", "--format=%H", "--", "dvc.lock", "*.dvc").split()
    for commit in dict.fromkeys([*listed, *filter(git.has_commit, also)]):
        try:
            yield sources.read(commit)
        except PipelineError:
            # An unfinished project: it has made nothing yet, but it has sets.
            yield Recorded({}, {}, _values_of(commit), dict(_pointers_of(commit)), ())


def _values_of(commit: str) -> dict[str, Any]:
    """What params.yaml says in a commit; empty if it cannot be read."""
    try:
        content = git.content_of(commit, params.PARAMS_FILE) or b""
        values = graph.parse_yaml(content, params.PARAMS_FILE, "")
    except PipelineError:
        return {}
    return values if all(isinstance(values.get(name, {}), dict) for name in ("data", "paths")) else {}


def _pointers_of(commit: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in git.files_of(commit):
        if name.endswith(".dvc"):
            try:
                yield name, graph.parse_yaml(git.content_of(commit, name) or b"", name, "")
            except PipelineError:
                # DVC cannot read it either.
                continue


def kept_objects(
    here: Recorded, before: Iterable[Recorded], raw: RawHistory, *, made: Collection[str], is_trained: bool
) -> set[str]:
    """The objects of DVC that hold nothing of the rows, those that lists name included.

    Args:
        here: of the workspace.
        before: of all commits.
        raw: answers whether raw sets hold the rows.
        made: the md5s of objects that are known to hold the rows or to be made from them.
        is_trained: whether what `here` records was made without the rows; if not, dvc.lock names what was made before.
    """

    text = text_of(here)
    kept: set[str] = set()
    for recorded in (here, *before):
        of_stages = read_made(recorded, raw).kept
        if recorded is here and not is_trained:
            of_stages = of_stages - set(made)
        kept |= of_stages
        kept |= {md5 for md5, count in _rows_in_pointers(recorded, raw, text) if count == 0 and md5 not in made}
    return objects.with_listed(dvc_files.cache_folder(), kept)


def sets_with_rows(everywhere: Iterable[Recorded], raw: RawHistory) -> set[str]:
    """The md5s of all raw sets under DVC that are not known to be without the rows, used by a stage or not.

    Args:
        everywhere: what the workspace, which comes first, and all commits record.
        raw: answers whether raw sets hold the rows.
    """
    found, text = set(), None
    for number, recorded in enumerate(everywhere):
        text = text_of(recorded) if number == 0 else text
        found |= {md5 for md5, count in _rows_in_pointers(recorded, raw, text) if count != 0}
    return found


def _rows_in_pointers(recorded: Recorded, raw: RawHistory, text: str | None) -> Iterator[tuple[str, int | None]]:
    """The md5 of each set and base under DVC, and how many of the rows it holds; None if that is not known.

    What is a raw set neither now nor by the params of that time, such as a base, holds none; of a folder that `tuneline
    merge` wrote, the versions that saw the rows are counted.

    Args:
        recorded: what the workspace or a commit records.
        raw: answers whether raw sets hold the rows.
        text: the path of the pretraining text now.
    """
    data, mixture = recorded.values.get("data", {}), recorded.values.get("paths", {}).get("mixture")
    named, texts = {*raw.options, data.get("raw"), data.get("pretraining")}, {text, text_of(recorded)}
    for path, md5 in of_pointers(recorded):
        is_raw = path in named or (mixture and PurePosixPath(mixture) in PurePosixPath(path).parents)
        is_text = path in texts
        yield md5, raw.rows_in(path, md5, is_text=is_text) if is_raw else raw.seen_versions_in(path, md5, recorded)


def of_pointers(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Path and md5 of the sets and bases under DVC."""
    for name, content in recorded.pointers.items():
        for out in content.get("outs", []):
            if out.get("md5"):
                yield (PurePosixPath(name).parent / out["path"]).as_posix(), out["md5"]


def text_of(recorded: Recorded) -> str | None:
    """The path of the pretraining text; None if it is the raw set itself."""
    data = recorded.values.get("data", {})
    return data.get("pretraining") if data.get("pretraining") != data.get("raw") else None


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def set_options(p: params.Params) -> dict[str, Options]:
    """Path of each present raw set -> how it is read."""
    mixture = Path(p.paths.mixture)
    names = sorted(path.name for path in mixture.iterdir() if path.is_dir()) if mixture.is_dir() else []
    found = raw_set.readings(p, [name for name in names if raw_set.is_mixture_name(name)])
    return {path: reading.options for path, reading in found.items() if Path(path).exists()}
