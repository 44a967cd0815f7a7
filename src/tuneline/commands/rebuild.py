"""`tuneline reproduce`: build a version again, say what came of it, and write it into the model's history."""

from collections.abc import Callable

from tuneline import progress
from tuneline.decisions import reproduction
from tuneline.errors import TrackingError
from tuneline.params import Params
from tuneline.proofs import keys
from tuneline.registry.tracking import Tracker


def rebuild(
    p: Params,
    tracker: Tracker,
    version: str,
    log: Callable[[str], None],
    *,
    with_env: bool,
    from_hub: bool,
    keep: bool,
    unsigned: bool,
) -> bool:
    """Build a version again; see `reproduction.reproduce`.

    Args:
        p: the params of today.
        tracker: the registry.
        version: the number of the version.
        log: called with each line for the person.
        with_env: build its Python environment too.
        from_hub: fetch a base from a model hub again.
        keep: keep the folder.
        unsigned: run the code of a version that no trusted key has signed.

    Returns:
        Whether the new model is identical.

    Raises:
        SignatureError: the key of this machine cannot be used, or no trusted key has signed the version.
        TrackingError: MLflow does not answer, so the history does not hold the outcome.
        TunelineError: the version cannot be built again, with the remedy.
    """
    # A key that cannot be used is told before the work of minutes.
    key = keys.signing_key()
    made = reproduction.reproduce(
        p, tracker, version, log=log, with_env=with_env, from_hub=from_hub, keep=keep, unsigned=unsigned
    )
    for line in outcome(f"{p.registry.model} version {version}", made):
        log(line)
    try:
        entry = reproduction.record(tracker, p.registry.model, version, made, key)
    except TrackingError as error:
        raise TrackingError(
            *error.problems, "the outcome above is right, but the history does not hold it; run the same command again"
        ) from None
    log(f"entry {entry.number} of the history holds this outcome{f', signed by {key.name}' if key else ''}")
    return made.comparison.is_identical


def outcome(name: str, made: reproduction.Rebuild) -> list[str]:
    """The outcome in lines.

    Args:
        name: of the version.
        made: the rebuild.
    """
    compared = made.comparison
    took = progress.duration(sum(made.seconds.values()))
    kept = (
        [f"the rebuild is in {made.kept}; to remove it: git worktree remove --force {made.kept}"] if made.kept else []
    )
    if compared.is_identical:
        return [
            f"identical: {name} was built again, byte by byte: {compared.tensors:,} tensors and {compared.others:,} "
            f"other files, in {took}",
            *kept,
        ]
    return [
        f"different: {name} was built again in {took}, and {len(compared.differences):,} tensors or files differ:",
        *compared.shown(),
        *made.reasons,
        *kept,
    ]
