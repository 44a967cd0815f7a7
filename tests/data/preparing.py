"""Small raw sets, prepared as the stage does it."""

import itertools
import json
import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.preparing import prepare_sets, splits
from tuneline.data.preparing.text.row_keys import text_hash
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.params import Data

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ro", "su", "ta") for b in ("ba", "do", "fi", "gu", "hy")]
SPLITS = ("train", "validation", "test")
_SHARES = {"validation": 0.2, "test": 0.2}

Row = dict[str, Any] | str


@dataclass(frozen=True)
class Prepared:
    clean: dict[str, pa.Table]
    pretraining: dict[str, pa.Table]
    report: dict[str, Any]
    quarantine: list[dict[str, Any]]
    digest: str
    """Of every byte that was written."""

    def reasons(self) -> list[tuple[str, str, str]]:
        return [(row["set"], row["source"], row["reason"]) for row in self.quarantine]

    def sources(self, split: str) -> list[str]:
        return self.clean[split]["source"].to_pylist()


def data(**changes: Any) -> Data:
    """The project's own section `data`, with a fifth of the groups in each held-out split."""
    section = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))["data"]
    split = section["split"] | _SHARES | {name: changes.pop(name) for name in list(changes) if name in section["split"]}
    return Data(**{**section, "max_rejected_fraction": 0.5, "workers": 1, **changes, "split": split})


def split_of(group: str, *, validation: float, test: float, seed: int) -> str:
    """The split of one group."""
    numbers = splits.split_numbers(np.array([text_hash(group)], np.uint64), seed)
    return SPLITS[splits.by_hash(numbers, validation=validation, test=test)[0]]


def in_split(split: str, number: int = 0) -> str:
    """The name of a group that is in a split."""
    names = (f"group{n}" for n in range(10_000))
    found = (name for name in names if split_of(name, **_SHARES, seed=0) == split)
    return next(itertools.islice(found, number, None))


def sentence(seed: object, length: int = 20) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=length))


def pair(prompt: str, completion: str, module: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"prompt": prompt, "completion": completion} | more
    return row if module is None else row | {"module": module}


def text(value: str, module: str | None = None) -> dict[str, Any]:
    return {"text": value} if module is None else {"text": value, "module": module}


def some_texts() -> list[Row]:
    return [text(sentence(f"t{split}"), in_split(split)) for split in SPLITS]


def some_pairs() -> list[Row]:
    return [pair(f"question {split}", sentence(f"a{split}"), in_split(split)) for split in SPLITS]


def both(pairs: Iterable[Row] = (), texts: Iterable[Row] = (), chosen: Data | None = None) -> Prepared:
    """Some rows among enough others in every split."""
    return prepare([*pairs, *some_pairs()], [*texts, *some_texts()], chosen)


def prepare(
    raw: Iterable[Row],
    pretraining: Iterable[Row],
    chosen: Data | None = None,
    *,
    inline: int = 10**12,
    mixture: Mapping[str, Iterable[Row]] | None = None,
    files_of_raw: Mapping[str, Iterable[Row]] | None = None,
) -> Prepared:
    """Write the sets, as raw/a.jsonl, text/a.jsonl and others by their names, prepare them and read what came out.

    With `files_of_raw` the raw set has further files, by their names.
    """
    chosen = chosen or data()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        written = {"raw": raw, "text": pretraining, **(mixture or {})}
        for name, rows in (files_of_raw or {}).items():
            _write(folder / "raw" / name, rows)
        opened = {name: _open(folder / name, rows, chosen, name) for name, rows in written.items()}
        sets = raw_set.RawSets(opened.pop("raw"), opened.pop("text"), opened)
        out = folder / "out"
        paths = prepare_sets.Paths(out / "work", out / "clean", out / "pretraining", out / "quarantine.jsonl")
        for place in (paths.work, paths.clean, paths.pretraining):
            place.mkdir(parents=True)
        report = prepare_sets.prepare(sets, chosen, paths, inline=inline)
        read = {split: files.read_parquet(paths.clean / split) for split in SPLITS}
        read |= {name: files.read_parquet(paths.clean / "mixture" / name) for name in mixture or {}}
        base = {split: files.read_parquet(paths.pretraining / split) for split in ("train", "validation")}
        digest = files.digest([files.sha256_path(place) for place in (paths.clean, paths.pretraining)])
        quarantine = [json.loads(line) for line in paths.quarantine.read_text("utf-8").splitlines()]
        for row in quarantine:
            row["set"] = Path(row["set"]).name
            row["detail"] = row["detail"].replace(f"{folder.as_posix()}/", "")
    return Prepared(read, base, report, quarantine, digest)


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    if lines:
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _open(folder: Path, rows: Iterable[Row], chosen: Data, name: str) -> raw_set.RawSet:
    folder.mkdir(exist_ok=True)
    is_frozen = name == "text" and chosen.frozen_pretraining
    files_of: dict[str, list[str]] = {}
    for row in rows:
        # The files of a frozen text are named by their split, which its rows have as their group here.
        file = "a" if isinstance(row, str) or not is_frozen else row["module"]
        line = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
        files_of.setdefault(file, []).append(line)
    for file, lines in files_of.items():
        (folder / f"{file}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return raw_set.open_set(
        folder,
        readers.plan(folder, Options(chosen.encoding, chosen.layout)),
        columns=chosen.columns,
        record_types=("text",) if name == "text" else None,
        group_by=chosen.split.group_by,
        order_by=chosen.split.order_by,
        must_group=name == "raw",
        is_mixed=is_frozen,
        keep=chosen.keep_columns if name == "raw" else (),
    )
