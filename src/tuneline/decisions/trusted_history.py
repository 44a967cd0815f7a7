"""What of a history is believed. With a key in mlflow/keys, an entry without a signed claim does not make a champion.

Everyone who can write to MLflow can add an entry that says that a version was verified. A claim is bound to its entry
by the number of the entry, the sha256 of the previous entry and the start of the history, and to the version by the
digest of its files and its source: a copy of a claim counts nowhere else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tuneline.core import files
from tuneline.decisions import signature_policy
from tuneline.errors import RegistryError, SignatureError
from tuneline.proofs import claims, keys
from tuneline.proofs.claims import Claim
from tuneline.proofs.keys import PrivateKey, PublicKey
from tuneline.registry import history, names, versions
from tuneline.registry.cards import CHAMPION
from tuneline.registry.chain import Entry, Slot
from tuneline.registry.history import History
from tuneline.registry.tracking import Tracker
from tuneline.work import WORK

CLAIM = "claim.jsonl"
"""The name of a claim among the files of an entry."""
PROMOTION = "urn:tuneline:promotion:v1"
"""The predicate of the claim that a version was verified, overridden, rolled back or undone."""
ACCEPTANCE = "urn:tuneline:acceptance:v1"
"""The predicate of the claim with which a person accepts unsigned entries."""
UNSIGNED = (
    f"this machine does not have the private part of a key in {keys.TRUSTED}, so its entry of the history is unsigned: "
    "only this clone believes it, and other clones verify the version again"
)
"""What a person must know who decides without a key in a project with keys."""
_OWN = WORK / "own-entries.json"
"""The unsigned entries of this clone, for a project whose keys are on other machines only."""
_MOST_OWN = 1000


@dataclass(frozen=True)
class TrustedHistory:
    """A history, and which of its entries are believed."""

    tracker: Tracker
    model: str
    found: History
    """All entries."""
    trusted: Sequence[PublicKey]
    """The public keys of the project; empty: every entry is believed."""
    _claims: dict[str, Claim | None] = field(default_factory=dict, repr=False)

    def is_believed(self, entry: Entry) -> bool:
        """Whether an entry that gives an alias to a version counts; other entries always do."""
        if entry.action not in history.GIVEN or not self.trusted:
            return True
        return self.voucher(entry) is not None or entry.content in self._own

    def voucher(self, entry: Entry) -> str | None:
        """The name of the trusted key that has signed the claim of an entry or has accepted it; None if none has."""
        claim = self._claim(entry)
        signer = claim.signer if claim and _says(claim, entry, self.found.start) else None
        return signer or self._accepted.get(entry.content)

    def is_own(self, entry: Entry) -> bool:
        """Whether this clone has written the entry without a key, and believes itself."""
        return entry.content in self._own

    def unsigned(self) -> list[Entry]:
        """The entries that gave an alias to a version and for which no trusted key vouches; empty without keys."""
        if not self.trusted:
            return []
        return [entry for entry in self.found.entries if entry.action in history.GIVEN and self.voucher(entry) is None]

    def unsigned_kept(self, alias: str, undone: str) -> Entry | None:
        """The entry that says which version was kept last, if it does not count because no trusted key has signed it.

        Args:
            alias: the alias.
            undone: a version that is not meant.

        Returns:
            The entry; None if the last entry counts, or says that the alias was removed.
        """
        entries = (entry for entry in reversed(self.found.entries) if entry.alias == alias)
        settled = (entry for entry in entries if entry.action in history.SETTLED and entry.after != undone)
        entry = next(settled, None)
        if entry is None or entry.action not in history.GIVEN or self.is_believed(entry):
            return None
        return entry

    def believed(self) -> History:
        """The history without the entries that do not count."""
        return replace(self.found, entries=tuple(entry for entry in self.found.entries if self._counts(entry)))

    def last(self, alias: str, actions: Sequence[str]) -> Entry | None:
        """The last entry with one of these actions that counts; None if there is none."""
        about = (entry for entry in reversed(self.found.entries) if entry.alias == alias and entry.action in actions)
        return next((entry for entry in about if self._counts(entry)), None)

    def verified(self, alias: str) -> str | None:
        """The version that the system last kept under the alias, if its files are still those that were verified.

        Else the nearest verified version before it whose files are; None if the alias was removed, or never kept.
        """
        # From the end: each claim is a file that is fetched, and a history may be long.
        entry = self.last(alias, history.SETTLED)
        last = entry.after if entry and entry.action in history.GIVEN else None
        if last is None or self.exchanged(last) is None:
            return last
        return next(reversed(self.kept_versions(alias)), None)

    def kept_versions(self, alias: str) -> list[str]:
        """The versions that were kept under the alias, exist and were not exchanged; the last one last.

        That a person has removed the alias meanwhile changes nothing.
        """
        found = history.kept_versions(self.believed(), alias)
        return [one for one in found if one in self._sources and self.exchanged(one) is None]

    def compared_with(self, alias: str, version: str, log: Callable[[str], None] = lambda _: None) -> str | None:
        """The version with which a version is compared before it gets the alias.

        It is the version that was kept last under the alias, exists, was not erased, and whose files are as registered:
        whoever removes the alias, or deletes the last champion, does not avoid the comparison.

        Args:
            alias: the alias.
            version: that is compared; with itself it is not.
            log: called with a line for each version whose files cannot be used.

        Returns:
            Its number; None if there is no such version.
        """
        for one in reversed(self.kept_versions(alias)):
            if one == version:
                continue
            damage = signature_policy.find_damage(self.tracker, self.model, one)
            if damage is None:
                return one
            log(f"version {one}, which was {alias}, cannot be compared with version {version}: {damage}")
        return None

    def earlier_versions(self, alias: str) -> list[str]:
        """The versions to which a rollback leads, the nearest last, as `history.earlier_versions` has them."""
        found, now = history.earlier_versions(self.believed(), alias), self.verified(alias)
        return found[: found.index(now)] if now in found else found

    def exchanged(self, version: str) -> str | None:
        """That the files of a version are not those that were verified, with the digest in its tags; or None.

        Whoever can exchange the files in MLflow's store can exchange the digest beside them. The claim in the history
        holds the digest of the files that were verified.
        """
        found = [entry for entry in self.found.entries if entry.after == version and entry.action in history.GIVEN]
        if not found or version not in self._sources:
            return None
        now = self.tracker.version_tags(self.model, version).get(versions.FILES)
        for entry in reversed(found):
            if not self._counts(entry) or (claim := self._claim(entry)) is None:
                continue
            was = _folder_digest(claim)
            if was and was != now:
                return (
                    f"its files have the digest {(now or 'none')[:12]}…, and those that were {entry.action} at "
                    f"{entry.time[:16].replace('T', ' ')} UTC had {was[:12]}… (entry {entry.number} of the history): "
                    "its files and its tags were exchanged together in MLflow"
                )
        return None

    def _counts(self, entry: Entry) -> bool:
        return self.is_believed(entry) and self._is_about_present_version(entry)

    def _is_about_present_version(self, entry: Entry) -> bool:
        """Whether the number of the version in an entry still means the same version.

        A registered model that was deleted and made again begins with version 1.
        """
        if entry.action not in history.GIVEN or (claim := self._claim(entry)) is None:
            return True
        source = claim.predicate.get("source")
        return not source or self._sources.get(str(entry.after), source) == source

    @cached_property
    def _sources(self) -> Mapping[str, str]:
        return self.tracker.version_sources(self.model)

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(_read_own())

    @cached_property
    def _accepted(self) -> Mapping[str, str]:
        """The sha256 of what each accepted entry held -> name of the key."""
        found: dict[str, str] = {}
        for entry in self.found.entries:
            claim = self._claim(entry) if entry.action == history.ACCEPTED else None
            if claim and claim.signer and claim.predicate_type == ACCEPTANCE and _is_in(claim, entry, self.found.start):
                found |= {one["digest"].get("sha256", ""): claim.signer for one in claim.statement["subject"]}
        return found

    def _claim(self, entry: Entry) -> Claim | None:
        """The claim of an entry, with its signer; None if it has none, or it cannot be read."""
        if entry.sha256 not in self._claims:
            self._claims[entry.sha256] = self._read_claim(entry) if CLAIM in entry.evidence else None
        return self._claims[entry.sha256]

    def _read_claim(self, entry: Entry) -> Claim | None:
        try:
            content = history.read_evidence(self.tracker, entry, [CLAIM])[CLAIM]
            found = list(claims.parse(content, [key.path for key in self.trusted], CLAIM))
        except (RegistryError, SignatureError):
            return None
        return found[0] if len(found) == 1 else None


def read(tracker: Tracker, model: str, found: History | None = None) -> TrustedHistory:
    """The history of a model, with what this project believes of it.

    Args:
        tracker: the registry.
        model: the registered model's name.
        found: the history, if it was read already.

    Raises:
        SignatureError: a key in mlflow/keys cannot be read.
    """
    entries = history.read(tracker, model) if found is None else found
    return TrustedHistory(tracker, model, entries, keys.read_publics(keys.trusted_keys()))


def unverified_note(tracker: Tracker, model: str, version: str) -> str | None:
    """A sentence about a champion that is not verified; None if it is, or if promotions were never verified here.

    What the tags of the version say is not believed: everyone who can write to MLflow can write them.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: the champion.
    """
    past = read(tracker, model)
    if not past.found.entries or past.verified(CHAMPION) == version:
        return None
    return f"version {version} is {CHAMPION} and is not verified yet; verify it with: tuneline verify"


def promotion_statement(
    model: str, version: str, sha256: str, source: str, slot: Slot, said: Mapping[str, Any]
) -> dict[str, Any]:
    """The in-toto statement of an entry about a version.

    Args:
        model: the registered model's name.
        version: its number.
        sha256: the digest of its files.
        source: where MLflow says that its files are: no other version has the same.
        slot: the place of the entry in the history.
        said: what else is claimed.
    """
    place = {**_place(slot), "source": source}
    return claims.statement(PROMOTION, {f"{model}/{version}/": sha256}, {**said, **place})


def accept(past: TrustedHistory, reason: str, key: PrivateKey) -> Entry | None:
    """Add an entry with a signed claim that accepts all unsigned entries: they count from then on.

    Args:
        past: the history.
        reason: of the person.
        key: signs the claim.

    Returns:
        The entry; None if no entry is unsigned.
    """
    unsigned = past.unsigned()
    if not unsigned:
        return None
    subject = {f"{past.model}-history/{entry.number}": entry.content for entry in unsigned}
    numbers = ", ".join(str(entry.number) for entry in unsigned)

    def evidence(slot: Slot) -> Mapping[str, bytes]:
        said = {"reason": names.storable(reason), "decidedOn": datetime.now(UTC).isoformat(timespec="seconds")}
        return {CLAIM: claims.as_line(claims.statement(ACCEPTANCE, subject, {**said, **_place(slot)}), key)}

    text = f"{reason} (unsigned: {numbers})"
    return history.append(past.tracker, past.model, action=history.ACCEPTED, reason=text, evidence=evidence)


def remember(entry: Entry) -> None:
    """Note that this clone has written an entry for which it has no key: it believes itself, and others do not."""
    files.write_json(_OWN, [*_read_own(), entry.content][-_MOST_OWN:])


def _read_own() -> list[str]:
    try:
        found = files.read_json(_OWN)
    except (OSError, ValueError):
        # It may be deleted at any time: the champion is verified once more.
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _place(slot: Slot) -> dict[str, Any]:
    return {"entry": slot.number, "previousEntry": slot.previous, "history": slot.start}


def _is_in(claim: Claim, entry: Entry, start: str) -> bool:
    """Whether a claim was made for this place of this history."""
    wanted = _place(Slot(entry.number, entry.previous, start))
    return {name: claim.predicate.get(name) for name in wanted} == wanted


def _says(claim: Claim, entry: Entry, start: str) -> bool:
    """Whether a claim about a promotion belongs to an entry, and says the same."""
    version = entry.before if entry.action == history.UNDONE else entry.after
    wanted = {"version": version, "alias": entry.alias, "action": entry.action, "decidedBy": entry.who}
    return (
        claim.predicate_type == PROMOTION
        and {name: claim.predicate.get(name) for name in wanted} == wanted
        and _is_in(claim, entry, start)
        and any(name.endswith(f"/{version}/") for name, _ in _folders(claim))
    )


def _folders(claim: Claim) -> Iterator[tuple[str, str]]:
    for one in claim.statement["subject"]:
        if sha256 := one.get("digest", {}).get(claims.FOLDER_DIGEST):
            yield one.get("name", ""), sha256


def _folder_digest(claim: Claim) -> str | None:
    """The digest of the version's files that a claim is about."""
    return next((sha256 for _, sha256 in _folders(claim)), None)
