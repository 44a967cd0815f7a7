"""The data of the report: what became of the rows, and what was found in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneline.data.records.labelled_by import LabelledBy
from tuneline.data.records.record_form import SPLITS

MOST_LINES = 8
MOST_LABELS = 20
# Reason -> its words on the page; the other reasons are shown as they are.
REASONS = {
    "duplicate": "the same as another row",
    "near-duplicate": "nearly the same as another row",
    "held-out": "the same as a row kept for testing",
    "held-out-group": "of a group kept for testing",
    "label-conflict": "its text has two different labels",
    "other-split": "in a file named as validation or test",
    "pretraining": "kept for testing, but much of it is in the pretraining text",
    "overlap": "repeats much of a row kept for testing",
    "spread": "repeats a part of a row kept for testing; other rows repeat the rest",
    "damaged": "its text is damaged in the raw file",
    "secret": "contains a secret or personal data",
}
# Why a variant of a training row was dropped -> its words on the page.
WHY_NO_VARIANT = {
    "unchanged": "the same as the row it was made from",
    "empty": "nothing was left of a text",
    "too-long": "too long for the model that translates",
    "training-row": "the same as another training row",
    "twice": "the same as another variant",
    "held-out": "the same as, or nearly the same as, a row kept for testing",
}
_SECRETS = {
    "email": "email addresses",
    "phone": "phone numbers",
    "id_number": "national identity numbers",
    "card": "payment cards",
    "key": "keys, tokens and passwords",
}
_DONE = {"report": "kept and counted", "mask": "masked", "drop": "rows dropped"}


def sets(
    data: Mapping[str, Any], policies: Mapping[str, str], *, with_pretraining: bool = True
) -> list[dict[str, Any]]:
    """What became of the rows of each set, in the order of prepare.json; the sets of a mixture come last.

    Args:
        data: the value of prepare.json.
        policies: type of secret -> what is done with it.
        with_pretraining: whether the pretraining text is shown.
    """
    names = ("raw", "pretraining") if with_pretraining else ("raw",)
    found = [*(data.get(name) for name in names), *(data.get("mixture") or {}).values()]
    return [_set(one, policies) for one in found if one]


def _set(counts: Mapping[str, Any], policies: Mapping[str, str]) -> dict[str, Any]:
    found = counts.get("secrets")
    warnings, clusters = counts.get("warnings") or [], counts.get("largest_clusters") or []
    labels = _labels(counts.get("labels") or {})
    return {
        "set": counts["set"],
        "labelled_by": str(LabelledBy.from_json(counts) or ""),
        "rows_in": counts["rows_in"],
        "rows_out": counts["rows_out"],
        "rows": counts["rows"],
        "dropped": counts["dropped"],
        "changed": counts.get("changed_by_cleaning"),
        "screened": found is not None,
        "secrets": [
            {"name": _SECRETS.get(kind, kind), "count": count, "done": _DONE.get(policies.get(kind, ""), "")}
            for kind, count in (found or {}).items()
            if count
        ],
        "near": counts.get("near_duplicates") or {},
        "clusters": clusters[:MOST_LINES],
        "labels": labels[:MOST_LABELS],
        "more_labels": max(0, len(labels) - MOST_LABELS),
        "placeholders": counts.get("placeholders") or {},
        "warnings": warnings[:MOST_LINES],
        "more_warnings": max(0, len(warnings) - MOST_LINES),
    }


def augmented(counts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What became of the variants of training rows, in the order of params.yaml.

    Args:
        counts: name -> the value of its file in augmented/; empty where it was not made.
    """
    return [
        {
            "name": name,
            **{key: one[key] for key in ("rows_in", "rows_out", "dropped")},
            "examples": one["examples"],
        }
        for name, one in counts.items()
        if one
    ]


def _labels(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """One line per label: its rows in each split, and the width of its bar; the most frequent label first."""
    totals = {label: sum(by_split.values()) for label, by_split in counts.items()}
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


def mixture(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was trained on of each set, the largest share first; empty where there is one set only.

    Args:
        training: the value of training.json.
    """
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
        for name, one in (training.get("mixture") or {}).items()
    ]
    return sorted(lines, key=lambda line: -line["width"])


def overlap(data: Mapping[str, Any], *, has_answers: bool) -> list[str]:
    """Sentences about training rows that share text with held-out rows and stayed in training.

    Args:
        data: the value of prepare.json.
        has_answers: whether the task is to write answers; labels and numbers are always the same in train and test.
    """
    counts = data.get("overlap") or {}
    sentences: list[str] = []
    for name, count in counts.items():
        if name.startswith("kept_above_") and count:
            low = float(name.removeprefix("kept_above_"))
            sentences.append(
                f"{_rows(count, 'training')} between {low:.0%} and {counts['max_overlap']:.0%} of a held-out row. Rows "
                "below data.max_overlap stay in training."
            )
    if spared := counts.get("kept_as_boilerplate"):
        sentences.append(
            f"{_rows(spared, 'training')} wording of held-out rows that many training rows share. Common wording is "
            "not a leak, so they stay in training."
        )
    known = counts.get("test_rows_with_an_answer_that_train_has")
    if known and has_answers:
        what = "1 test row has an answer" if known == 1 else f"{known:,} test rows have answers"
        sentences.append(
            f"{what} that training rows give to other prompts. This is normal for short or standard answers; if "
            "answers should be unique, look for copies."
        )
    return sentences


def long_rows(evaluation: Mapping[str, Any]) -> list[str]:
    """A sentence about test rows that are longer than the model sees at once, if there are any.

    Args:
        evaluation: the value of evaluation.json.
    """
    if not (count := evaluation.get("windowed_rows")):
        return []
    return [
        f"{count:,} of {evaluation['rows']:,} test rows are longer than the model sees at once, so they were scored in "
        f"overlapping windows. They hold {evaluation['windowed_share_of_bytes']:.0%} of the bytes."
    ]


def _rows(count: int, what: str) -> str:
    return f"1 {what} row repeats" if count == 1 else f"{count:,} {what} rows repeat"


def data_docs(reports: Path) -> list[dict[str, str]]:
    """The path from the folder `reports`, and the name, of each page of Great Expectations in it."""
    pages = sorted(reports.glob("data_docs_*/*.html"))
    return [
        {
            "path": f"{page.parent.name}/{page.name}",
            "name": f"{page.parent.name.removeprefix('data_docs_')}: {page.stem}",
        }
        for page in pages
    ]
