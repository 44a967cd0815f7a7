"""What this project asks of signatures: with a public key in mlflow/keys, a version must be signed by one of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneline.errors import SignatureError
from tuneline.proofs import keys
from tuneline.registry import version_status, versions
from tuneline.registry.tracking import Tracker

_VERDICT, _SHOWN_VERDICT = "tuneline.verdict", "1 verdict"
SIGNED = "tuneline.signed"
"""The tag of a version with the name of the key that signed it."""


def signature_problem(folder: Path, tags: Mapping[str, str] | None = None) -> str | None:
    """Why the signature of a version's folder does not satisfy this project, or None.

    Without a public key in mlflow/keys the project asks for no signature, and none is checked.

    Args:
        folder: with the files of the version.
        tags: of the version; those that the signed claims confirm must have the values that were signed.
    """
    trusted = keys.trusted_keys()
    if not trusted:
        return None
    # Loads model_signing: only where there is a key.
    from tuneline.proofs import signatures

    if folder.is_dir() and not signatures.is_signed(folder):
        return removed_signature(folder, tags or {}) or (
            f"it is unsigned, and with a key in {keys.TRUSTED} a version must be signed to be promoted; if you trust "
            "it all the same: tuneline promote NUMBER --override REASON"
        )
    try:
        signatures.verify(folder, trusted)
        edited = [] if tags is None else _edited_tags(folder, tags, trusted)
    except SignatureError as error:
        # The reason becomes a tag: without the place of the folder on this machine.
        return "; ".join(error.problems).replace(f"{folder}/", "").replace(f"{folder}: ", "the folder ")
    return "; ".join(edited) or None


def _edited_tags(folder: Path, tags: Mapping[str, str], trusted: Sequence[Path]) -> list[str]:
    """The tags whose values are not those in the claims of a folder whose signature is valid, in sentences."""
    from tuneline.proofs import claims, provenance

    # A folder that another tool signed has no claims.
    path = folder / claims.CLAIMS
    said = claims.read(path, trusted) if path.is_file() else []
    confirmed = provenance.confirmed_tags(said)
    if _VERDICT in confirmed and _SHOWN_VERDICT in tags:
        # What people see in the list of tags.
        confirmed = {**confirmed, _SHOWN_VERDICT: confirmed[_VERDICT]}
    return [
        f"its tag {name} is {tags.get(name, 'missing')!r}, but {value!r} was signed: the tag was edited in MLflow, or "
        "the files are of another version"
        for name, value in confirmed.items()
        if tags.get(name) != value
    ]


def later_verdicts(folder: Path, tags: Mapping[str, str]) -> str | None:
    """That tags of a signed version name other verdicts than the signed one, in a sentence; None if none does.

    The gate adds such tags when it decides about the same model again, and everyone who can write to MLflow can too.

    Args:
        folder: with the files of the version; its signature is valid.
        tags: of the version.
    """
    from tuneline.proofs import claims, provenance

    path, trusted = folder / claims.CLAIMS, keys.trusted_keys()
    signed = provenance.confirmed_tags(claims.read(path, trusted)).get(_VERDICT) if trusted and path.is_file() else None
    other = [verdict for verdict in version_status.verdicts(tags) if signed and verdict != signed]
    if not other:
        return None
    return f"the signed verdict is {signed}; the later verdict {other[-1]} in its tags is in no signed claim"


def wrong_signature(folder: Path, tags: Mapping[str, str] | None = None) -> str | None:
    """As `signature_problem`, but a version that was registered without a signature is allowed."""
    if not keys.trusted_keys():
        return None
    from tuneline.proofs import signatures

    return signature_problem(folder, tags) if signatures.is_signed(folder) else removed_signature(folder, tags or {})


def removed_signature(folder: Path, tags: Mapping[str, str]) -> str | None:
    """That the folder of a version lacks its signature, although the version was registered with one, or None.

    Args:
        folder: with the files of the version.
        tags: of the version.
    """
    if SIGNED not in tags or not keys.trusted_keys():
        return None
    from tuneline.proofs import signatures

    if signatures.is_signed(folder):
        return None
    return (
        f"it was signed by {tags[SIGNED]} when it was registered, but its signature was removed; do not use this model"
    )


def find_damage(tracker: Tracker, model: str, version: str) -> str | None:
    """Why the files of a version cannot be used, or None: they are not as registered, or their signature is wrong.

    Whoever can exchange the files in MLflow's store can exchange the digest in the tags too.

    Raises:
        RegistryError: the registry does not have the version.
    """
    tags = tracker.version_tags(model, version)

    def wrong(folder: Path) -> str | None:
        return removed_signature(folder, tags) or wrong_signature(folder)

    return versions.find_damage(tracker, model, version, wrong)


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
