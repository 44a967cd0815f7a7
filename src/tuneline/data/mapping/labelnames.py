"""Labels that stand in the names of files or folders, as in `spam/1.txt` and `pos.txt`."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from tuneline.data.reading.rows import FilePlan

_SPLITS = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"))
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst")


def label_names(plans: Sequence[FilePlan]) -> dict[str, str]:
    """The label of every file of a set of plain texts.

    Args:
        plans: of all files.

    Returns:
        File -> label: the name of its folder where folders tell the files apart, else (for files with a row a line)
        the file's own name. Empty where the files are no plain texts, or fewer than two labels come out.
    """
    files = [plan for plan in plans if not plan.refusal and plan.first_rows]
    if not files or any(plan.format not in ("text", "document") for plan in files):
        return {}
    folders = {plan.name: _folder(plan.name) for plan in files}
    if all(folders.values()) and len(set(folders.values())) > 1:
        return folders
    if any(plan.format == "document" for plan in files):
        return {}
    names = {plan.name: _stem(plan.name) for plan in files}
    return names if len(set(names.values())) > 1 else {}


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
