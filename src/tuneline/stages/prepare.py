"""Make the clean splits and the pretraining text from the raw sets, and say where every row went.

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
    """Open, prepare, write."""
    sets = raw_set.open_all(p)
    clean, text, reports = Path(p.paths.clean), Path(p.paths.pretraining), Path(p.paths.reports)
    with (
        files.work_folder(clean) as work,
        files.atomic_folder(clean) as clean_beside,
        files.atomic_folder(text) as text_beside,
        files.atomic_file(reports / "quarantine.jsonl") as quarantine,
    ):
        # Processes on other machines know nothing of where this one stands.
        places = prepare_sets.Places(*(path.resolve() for path in (work, clean_beside, text_beside, quarantine)))
        accounts = prepare_sets.prepare(sets, p.data, places)
        files.write_json(clean_beside / DATASET_FILE, prepare_sets.dataset(sets, accounts))
    files.write_json(reports / "prepare.json", accounts)
    for account in (accounts["raw"], accounts["pretraining"], *accounts["mixture"].values()):
        for line in describe(account):
            print(line)
    if spared := accounts["overlap"]["kept_as_boilerplate"]:
        print(f"{spared:,} training rows share with held-out rows only wording that many training rows have: kept")
    # Only told: it is not among the outputs, which do not depend on the params of finetune and base.
    kind = sets.raw.form.record_type
    tokens = long_rows.in_split(clean / "train", kind) / long_rows.bytes_per_token(p)
    for line in long_rows.describe(tokens, f"estimated at {long_rows.bytes_per_token(p):g} bytes a token", p):
        print(line)
    print(f"every dropped row and why: {reports / 'quarantine.jsonl'}")


def describe(account: dict[str, Any]) -> list[str]:
    """The accounts of one set, for a person."""
    out = ", ".join(f"{split} {count:,}" for split, count in account["rows"].items())
    lines = [f"{account['set']}: {account['rows_in']:,} rows in, {account['rows_out']:,} out ({out})"]
    lines += [f"  dropped {count:,}: {reason}" for reason, count in account["dropped"].items()]
    if found := ", ".join(f"{count:,} {kind}" for kind, count in account["secrets"].items() if count):
        lines.append(f"  secrets and personal data found: {found}")
    for kind, found in account["damaged"].items():
        repaired = f", {found['repaired']:,} of them repaired" if found["repaired"] else ""
        lines.append(f"  damaged: {found['rows']:,} rows of {kind}{repaired}, as {found['first']}")
        if kind == "mojibake" and not found["repaired"]:
            lines.append(
                "    if it is wrong all over, the files are of another encoding than params.yaml says; where it is "
                "the text itself, data.damaged.mojibake: repair mends what can be mended"
            )
    if account["placeholders"]["rows"]:
        first = ", ".join(account["placeholders"]["first"])
        lines.append(f"  placeholders in {account['placeholders']['rows']:,} rows: {first}")
    lines += [f"  warning: {warning}" for warning in account["warnings"]]
    return lines
