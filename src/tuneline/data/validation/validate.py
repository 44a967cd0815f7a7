"""Judging whole sets by their expectations: frames in, a report out, and an error that names rows."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.data.records.record_form import RecordType
from tuneline.data.validation import data_docs, expectations
from tuneline.data.validation.frames import RawFrames
from tuneline.data.validation.outcomes import required_expectations
from tuneline.errors import DataError, ExpectationError


@dataclass
class Report:
    """What was found in the sets of a stage."""

    sets: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """The lines of failed expectations of severity error."""
    warnings: list[str] = field(default_factory=list)
    """The lines of failed expectations of severity warning."""

    def judge(
        self, name: str, frames: expectations.Frames, record_type: RecordType, yaml: Path, *, is_clean: bool
    ) -> None:
        """Judge one set.

        Args:
            name: of the set, for a person.
            frames: gives its rows, in portions.
            record_type: of its rows.
            yaml: the user's expectations.
            is_clean: whether the rows are clean ones.
        """
        expected = required_expectations(record_type, is_clean=is_clean)
        expected += [one for one in expectations.load(yaml, record_type) if one not in expected]
        outcomes = expectations.validate_rows(frames, expected)
        held = sum(outcome.success for outcome in outcomes)
        print(f"{name}: {held} of {len(outcomes)} expectations hold")
        for outcome in outcomes:
            if not outcome.success:
                lines = self.failures if outcome.severity == "error" else self.warnings
                lines += outcome.describe(name)
        self.sets.append({"set": name, "expectations": [asdict(outcome) for outcome in outcomes]})

    def account(self, rows: RawFrames, max_rejected: float) -> None:
        """Say how many rows of a raw set that was judged were set aside; too many, or all of a file, are a failure."""
        raw, tally = rows.raw, rows.tally
        print(f"{raw.path}: {tally.rows:,} rows of {raw.form.record_type}, {tally.reasons.total():,} set aside")
        for rejected in tally.first[:5]:
            print(f"  {rejected.describe()}")
        for warning in raw.warnings:
            print(f"warning: {warning}")
        try:
            tally.check(max_rejected)
        except DataError as error:
            self.failures += error.problems

    def finish(self, reports: Path, name: str, accepted: dict[str, str]) -> None:
        """Write the full result as JSON and as pages, and what was accepted where no expectation failed.

        Args:
            reports: the folder to write to.
            name: of the files.
            accepted: path -> digest of what was judged.

        Raises:
            ExpectationError: an expectation of severity error failed; each with its first rows.
        """
        result = {"success": not self.failures, "sets": self.sets}
        files.write_json(reports / f"validate_{name}.json", result)
        with files.atomic_folder(reports / f"data_docs_{name}") as folder:
            for page, text in data_docs.pages(self.sets, f"validate_{name}").items():
                files.write_text(folder / page, text)
        for line in self.warnings:
            print(line if line.startswith(" ") else f"warning: {line}")
        if self.failures:
            raise ExpectationError(
                *self.failures,
                f"mend the rows, or the expectation in the YAML; the full result: {reports / f'validate_{name}.json'}",
            )
        files.write_json(reports / f"{name}.ok", accepted)
