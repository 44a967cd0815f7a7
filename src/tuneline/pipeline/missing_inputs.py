"""What to do about an input of a stage that is not there."""

import shlex
from pathlib import PurePosixPath
from typing import Literal

from tuneline import params

Keeper = Literal["git", "cache", "remote", "elsewhere", "nothing"]
"""Who has what is missing: git; DVC's cache; a remote, as far as this clone knows; another clone, because a .dvc file
names it and this clone has no remote; nothing that this clone knows of."""


def of_missing(place: str, keeper: Keeper, p: params.Params) -> str:
    """One line: what is missing, and how the person at this clone gets it back.

    Args:
        place: the file or folder, relative to the project's root.
        keeper: who has it.
        p: the params, which say what it is for.
    """
    quoted, pointer = shlex.quote(place), shlex.quote(f"{place}.dvc")
    again = _again(place, p)
    if keeper == "git":
        return f"{place}: is not there, but git has it; get it back with: git restore {quoted}"
    if keeper == "cache":
        return f"{place}: is not there, but DVC's cache has it; get it back with: dvc checkout {pointer}"
    if keeper == "remote":
        return (
            f"{place}: is not there and not in DVC's cache; fetch it from the remote with: dvc pull {pointer} (where "
            f"the remote does not have it either: run `dvc push` in the clone that has it, {again})"
        )
    if keeper == "elsewhere":
        return (
            f"{place}: is not there and not in DVC's cache, and this clone has no remote to fetch it from; in the "
            "clone that has it run `dvc remote add --default storage URL`, commit .dvc/config and run `dvc push`; "
            f"then run `git pull` and `dvc pull` here; {again}"
        )
    is_text = place == p.base.input and p.base.source == "hub"
    return (
        f"{place}: is not there, and git does not know {'it' if is_text else f'{place}.dvc'} either; if another clone "
        f"has it, run there what `make run` prints at its end; {again}"
    )


def _again(place: str, p: params.Params) -> str:
    """How it is brought here anew, by what it is for."""
    if place == p.data.raw:
        return "or bring its files with: tuneline use PATH"
    if place.startswith(f"{p.paths.mixture}/"):
        name = PurePosixPath(place).name
        return f"or bring its files with: tuneline use PATH --mix WEIGHT --name {shlex.quote(name)}"
    if place == p.base.input and p.base.source == "hub":
        return "or write `id: OWNER/NAME` and `revision: COMMIT` into it"
    if place == p.base.input:
        return f"or copy the model to it and run: dvc add {shlex.quote(place)}"
    return "or put it there"
