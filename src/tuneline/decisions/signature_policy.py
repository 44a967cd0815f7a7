"""What this project asks of signatures: with a public key in mlflow/keys, a version must be signed by one of them."""

from collections.abc import Sequence
from pathlib import Path

from tuneline.errors import SignatureError
from tuneline.proofs import keys


def signature_problem(folder: Path) -> str | None:
    """Why the signature of a version's folder does not satisfy this project, or None.

    Without a public key in mlflow/keys the project asks for no signature, and none is checked.

    Args:
        folder: with the files of the version.
    """
    trusted = keys.trusted_keys()
    if not trusted:
        return None
    # Loads model_signing: only where there is a key.
    from tuneline.proofs import signatures

    try:
        signatures.verify(folder, trusted)
    except SignatureError as error:
        return "; ".join(error.problems)
    return None


def wrong_signature(folder: Path) -> str | None:
    """As `signature_problem`, but an unsigned version is allowed."""
    if not keys.trusted_keys():
        return None
    from tuneline.proofs import signatures

    return signature_problem(folder) if signatures.is_signed(folder) else None


def unsigned_note(trusted: Sequence[Path]) -> str:
    """Why a new version is unsigned where the project has keys, in a line.

    Args:
        trusted: the files of its public keys.
    """
    names = ", ".join(path.stem for path in trusted)
    return (
        f"this version is unsigned: this machine does not have the private part of a key in {keys.TRUSTED} ({names}); "
        "make a key of your own with `tuneline keys create`, or register where such a key is"
    )
