"""What `tuneline use` says of files that the present raw set holds already."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneline.core import files
from tuneline.data.mapping import choose
from tuneline.data.reading import discover, grouped_messages
from tuneline.data.reading.raw_rows import FilePlan
from tuneline.errors import DataError


def check_column(path: Path, plans: Sequence[FilePlan], group_by: str | None) -> None:
    """Raise DataError, which names the option, if a file lacks the column of `--group-by`. None: nothing to check."""
    for plan in plans:
        if group_by is not None and plan.first_rows and group_by not in plan.columns:
            columns = grouped_messages.first_names(plan.columns, 20)
            raise DataError(
                f"--group-by {group_by}: {choose.file_path(path, plan)} has no such column; columns found: {columns}"
            )


def refuse_copy_of_present(path: Path, present: Path) -> None:
    """Raise DataError if `path` holds all files of the raw set in `present`, whose name the user may have forgotten."""
    old, new = _digests(present), _digests(path)
    if not old or not set(old.values()) <= set(new.values()):
        return
    count = "the file" if len(old) == 1 else f"all {len(old)} files"
    raise DataError(
        f"{path}: holds {count} of {present}; to add to that set, run: tuneline use {path} --name {present.name}; to "
        "make another set of it, whose rows are split anew, give a new name with --name (nothing was changed)"
    )


def changes(path: Path, present: Path, exclude: Sequence[str]) -> Iterator[str]:
    """Lines that say which files differ from those of the raw set in `present`, which `path` replaces."""
    if path.resolve() == present.resolve():
        return
    old = _digests(present)
    new = {name: one for name, one in _digests(path).items() if not discover.matching_pattern(name, exclude)}
    if not old:
        return
    added = [name for name in new if name not in old]
    changed = [name for name in new if name in old and new[name] != old[name]]
    missing = [name for name in old if name not in new]
    yield (
        f"  compared with {present}: {len(added)} new files, {len(changed)} changed, {len(missing)} removed, "
        f"{len(new) - len(added) - len(changed)} the same"
    )
    if changed:
        yield (
            f"  warning: {grouped_messages.first_names(changed)}: differs from the file in {present}; rows that "
            "`tuneline forget` has erased and that are not recognised come back if they are still in it"
        )


def _digests(path: Path) -> dict[str, str]:
    """The name of every file of a set -> its sha256. Empty if there is no such set."""
    if not path.exists():
        return {}
    return {file.name: files.sha256_file(file.path) for file in discover.find_files(path) if not file.refusal}
