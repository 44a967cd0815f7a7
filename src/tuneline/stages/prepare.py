"""Make the clean splits and the pretraining text from the raw sets, and report where every row went.

python -m tuneline.stages prepare
"""

from pathlib import Path
from typing import Any

from tuneline import params
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.preparing import long_rows, prepare_sets
from tuneline.data.records.record_form import DATASET_FILE


def main(p: params.Params) -> None:
    """Prepare the raw sets, write the results and print the report."""
    sets = raw_set.open_all(p)
    clean, text, reports = Path(p.paths.clean), Path(p.paths.pretraining), Path(p.paths.reports)
    with (
        files.work_folder(clean) as work,
        files.atomic_folder(clean) as new_clean,
        files.atomic_folder(text) as new_text,
        files.atomic_file(reports / "quarantine.jsonl") as quarantine,
    ):
        # Absolute paths, because processes on other machines have another working directory.
        paths = prepare_sets.Paths(*(path.resolve() for path in (work, new_clean, new_text, quarantine)))
        report = prepare_sets.prepare(sets, p.data, paths)
        files.write_json(new_clean / DATASET_FILE, prepare_sets.describe_clean_set(sets, report))
    files.write_json(reports / "prepare.json", report)
    for one in (report["raw"], report["pretraining"], *report["mixture"].values()):
        for line in describe(one):
            print(line)
    if planted := report.get("canaries"):
        print(f"{len(planted):,} canaries were added to the training rows (data.canaries)")
    if spared := report["overlap"]["kept_as_boilerplate"]:
        print(f"{spared:,} training rows share only common wording with held-out rows, so they stay")
    # These lines are only printed: the outputs of this stage do not depend on the params of finetune and base.
    tokens = long_rows.bytes_of_rows(clean / "train", sets.raw.form) / long_rows.bytes_per_token(p)
    for line in long_rows.describe(tokens, f"estimated at {long_rows.bytes_per_token(p):g} bytes per token", p):
        print(line)
    print(f"all dropped rows with their reasons: {reports / 'quarantine.jsonl'}")


def describe(report: dict[str, Any]) -> list[str]:
    """Return the lines that report on one set."""
    out = ", ".join(f"{split} {count:,}" for split, count in report["rows"].items())
    lines = [f"{report['set']}: {report['rows_in']:,} rows in, {report['rows_out']:,} out ({out})"]
    lines += [f"  dropped {count:,}: {reason}" for reason, count in report["dropped"].items()]
    if found := ", ".join(f"{count:,} {kind}" for kind, count in report["secrets"].items() if count):
        lines.append(f"  secrets and personal data found: {found}")
    for kind, found in report["damaged"].items():
        repaired = f", {found['repaired']:,} of them repaired" if found["repaired"] else ""
        lines.append(f"  damaged: {found['rows']:,} rows of {kind}{repaired}, such as {found['first']}")
        if kind == "mojibake" and not found["repaired"]:
            lines.append(
                "    if all text is damaged, the encoding of the set in params.yaml is wrong; if only some text "
                "is, set data.damaged.mojibake: repair"
            )
    if report["placeholders"]["rows"]:
        first = ", ".join(report["placeholders"]["first"])
        lines.append(f"  placeholders in {report['placeholders']['rows']:,} rows: {first}")
    lines += [f"  warning: {warning}" for warning in report["warnings"]]
    return lines
