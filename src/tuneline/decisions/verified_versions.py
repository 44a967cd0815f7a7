"""The folders of versions that another command builds on: each is there, whole, and signed if it must be."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from tuneline import params
from tuneline.core import bounded_yaml
from tuneline.decisions import about_version, signature_policy
from tuneline.errors import BrokenVersionError, RegistryError
from tuneline.params import Params
from tuneline.proofs import keys
from tuneline.registry import versions
from tuneline.registry.tracking import Tracker


@dataclass(frozen=True)
class VerifiedVersion:
    """A version whose files are as they were registered."""

    version: str
    folder: Path
    """Its files; nobody may change them."""
    tags: dict[str, str]
    values: dict[str, Any]
    """What its params.yaml says."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"version {self.version}"


def load(p: Params, tracker: Tracker, named: Sequence[str]) -> tuple[list[VerifiedVersion], list[str]]:
    """The verified versions of the registered model, and what is wrong with the others.

    Args:
        p: the params.
        tracker: the registry.
        named: numbers or aliases.

    Returns:
        The versions that can be used, in the order in which they are named; and problems in sentences with the remedy.

    Raises:
        TrackingError: MLflow does not answer.
    """
    found: list[VerifiedVersion] = []
    problems: list[str] = []
    known: dict[str, str] = {}
    for name in named:
        try:
            version = about_version.find_number(tracker, p.registry.model, name)
        except RegistryError as error:
            problems += error.problems
            continue
        if version in known:
            problems.append(f"version {version} is named twice ({known[version]} and {name}); name different versions")
            continue
        known[version] = name
        try:
            found.append(_load(p, tracker, version))
        except RegistryError as error:
            problems += error.problems
    return found, problems


def _load(p: Params, tracker: Tracker, version: str) -> VerifiedVersion:
    name = f"{p.registry.model} version {version}"
    try:
        folder = versions.fetch_version(tracker, p.registry.model, version)
    except BrokenVersionError as error:
        raise RegistryError(f"{error}; name another version") from None
    tags = tracker.version_tags(p.registry.model, version)
    if problem := signature_policy.wrong_signature(folder, tags):
        raise RegistryError(f"{name}: {problem}; use another version")
    if signature_policy.signature_problem(folder, tags):
        raise RegistryError(
            f"{name}: no key in {keys.TRUSTED} has signed it, so everyone who can write to the registry may have made "
            "it; use a signed version"
        )
    try:
        values = bounded_yaml.load((folder / params.PARAMS_FILE).read_text("utf-8"), "safe")
    except (OSError, YAMLError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict):
        raise RegistryError(f"{name}: holds no {params.PARAMS_FILE} that can be read; use another version")
    return VerifiedVersion(version, folder, tags, values)
