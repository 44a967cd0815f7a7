"""Plans and rows of files that are read whole."""

from collections.abc import Iterator
from pathlib import Path

from tuneline.data import readers
from tuneline.data.rows import FilePlan, Options, Portion, Rejected, Row


def plan(path: Path, options: Options) -> list[FilePlan]:
    """What every file of a set is."""
    plans: list[FilePlan] = []
    for file in readers.read_set(path, options.encoding):
        place = path if path.is_file() else path / file.name
        counts = [column for column in file.columns if 2 * sum(column in r.values for r in file.rows) > len(file.rows)]
        portion = Portion(str(place), file.name, file.format, options.encoding, (), 0, None, 1)
        size = place.stat().st_size
        rows = tuple(file.rows[:1000])
        plans.append(FilePlan(file.name, file.format, options.encoding, tuple(counts), rows, (portion,), size))
    return plans


def rows(portion: Portion) -> Iterator[Row | Rejected]:
    """The rows of a portion, in the order of the file."""
    file = readers.read_file(Path(portion.path), portion.name, portion.encoding)
    yield from sorted([*file.rows, *file.rejected], key=lambda row: row.offset)
