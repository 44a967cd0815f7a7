"""The keys of the project and of this machine, and the check of a signed folder, in lines for a person."""

import os
from collections.abc import Iterator
from pathlib import Path

from tuneline import params
from tuneline.errors import SignatureError, TunelineError
from tuneline.proofs import keys
from tuneline.registry import addresses


def create(name: str | None) -> list[str]:
    """Make a key, or give the project the public part of a key of this machine.

    Args:
        name: of the key. None: the login name.

    Returns:
        What was made, and what to do next.
    """
    is_first = not keys.trusted_keys()
    made = keys.create(name)
    which = "the new" if made.is_new else "the existing"
    return [
        f"{made.private}: {which} private key; keep a backup, never share it",
        f"{made.public}: its public part; commit it, so that everyone can check signatures: git add {made.public}",
        "from now on `tuneline register` signs each new version with it, and only a signed version can be promoted; "
        "versions that exist already stay unsigned",
        *(_accept_history() if is_first else ()),
    ]


def _accept_history() -> Iterator[str]:
    """Accept what the history holds with the first key of the project: later, unsigned entries do not count."""
    if not Path(params.PARAMS_FILE).is_file():
        return
    store = addresses.database_of(os.environ.get("MLFLOW_TRACKING_URI", ""))
    # To connect to a store that does not exist would make it.
    if store is not None and not store.exists():
        return
    # Loads MLflow, which takes seconds.
    from tuneline.decisions import trusted_history
    from tuneline.registry import tracking

    try:
        tracker, model, key = tracking.connect(), params.load().registry.model, keys.signing_key()
        past = trusted_history.read(tracker, model)
        unsigned = past.unsigned()
        if key is None or not unsigned:
            return
        entry = trusted_history.accept(past, "from before the first key", key)
    except TunelineError as error:
        yield (
            f"the history could not be read: {error.problems[0]}; promotions from before this key do not count until "
            "you accept them with: tuneline history --accept REASON"
        )
        return
    assert entry
    count = "entry" if len(unsigned) == 1 else "entries"
    yield (
        f"the history of {model} has {len(unsigned)} {count} from before this key, of which the last made version "
        f"{unsigned[-1].after} {unsigned[-1].alias}; entry {entry.number} accepts them with this key (tuneline history)"
    )


def list_keys() -> Iterator[str]:
    """A line for each public key of the project, and for each private key of this machine without such a key."""
    trusted = keys.trusted_keys()
    for path in trusted:
        try:
            yield f"{path}: {keys.read_public(path).id[:12]}…, {_role(path)}"
        except SignatureError as error:
            yield from error.problems
    if not trusted:
        yield f"{keys.TRUSTED}: holds no public key, so versions are not signed; make a key with: tuneline keys create"
    folder = keys.private_folder()
    for path in sorted(folder.glob("*.pem")):
        if path.stem not in [one.stem for one in trusted]:
            yield (
                f"{path}: a private key that this project does not use; use it with: tuneline keys create --name "
                f"{path.stem}"
            )


def _role(public: Path) -> str:
    private = keys.private_path(public.stem)
    if not os.path.lexists(private):
        return "trusted; its private part is not on this machine"
    try:
        found = keys.private_of(public)
    except SignatureError as error:
        return f"trusted; its private part cannot be used: {'; '.join(error.problems)}"
    return f"signs on this machine ({private})" if found else f"trusted; {private} is another key"


def verify_model(folder: Path, key: Path | None) -> str:
    """Check the signature of a model's folder.

    Args:
        folder: of the model.
        key: the file of the public key. None: the public keys of the project in the working directory.

    Returns:
        Who signed it.

    Raises:
        SignatureError: the folder is not as it was signed, or no key is known.
    """
    trusted = [key] if key else keys.trusted_keys()
    if not trusted:
        raise SignatureError(
            f"{keys.TRUSTED}: the working directory has no public key there; name the file of the signer's public key "
            "with --key"
        )
    from tuneline.proofs import signatures

    signer = signatures.verify(folder, trusted)
    also = [name for name in signatures.NOT_SIGNED if (folder / name).exists()]
    beside = f"; not covered, because MLflow writes it when it loads a model: {', '.join(also)}" if also else ""
    return f"{folder}: signed by {signer}, and every file is as it was signed{beside}"
