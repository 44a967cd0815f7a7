"""What the page says of the data: where the rows went, what was found in them, and what is odd about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")
MOST_LINES = 8
MOST_LABELS = 20
# What the reasons mean that a person would ask about; the others speak for themselves.
REASONS = {
    "duplicate": "the same as another row",
    "near-duplicate": "nearly the same as another row",
    "held-out": "the same as a row kept for testing",
    "held-out-group": "of a group kept for testing",
    "label-conflict": "its text stands with two labels",
    "other-split": "in a file named as validation or test",
    "pretraining": "kept for testing, but the base has read much of it",
    "overlap": "repeats much of a row kept for testing",
    "spread": "repeats a piece of a row kept for testing, of which other rows repeat the rest",
    "damaged": "its text was damaged before it came here",
    "secret": "holds a secret or personal data",
}
_SECRETS = {
    "email": "email addresses",
    "phone": "phone numbers",
    "id_number": "national identity numbers",
    "card": "payment cards",
    "key": "keys, tokens and passwords",
}
_DONE = {"report": "kept, only counted", "mask": "masked", "drop": "their rows dropped"}


def of_sets(
    data: Mapping[str, Any], policies: Mapping[str, str], *, with_pretraining: bool = True
) -> list[dict[str, Any]]:
    """The accounts of prepare.json, as the page shows them; what an old file does not have is left out.

    Args:
        data: the value of prepare.json.
        policies: kind of secret -> what is done with it.
        with_pretraining: whether the pretraining text is among them.

    Returns:
        One for each set, in the order of the file, those of a mixture last.
    """
    names = ("raw", "pretraining") if with_pretraining else ("raw",)
    found = [*(data.get(name) for name in names), *(data.get("mixture") or {}).values()]
    return [_of_set(one, policies) for one in found if one]


def _of_set(account: Mapping[str, Any], policies: Mapping[str, str]) -> dict[str, Any]:
    found = account.get("secrets")
    warnings, clusters = account.get("warnings") or [], account.get("largest_clusters") or []
    labels = _labels(account.get("labels") or {})
    return {
        "set": account["set"],
        "rows_in": account["rows_in"],
        "rows_out": account["rows_out"],
        "rows": account["rows"],
        "dropped": account["dropped"],
        "changed": account.get("changed_by_cleaning"),
        "screened": found is not None,
        "secrets": [
            {"name": _SECRETS.get(kind, kind), "count": count, "done": _DONE.get(policies.get(kind, ""), "")}
            for kind, count in (found or {}).items()
            if count
        ],
        "near": account.get("near_duplicates") or {},
        "clusters": clusters[:MOST_LINES],
        "labels": labels[:MOST_LABELS],
        "more_labels": max(0, len(labels) - MOST_LABELS),
        "placeholders": account.get("placeholders") or {},
        "warnings": warnings[:MOST_LINES],
        "more_warnings": max(0, len(warnings) - MOST_LINES),
    }


def _labels(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Labels with their rows by split, the most frequent first, each with its length against the longest."""
    totals = {label: sum(of.values()) for label, of in counts.items()}
    longest = max(totals.values(), default=0) or 1
    return [
        {
            "label": label,
            "total": totals[label],
            "counts": {split: counts[label].get(split, 0) for split in SPLITS},
            "width": round(100.0 * totals[label] / longest, 2),
        }
        for label in sorted(totals, key=lambda name: (-totals[name], name))
    ]


def of_mixture(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was trained of each set, the largest share first; nothing where there is but one set.

    Args:
        training: the value of training.json.
    """
    sets = training.get("mixture") or {}
    lines = [
        {
            "set": name,
            "weight": one["weight"],
            "examples": one["examples"],
            "shown": one["shown"],
            "tokens": one["tokens"],
            "supervised_tokens": one["supervised_tokens"],
            "width": round(100.0 * one["share_of_tokens"], 2),
        }
        for name, one in sets.items()
    ]
    return sorted(lines, key=lambda line: -line["width"])


def of_overlap(data: Mapping[str, Any], task: str) -> list[str]:
    """What training and held-out rows have in common and was kept, in sentences.

    Args:
        data: the value of prepare.json.
        task: what was learnt; where the answer is a label or a number, test and training share all of them.
    """
    overlap = data.get("overlap") or {}
    said: list[str] = []
    for name, count in overlap.items():
        if name.startswith("kept_above_") and count:
            low = float(name.removeprefix("kept_above_"))
            said.append(
                f"{_rows(count, 'training')} between {low:.0%} and {overlap['max_overlap']:.0%} of a row that is held "
                "out, less than data.max_overlap allows, and stayed in training."
            )
    if spared := overlap.get("kept_as_boilerplate"):
        said.append(
            f"{_rows(spared, 'training')} only wording of rows that are held out which many training rows have, and "
            "stayed in training."
        )
    known = overlap.get("test_rows_with_an_answer_that_train_has")
    if known and task == "sft":
        one = "1 test row has an answer" if known == 1 else f"{known:,} test rows have answers"
        said.append(
            f"{one} that training rows give to other prompts, as short or standard answers do; if answers should be "
            "unique, look for copies."
        )
    return said


def _rows(count: int, what: str) -> str:
    return f"1 {what} row repeats" if count == 1 else f"{count:,} {what} rows repeat"


def data_docs(reports: Path) -> list[dict[str, str]]:
    """The pages that Great Expectations made of the last validations.

    Args:
        reports: the folder of reports.

    Returns:
        The path of each, from the folder of reports, and its name for a person.
    """
    pages = sorted(reports.glob("data_docs_*/*.html"))
    return [
        {
            "path": f"{page.parent.name}/{page.name}",
            "name": f"{page.parent.name.removeprefix('data_docs_')}: {page.stem}",
        }
        for page in pages
    ]
