"""Rows that `tuneline forget` has erased and that come back in the files of a later month: they are left out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneline.core import files
from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import cut_rows, found_rows
from tuneline.decisions import returning_rows, unfinished_erasure
from tuneline.errors import DataError

_NAMED = 5


@contextmanager
def left_out(path: Path, options: Options) -> Iterator[tuple[Path, list[str]]]:
    """A data set without rows that were erased here, and lines about them; `path` itself if it holds none.

    Args:
        path: of the data set; it is not changed.
        options: how it is read.

    Raises:
        DataError: an erasure is not finished, or rows cannot be taken out of a file, or the block raises it.
        UnreadableFileError: what is known about erased rows is damaged.
    """
    if problem := unfinished_erasure.problem():
        raise DataError(f"{problem}; then run this again")
    known = returning_rows.read()
    found = found_rows.find(path, options, known) if known else []
    if not (known and found):
        yield path, []
        return
    days = Counter(day for one in found for row in one.rows if (day := known.day(row)))
    places = [f"{_file(path, one.plan.name)}:{line}" for one in found for line in one.lines]
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    what = [
        f"{path}: {count} {'row was' if count == 1 else 'rows were'} erased on {day} by request (tuneline forget)"
        for day, count in sorted(days.items())
    ]
    where = f"{', '.join(places[:_NAMED])}{more}"
    refused = [why for one in found if (why := cut_rows.refusal(one, _file(path, one.plan.name)))]
    if refused:
        raise DataError(*what, *refused, f"delete these rows at their source ({where}); nothing is changed")
    with files.temporary_folder() as folder:
        copy = folder / path.resolve().name
        if path.is_dir():
            files.copy_tree(path, copy)
        for one in found:
            target = _file(copy, one.plan.name) if path.is_dir() else copy
            if not cut_rows.without(one, _file(path, one.plan.name), target):
                target.unlink(missing_ok=True)
        if not copy.exists():
            raise DataError(*what, f"{path}: holds no other row; nothing is changed")
        lines = [*what, f"  they are left out; delete them at their source too: {where}"]
        try:
            yield copy, lines
        except DataError as error:
            raise DataError(*(problem.replace(str(copy), str(path)) for problem in error.problems)) from None


def _file(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path
