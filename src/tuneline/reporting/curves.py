"""The curves of a training, as its report holds them: a line a step."""

import csv
from pathlib import Path

from tuneline.errors import UnreadableFileError, one_line


def read(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Every step with what was measured at it; a value that was not is left out.

    Raises:
        UnreadableFileError: it is not such a table.
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
            f"{path}: is not a curve as it was written ({one_line(error)}); delete it and run `make run`, which makes "
            "it again"
        ) from None
