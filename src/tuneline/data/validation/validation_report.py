"""Validates sets, and writes the report: JSON, pages, and an error that names the failing rows."""

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
class ValidationReport:
    """The outcomes of the expectations on the sets of a stage."""

    sets: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Lines about failed expectations of severity error."""
    warnings: list[str] = field(default_factory=list)
    """Lines about failed expectations of severity warning."""

    def validate(
        self,
        name: str,
        frames: expectations.Frames,
        record_type: RecordType,
        yaml: Path,
        *,
        is_clean: bool,
        is_frozen: bool = False,
    ) -> None:
        """Validate a set.

        Args:
            name: of the set, in messages.
            frames: returns its rows, in portions.
            record_type: of its rows.
            yaml: the user's expectations.
            is_clean: whether the rows are clean rows.
            is_frozen: whether the set never changes, so that a warning would come each month and nothing follows.
        """
        expected = required_expectations(record_type, is_clean=is_clean)
        expected += [one for one in expectations.load(yaml, record_type) if one not in expected]
        outcomes = expectations.validate_rows(frames, expected)
        held = sum(outcome.success for outcome in outcomes)
        failed = [outcome for outcome in outcomes if not outcome.success]
        known = [outcome for outcome in failed if is_frozen and outcome.severity == "warning"]
        names = ", ".join(one.type for one in known)
        note = (
            f"; not met, of severity warning: {names} (this set never changes, as data.frozen_pretraining says, so the "
            "warning is not repeated each month)"
            if known
            else ""
        )
        print(f"{name}: {held} of {len(outcomes)} expectations hold{note}")
        for outcome in failed:
            if outcome not in known:
                lines = self.failures if outcome.severity == "error" else self.warnings
                lines += outcome.describe(name)
        self.sets.append({"set": name, "expectations": [asdict(outcome) for outcome in outcomes]})

    def add_row_counts(self, rows: RawFrames, max_rejected: float) -> None:
        """Print how many rows of a validated raw set are unusable. Too many, or all rows of a file, are a failure."""
        raw, tally = rows.raw, rows.tally
        print(f"{raw.path}: {tally.rows:,} rows of {raw.form.record_type}, {tally.reasons.total():,} of them unusable")
        for line in tally.describe_unusable():
            print(f"  {line}")
        for warning in raw.warnings:
            print(f"warning: {warning}")
        try:
            tally.check(max_rejected)
        except DataError as error:
            self.failures += error.problems

    def write(self, reports: Path, name: str, accepted: dict[str, str]) -> None:
        """Write the complete result as JSON and as pages, and NAME.ok if all sets are accepted.

        Args:
            reports: the folder of the files.
            name: of the files.
            accepted: path -> digest of each validated set.

        Raises:
            ExpectationError: an expectation of severity error failed; names its first failing rows.
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
                f"repair the rows, or change the expectation in the YAML; "
                f"the complete result: {reports / f'validate_{name}.json'}",
            )
        files.write_json(reports / f"{name}.ok", accepted)
