"""The receipt of an erasure: a claim in the history about what was erased, and the last lines for the person."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.decisions import returning_rows
from tuneline.decisions.erasure_plan import Journal
from tuneline.errors import RegistryError, SignatureError
from tuneline.params import Params
from tuneline.pipeline import objects
from tuneline.proofs import claims, keys
from tuneline.registry import history, versions
from tuneline.registry.chain import Entry
from tuneline.registry.tracking import Tracker

PREDICATE = "urn:tuneline:erasure:v1"
"""The type of the receipt."""
CLAIM = "claim.jsonl"
"""The name of the receipt among the files of an entry of the history."""
_SHOWN = 5


def receipt(
    p: Params, tracker: Tracker, journal: Journal, *, searched: int, short: list[str], made: str | None, verdict: str
) -> dict[str, Any]:
    """The statement about an erasure.

    Args:
        p: the params.
        tracker: the registry.
        journal: of the erasure.
        searched: how many files were searched for texts of the rows.
        short: the files in which a short text of the rows is a value.
        made: the version that was trained without the rows; None if none was registered.
        verdict: the gate's.
    """
    model = p.registry.model
    tags = tracker.all_version_tags(model)
    digests = {
        f"{model}/{version}/": tags.get(version, {}).get(versions.FILES) for version in [*journal.versions, made]
    }
    subject = {name: sha256 for name, sha256 in digests.items() if sha256}
    if not subject:
        raw = Path(p.data.raw)
        subject = {f"{raw}/" if raw.is_dir() else str(raw): files.sha256_path(raw)}
    predicate = {
        "model": model,
        "erasedOn": datetime.now(UTC).isoformat(timespec="seconds"),
        "erasedBy": history.acting_user(),
        "rows": len(journal.proofs),
        "rowDigests": journal.proofs,
        "digestMethod": "HMAC-SHA256 of the row as JSON; the key was given to the person who asked and is not stored",
        "rowsBySet": journal.counts,
        "changedFiles": {name: sha256 for name, sha256 in journal.files.items() if sha256},
        "deletedFiles": sum(sha256 is None for sha256 in journal.files.values()),
        "erasedVersions": list(journal.versions),
        "erasedRuns": len(journal.runs),
        "erasedSearches": list(journal.searches),
        "filesElsewhere": journal.elsewhere,
        "deletedObjects": len(journal.removed),
        "remote": {
            # Not known if the remote did not answer.
            "held": None if journal.remote_problem else len(journal.in_remote),
            "deleted": journal.is_remote_done,
            # From which they can be deleted later.
            "objects": [] if journal.is_remote_done else sorted({*journal.in_remote, *journal.maybe_in_remote}),
        },
        "searched": {
            "files": searched,
            "texts": len(journal.sought),
            "found": 0,
            # As whole values of rows; such a value may be of another row.
            "shortTexts": len(journal.short),
            "filesWithShortTexts": short,
            "rowsWithoutSearch": journal.unsearched,
        },
        "recognisedLater": {
            "rows": len(journal.proofs) - journal.unrecognisable,
            "method": f"HMAC-SHA256 of their longer texts, in {returning_rows.FILE} on this machine",
        },
        "trainedAgain": {"version": made, "verdict": verdict},
    }
    return claims.statement(PREDICATE, subject, predicate)


def later_receipt(model: str, receipts: Iterable[Entry], deleted: int) -> dict[str, Any]:
    """The statement that DVC's remote holds no longer what earlier erasures have left there.

    Args:
        model: the registered model's name.
        receipts: the entries of these erasures.
        deleted: how many objects were deleted.
    """
    predicate = {
        "model": model,
        "erasedOn": datetime.now(UTC).isoformat(timespec="seconds"),
        "erasedBy": history.acting_user(),
        "remote": {"held": deleted, "deleted": True, "objects": []},
    }
    subject = {f"{model}-history/{entry.number}": entry.sha256 for entry in receipts}
    return claims.statement(PREDICATE, subject, predicate)


def left_in_remote(tracker: Tracker, model: str, log: Callable[[str], None]) -> dict[str, Entry]:
    """The objects that erasures have left in DVC's remote, by their receipts: md5 -> the entry of the history.

    Args:
        tracker: the registry.
        model: the registered model's name.
        log: called with a line about each receipt that cannot be believed.

    Raises:
        TrackingError: MLflow does not answer.
    """
    trusted = keys.trusted_keys()
    found: dict[str, Entry] = {}
    for entry in history.read(tracker, model).entries:
        if entry.action != history.ERASED or CLAIM not in entry.evidence:
            continue
        try:
            content = history.read_evidence(tracker, entry)[CLAIM]
            receipts = [one for one in claims.parse(content, trusted, CLAIM) if one.predicate_type == PREDICATE]
        except (RegistryError, SignatureError) as error:
            log(f"entry {entry.number} of the history is left out: {error.problems[0]}")
            continue
        for one in receipts:
            if trusted and one.signer is None:
                log(f"entry {entry.number} of the history is left out: no trusted key has signed its receipt")
                continue
            remote = one.predicate.get("remote")
            listed = remote.get("objects") if isinstance(remote, dict) else None
            found |= {md5: entry for md5 in listed or [] if objects.is_md5(md5)}
    return found


def erased_versions(tracker: Tracker, model: str, log: Callable[[str], None] = lambda _: None) -> set[str]:
    """The versions that were erased; with a key in mlflow/keys, only those of which a signed receipt says so.

    Args:
        tracker: the registry.
        model: the registered model's name.
        log: called with a line about each entry that cannot be believed.

    Raises:
        TrackingError: MLflow does not answer.
    """
    trusted, found, doubted = keys.trusted_keys(), set[str](), set[str]()
    for entry in history.read(tracker, model).entries:
        if entry.action != history.ERASED or entry.after is None:
            continue
        if trusted and not _is_signed_about(tracker, model, entry, trusted):
            doubted.add(entry.after)
        else:
            found.add(entry.after)
    for version in sorted(doubted - found):
        log(
            f"version {version} counts as not erased: the history says that it was erased, and no trusted key has "
            "signed the receipt"
        )
    return found


def _is_signed_about(tracker: Tracker, model: str, entry: Entry, trusted: Sequence[Path]) -> bool:
    """Whether a trusted key has signed that the version of an entry was erased."""
    if CLAIM not in entry.evidence:
        return False
    try:
        said = list(claims.parse(history.read_evidence(tracker, entry, [CLAIM])[CLAIM], trusted, CLAIM))
    except (RegistryError, SignatureError):
        return False
    return any(
        one.predicate_type == PREDICATE
        and one.signer is not None
        and one.predicate.get("model") == model
        and entry.after in one.predicate.get("erasedVersions", [])
        for one in said
    )


def summary(journal: Journal, searched: int, made: str | None, verdict: str) -> Iterator[str]:
    """The last lines of an erasure; the arguments are those of `receipt`."""
    rows = len(journal.proofs)
    without = ", ".join(journal.versions) or "none"
    yield f"{rows} {'row is' if rows == 1 else 'rows are'} erased; versions without files: {without}"
    if journal.sought:
        yield f"searched {searched} files for {len(journal.sought)} of their texts: none is left"
    if journal.short:
        yield f"{len(journal.short)} texts of less than 16 characters were searched as whole values of rows only"
    if journal.unsearched:
        yield f"no text of {journal.unsearched} rows was searched: other rows hold the same, or there are too many"
    if made:
        yield f"version {made} is trained without the rows ({verdict})"
    else:
        yield f"no version without the rows is registered: the gate says {verdict}"
    if journal.remote_problem:
        yield (
            f"it is not known what DVC's remote still holds ({journal.remote_problem}); when it answers, delete it "
            "with: .venv/bin/tuneline forget --remote"
        )
    elif journal.in_remote and not journal.is_remote_done:
        places = list(journal.in_remote.values())
        yield (
            f"DVC's remote still holds {len(places)} objects made from the rows; delete them with: "
            ".venv/bin/tuneline forget --remote"
        )
        yield from (f"  {place}" for place in places[:_SHOWN])
        if len(places) > _SHOWN:
            yield f"  and {len(places) - _SHOWN} more, which --dry-run names"
    yield "the receipt is in the history (tuneline history); the key of its row digests is shown only here:"
    yield f"  {journal.salt}"
    recognised = rows - journal.unrecognisable
    yield (
        "the folder or file that the set was copied from still holds the rows if it did before: delete them there too; "
        f"the next `tuneline use` on this machine recognises {recognised} of them and leaves them out"
    )
    if journal.unrecognisable:
        yield (
            f"{journal.unrecognisable} of the rows cannot be recognised: their texts are short, or another row has them"
        )
    yield "git holds only hashes of sets under DVC. Backups, other clones and copies of the files are not reached."
