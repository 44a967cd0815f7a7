"""Folders that count only when they are whole: a manifest, written last, names the sha256 of every file."""

from pathlib import Path

from tuneline.core import files

MANIFEST = "manifest.json"


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is as the manifest says, and none is missing or added."""
    try:
        manifest = files.read_json(checkpoint / MANIFEST)
        expected = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = files.sha256_tree(checkpoint)
    del found[MANIFEST]
    return found == expected
