"""What DVC deletes before a stage writes it anew, and what therefore may not lie there."""

from collections.abc import Iterator
from pathlib import Path

from tuneline import params, worktree
from tuneline.errors import GitError, ParamsError
from tuneline.pipeline import dvc_lock


def check(graph: Path, p: params.Params) -> None:
    """Refuse outputs that git holds, or that lie behind a link.

    Args:
        graph: dvc.yaml.
        p: the params, whose own bounds keep outputs apart from each other and inside their folders.

    Raises:
        GitError: git does not say what it holds.
        ParamsError: all of them at once.
    """
    places = list(_outputs(graph, p))
    problems = [
        f"{link}: is a link to {link.readlink()}, and DVC deletes an output ({place}) before a stage writes it anew; "
        f"make {link} a folder of the project, or name another place in {params.PARAMS_FILE} (paths)"
        for link, place in {_link(place): place for place in places}.items()
        if link
    ]
    if places:
        # Whatever the capital letters: some file systems do not tell them apart.
        try:
            held = worktree.ask("ls-files", "-z", "--", *(f":(literal,icase){place}" for place in places))
        except GitError as error:
            raise GitError(
                *problems,
                *error.problems,
                "DVC deletes an output before a stage writes it anew, and whether git holds files there cannot be "
                "told: nothing is deleted, and nothing made",
            ) from None
        problems += [
            f"{name}: git holds it, and DVC deletes an output before a stage writes it anew; name another place in "
            f"{params.PARAMS_FILE} (paths), or take it out of git with: git rm --cached '{name}'"
            for name in filter(None, held.split("\0"))
        ]
    if problems:
        raise ParamsError(*problems)


def _outputs(graph: Path, p: params.Params) -> Iterator[str]:
    """The paths of all outputs; those of metrics, which git is to hold, are left out."""
    values = p.model_dump()
    for stage in dvc_lock.graph(graph).values():
        for out in stage.get("outs", []):
            yield dvc_lock.filled(out if isinstance(out, str) else next(iter(out)), values)


def _link(place: str) -> Path | None:
    """The link through which a place is reached; a file that is one itself is a file of DVC's cache."""
    path = Path(place)
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink() and one.is_dir()), None)
