"""Labels that stand in the names of files or folders, as in `spam/1.txt`, `spam/a.jsonl` and `pos.txt`."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from tuneline.data.mapping.recognise import LABELLED, LABELS, View
from tuneline.data.reading.raw_rows import FilePlan

_SPLITS = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"))
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst")


def label_names(plans: Sequence[FilePlan]) -> dict[str, str]:
    """The label of every file of a set whose rows are texts without a label of their own.

    Args:
        plans: of all files.

    Returns:
        File -> label: the name of its folder where folders tell the files apart, else (for plain text with one row per
        line) the file's own name. Empty where a file has a column of labels or none of texts, or fewer than two labels
        come out.
    """
    files = [plan for plan in plans if not plan.refusal and plan.first_rows]
    if not files or not all(map(_is_unlabelled, files)):
        return {}
    folders = {plan.name: _folder(plan.name) for plan in files}
    if all(folders.values()) and len(set(folders.values())) > 1:
        return folders
    if any(plan.format != "text" for plan in files):
        return {}
    names = {plan.name: _stem(plan.name) for plan in files}
    return names if len(set(names.values())) > 1 else {}


def _is_unlabelled(plan: FilePlan) -> bool:
    """Whether the rows of a file are texts, and say nothing of a label."""
    if plan.format in ("text", "document"):
        return True
    view = View(plan)
    return view.usual(*LABELLED) is not None and view.usual(*LABELS) is None


def _folder(name: str) -> str:
    """The innermost folder that is neither a split nor an archive; empty where there is none."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.casefold() not in _SPLITS and not part.casefold().endswith(_ARCHIVES):
            return part
    return ""


def _stem(name: str) -> str:
    stem = PurePosixPath(name).name
    while (suffix := PurePosixPath(stem).suffix.casefold()) in (".txt", ".text", *_ARCHIVES) and suffix:
        stem = PurePosixPath(stem).stem
    return stem
