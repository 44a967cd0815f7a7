"""training.csv and base.csv: what was measured at each step of a training."""

import csv
from pathlib import Path

from tuneline.errors import UnreadableFileError, one_line


def read(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Each step with the values that were measured at it.

    Raises:
        UnreadableFileError: the file is not such a table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            lines = list(table)
        if "step" not in (table.fieldnames or ()):
            raise ValueError("it has no column step")
        return [
            (int(line["step"]), {name: float(value) for name, value in line.items() if name != "step" and value})
            for line in lines
        ]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UnreadableFileError(
            f"{path}: is not a table of steps ({one_line(error)}); delete it and run `make run`, which makes it again"
        ) from None
