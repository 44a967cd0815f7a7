"""Judging whole sets by their expectations: frames in, a report out, and an error that names rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tuneline import files
from tuneline.data import expectations
from tuneline.data.records import FIELDS, RecordSet, RecordType
from tuneline.errors import ExpectationError


@dataclass
class Report:
    """What was found in the sets of a stage."""

    sets: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """The lines of failed expectations of severity error."""
    warnings: list[str] = field(default_factory=list)
    """The lines of failed expectations of severity warning."""

    def judge(
        self, name: str, frames: Iterator[pd.DataFrame], record_type: RecordType, yaml: Path, *, is_clean: bool
    ) -> None:
        """Judge one set.

        Args:
            name: of the set, for a person.
            frames: its rows, in portions.
            record_type: of its rows.
            yaml: the user's expectations.
            is_clean: whether the rows are clean ones.
        """
        expected = expectations.always(record_type, is_clean=is_clean)
        expected += [one for one in expectations.load(yaml, record_type) if one not in expected]
        outcomes = expectations.check(frames, expected)
        held = sum(outcome.success for outcome in outcomes)
        print(f"{name}: {held} of {len(outcomes)} expectations hold")
        for outcome in outcomes:
            if not outcome.success:
                lines = self.failures if outcome.severity == "error" else self.warnings
                lines += outcome.describe(name)
        self.sets.append({"set": name, "expectations": [asdict(outcome) for outcome in outcomes]})

    def finish(self, reports: Path, name: str, accepted: dict[str, str]) -> None:
        """Write the full result, and what was accepted where no expectation failed.

        Args:
            reports: the folder to write to.
            name: of the files.
            accepted: path -> digest of what was judged.

        Raises:
            ExpectationError: an expectation of severity error failed; each with its first rows.
        """
        result = {"success": not self.failures, "sets": self.sets}
        files.write_json(reports / f"validate_{name}.json", result)
        for line in self.warnings:
            print(line if line.startswith(" ") else f"warning: {line}")
        if self.failures:
            raise ExpectationError(
                *self.failures,
                f"mend the rows, or the expectation in the YAML; the full result: {reports / f'validate_{name}.json'}",
            )
        files.write_json(reports / f"{name}.ok", accepted)


def raw_frames(records: RecordSet) -> Iterator[pd.DataFrame]:
    """The rows of a raw set as `prepare` will see them: source, the fields, and the group where there is one."""
    columns = FIELDS[records.record_type]
    for start in range(0, len(records.records), expectations.CHUNK):
        part = records.records[start : start + expectations.CHUNK]
        frame: dict[str, Any] = {"source": [record.source for record in part]}
        frame |= {name: [record.values[index] for record in part] for index, name in enumerate(columns)}
        if part[0].group is not None:
            frame["group"] = [record.group for record in part]
        yield pd.DataFrame(frame)


def clean_frames(folder: Path, splits: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows of a folder's splits: their columns, split, and in how many splits the cluster of each stands."""
    tables = {split: files.read_parquet(folder / f"{split}.parquet") for split in splits}
    splits_of_cluster = Counter(cluster for table in tables.values() for cluster in set(table["cluster"].to_pylist()))
    rows = pa.concat_tables(
        table.append_column("split", pa.array([split] * table.num_rows, pa.string())) for split, table in tables.items()
    )
    for start in range(0, max(rows.num_rows, 1), expectations.CHUNK):
        frame = rows.slice(start, expectations.CHUNK).to_pandas()
        yield frame.assign(splits_of_cluster=[splits_of_cluster[cluster] for cluster in frame["cluster"]])
