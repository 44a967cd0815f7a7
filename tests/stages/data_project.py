"""A project of small real rows, for the stages that read and validate them."""

import json
import random
from pathlib import Path
from typing import Any

from tuneline.params import editing

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ro", "su", "ta") for b in ("ba", "do", "fi", "gu", "hy")]


def sentence(seed: object) -> str:
    """Twenty words of this seed alone."""
    return " ".join(random.Random(str(seed)).choices(WORDS, k=20))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(params_text: str, expectations: Path) -> None:
    """Params, expectations and both raw sets in the working directory."""
    Path("params.yaml").write_text(params_text)
    editing.set_values(Path("params.yaml"), {"data.split.validation": 0.2, "data.split.test": 0.2})
    for name in ("raw.yaml", "clean.yaml"):
        target = Path("data/expectations") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((expectations / name).read_text())
    pairs = [
        {"prompt": f"def f{n}():", "completion": sentence(n), "module": f"package.module{n % 40}"} for n in range(200)
    ]
    write_rows(Path("data/raw/python-docstrings/pairs.jsonl"), pairs)
    texts = [{"text": sentence(f"text {n}"), "module": f"package.module{n % 40}"} for n in range(200)]
    write_rows(Path("data/raw/python-text/docstrings.jsonl"), texts)
