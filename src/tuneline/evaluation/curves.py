"""The curves of a training, as its report holds them: a line a step."""

import csv
from pathlib import Path


def read(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Every step with what was measured at it; a value that was not is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return [
        (int(line["step"]), {name: float(value) for name, value in line.items() if name != "step" and value})
        for line in lines
    ]
