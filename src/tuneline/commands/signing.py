"""The keys of the project and of this machine, and the check of a signed folder, in lines for a person."""

import os
from collections.abc import Iterator
from pathlib import Path

from tuneline.errors import SignatureError
from tuneline.proofs import keys


def create(name: str | None) -> list[str]:
    """Make a key, or give the project the public part of a key of this machine.

    Args:
        name: of the key. None: the login name.

    Returns:
        What was made, and what to do next.
    """
    made = keys.create(name)
    which = "the new" if made.is_new else "the existing"
    return [
        f"{made.private}: {which} private key; keep a backup, share it with nobody",
        f"{made.public}: its public part; commit it, so that everyone can check signatures: git add {made.public}",
        "from now on `tuneline register` signs each new version with it, and only a signed version can be promoted; "
        "versions that exist already stay unsigned",
    ]


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
