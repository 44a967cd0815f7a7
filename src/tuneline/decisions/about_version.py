"""All that the registry, git and DVC know about a version, as plain values for `show` and `diff`."""

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml.error import YAMLError

from tuneline import git, params
from tuneline.core import bounded_yaml
from tuneline.decisions import source_commit, sources, trusted_history
from tuneline.decisions.signature_policy import SIGNED
from tuneline.errors import BrokenVersionError, GitError, RegistryError, SignatureError, TunelineError
from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import METRICS
from tuneline.proofs import claims, keys
from tuneline.registry import cards, names, version_status, versions
from tuneline.registry.lineage import ENVIRONMENT_LOCKS, pinned
from tuneline.registry.tracking import Tracker
from tuneline.reporting.markdown import unescape

_CANDIDATE = "candidate."
_PROMOTION = "promotion."
_VERSUS = re.compile(r"versus_(\w+)\.(\w+)\.(difference|low|high)")
_LINE = re.compile(r"- (.*)")


@dataclass(frozen=True)
class Number:
    """A metric of a version."""

    metric: str
    name: str
    """The name that people read."""
    value: float
    others: Mapping[str, float]
    """base or a trivial baseline -> its value on the same rows."""
    versus: Mapping[str, Mapping[str, float]]
    """base or baseline -> difference, low and high of the 95 % interval."""


@dataclass(frozen=True)
class About:
    """All about a version."""

    model: str
    version: str
    registered: str
    """UTC, ISO 8601."""
    aliases: tuple[str, ...]
    verdicts: tuple[str, ...]
    """Of the gate; the first is the one with which it was registered."""
    broken: str | None
    """Why its files cannot be used, if that was found."""
    erased: str | None
    """Why its files were erased, if they were."""
    reasons: tuple[str, ...]
    """The reasons of the first verdict."""
    task: str
    rows: int | None
    """The rows that it was measured on."""
    numbers: tuple[Number, ...]
    data: Mapping[str, Any]
    base: Mapping[str, Any]
    code: Mapping[str, Any]
    environment: Mapping[str, Any]
    files: Mapping[str, Any]
    run: str | None
    """The training run."""
    promotion: Mapping[str, str]
    claims: tuple[Mapping[str, Any], ...]
    history: tuple[Mapping[str, Any], ...]
    """The entries of the model's history about this version."""
    notes: tuple[str, ...] = ()
    """What could not be found out, in sentences."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)


def find_number(tracker: Tracker, model: str, name: str) -> str:
    """The number of a version that is given by its number or by an alias.

    Args:
        tracker: the registry.
        model: the registered model's name.
        name: a number, such as 3 or v3, or an alias.

    Raises:
        RegistryError: the registry does not have the version, or no version has or can have the alias.
    """
    # MLflow keeps names such as v3 for numbers.
    if found := re.fullmatch("[vV]?0*([0-9]+)", name):
        tracker.version_tags(model, found[1])
        return found[1]
    if problem := names.alias_problem(name):
        raise RegistryError(f"{model}: {problem}")
    return versions.resolve_version(tracker, model, version=None, alias=name)


def collect(tracker: Tracker, model: str, version: str) -> About:
    """All about a version.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.

    Raises:
        RegistryError: the registry does not have the version.
        TrackingError: MLflow does not answer.
    """
    tags = tracker.version_tags(model, version)
    notes: list[str] = []
    metrics = tracker.version_metrics(model, version) or _metrics_of_run(tracker, tags.get(versions.RUN))
    commit = _source_commit(tags, notes)
    locks = read_locks(commit) if commit else {}
    rows = train_rows(tracker, model, version, notes)
    return About(
        model=model,
        version=version,
        registered=datetime.fromtimestamp(tracker.version_time(model, version), UTC).isoformat(timespec="seconds"),
        aliases=tuple(sorted(name for name, one in tracker.aliases(model).items() if one == version)),
        verdicts=version_status.verdicts(tags),
        broken=tags.get(version_status.BROKEN),
        erased=versions.erased(tags[version_status.ERASED]) if version_status.ERASED in tags else None,
        reasons=tuple(_reasons(tracker.version_description(model, version))),
        task=tags.get("4 task", ""),
        rows=int(metrics["rows"]) if "rows" in metrics else None,
        numbers=tuple(_numbers(metrics)),
        data={
            "set": tags.get("2 data"),
            "sha256": tags.get("tuneline.data_sha256"),
            "train_rows": rows.num_rows if rows is not None else None,
        },
        base={
            "base": tags.get("3 base"),
            "sha256": tags.get("tuneline.base_sha256"),
            "parents": [parent for parent in tags.get(versions.PARENTS, "").split(", ") if parent],
        },
        code={
            "commit": tags.get("tuneline.git_commit"),
            "uncommitted_changes": tags.get("tuneline.git_dirty"),
            "kept_in_commit": tags.get(versions.COMMIT),
            "source_commit": tags.get(source_commit.TAG),
            "ref": _ref(model, version, commit),
            "is_in_this_clone": commit is not None,
        },
        environment={"sha256": tags.get("tuneline.environment_sha256"), "packages": locks},
        files={
            "sha256": tags.get(versions.FILES),
            "model_sha256": tags.get("tuneline.model_sha256"),
            "signed_by": tags.get(SIGNED),
        },
        run=tags.get(versions.RUN),
        promotion={name: value for name, value in sorted(tags.items()) if name.startswith(_PROMOTION)},
        claims=tuple(_claims(tracker, model, version, notes)),
        history=tuple(_history(tracker, model, version, notes)),
        notes=tuple(dict.fromkeys(notes)),
        tags=dict(sorted(tags.items())),
    )


def _metrics_of_run(tracker: Tracker, run_id: str | None) -> dict[str, float]:
    """For versions whose metrics were not linked to their model; a later gate may have measured again."""
    found = tracker.run_metrics(run_id) if run_id else {}
    return {name.removeprefix(_CANDIDATE): value for name, value in found.items()}


def _numbers(metrics: Mapping[str, float]) -> Iterable[Number]:
    versus: dict[str, dict[str, dict[str, float]]] = {}
    for name, value in metrics.items():
        if match := _VERSUS.fullmatch(name):
            versus.setdefault(match[2], {}).setdefault(match[1], {})[match[3]] = value
    for metric, meaning in METRICS.items():
        if metric in metrics:
            others = {one: metrics[f"{one}.{metric}"] for one in MODELS if f"{one}.{metric}" in metrics}
            yield Number(metric, meaning.name, metrics[metric], others, versus.get(metric, {}))


def _reasons(description: str) -> Iterable[str]:
    """The reasons of the first verdict: the list that follows the line of the verdict."""
    blocks = description.split("\n\n")
    first = next((place for place, block in enumerate(blocks) if block.startswith("- ")), None)
    if first is None or cards.NEXT_STEPS in blocks[:first]:
        return
    for line in blocks[first].splitlines():
        if match := _LINE.fullmatch(line):
            yield unescape(match[1])


def _source_commit(tags: Mapping[str, str], notes: list[str]) -> str | None:
    """The commit with the version's sources, if this clone has it."""
    try:
        commit = sources.commit_of(tags)
        if git.has_commit(commit):
            return commit
        notes.append(
            f"the git commit {commit[:12]} with the version's sources is not in this clone; fetch it with: "
            ".venv/bin/tuneline pull"
        )
    except GitError as error:
        notes += error.problems
    return None


def _ref(model: str, version: str, commit: str | None) -> str | None:
    """The ref of this clone that points to the commit; None if no ref does, as with another registry's version."""
    if commit is None:
        return None
    usual = source_commit.ref_name(model, version)
    found = [name for name, sha in git.refs_below(f"{source_commit.REFS}/").items() if sha == commit]
    return usual if usual in found else next(iter(found), None)


def read_locks(commit: str) -> dict[str, str]:
    """The packages that the locks of a commit pin: name -> version, or several versions for several Pythons.

    Args:
        commit: its sha; this clone has it.

    Raises:
        GitError: git fails.
    """
    texts = [(git.content_of(commit, lock) or b"").decode("utf-8", "replace") for lock in ENVIRONMENT_LOCKS]
    return {name: ", ".join(pins) for name, pins in sorted(pinned("\n".join(texts)).items())}


def read_params(tracker: Tracker, model: str, version: str, notes: list[str]) -> dict[str, Any] | None:
    """The params of a version as its folder holds them; None if they cannot be read.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        notes: gets the reason if they cannot be read.
    """
    content = read_file(tracker, model, version, params.PARAMS_FILE, notes)
    if content is None:
        return None
    try:
        found = bounded_yaml.load(content.decode("utf-8"), "safe")
    except (YAMLError, UnicodeDecodeError):
        found = None
    if isinstance(found, dict):
        return found
    notes.append(f"{params.PARAMS_FILE} of version {version} cannot be read as params")
    return None


def read_lock(tracker: Tracker, model: str, version: str, notes: list[str]) -> dict[str, dict[str, Any]] | None:
    """The stages in dvc.lock of a version; None if they cannot be read. Arguments as for `read_params`."""
    content = read_file(tracker, model, version, "dvc.lock", notes)
    if content is None:
        return None
    try:
        found = bounded_yaml.load(content.decode("utf-8"), "safe")["stages"]
    except (YAMLError, UnicodeDecodeError, LookupError, TypeError):
        found = None
    if isinstance(found, dict) and all(map(_is_stage, found.values())):
        return found
    notes.append(f"dvc.lock of version {version} cannot be read")
    return None


def _is_stage(value: Any) -> bool:
    """Whether a value of dvc.lock names the inputs and outputs of a stage as DVC writes them."""
    if not isinstance(value, dict):
        return False
    named = [value.get(kind, []) for kind in ("deps", "outs")]
    return all(
        isinstance(listed, list) and all(isinstance(one, dict) and isinstance(one.get("path"), str) for one in listed)
        for listed in named
    )


def train_rows(tracker: Tracker, model: str, version: str, notes: list[str]) -> pa.Table | None:
    """The ids and clusters of the rows that a version was fine-tuned on. Arguments as for `read_params`."""
    content = read_file(tracker, model, version, versions.TRAIN_ROWS, notes)
    if content is None:
        return None
    try:
        return pq.read_table(io.BytesIO(content)).select(["id", "cluster"])
    except (pa.ArrowException, OSError, KeyError):
        notes.append(f"{versions.TRAIN_ROWS} of version {version} cannot be read")
        return None


def read_file(tracker: Tracker, model: str, version: str, name: str, notes: list[str]) -> bytes | None:
    """The bytes of a small file of a version; None, with a note, if it does not have the file any more.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        name: of the file.
        notes: gets the reason.
    """
    try:
        content = tracker.read_file(model, version, name)
    except BrokenVersionError as error:
        notes.append(f"version {version}: {error.reason}")
        return None
    if content is None:
        notes.append(f"{name} of version {version} is missing: its files were deleted or changed in MLflow's store")
    return content


def _claims(tracker: Tracker, model: str, version: str, notes: list[str]) -> Iterable[dict[str, Any]]:
    try:
        content = tracker.read_file(model, version, claims.CLAIMS)
        found = list(claims.parse(content, keys.trusted_keys(), claims.CLAIMS)) if content else []
    except BrokenVersionError:
        # Another note says so.
        return
    except SignatureError as error:
        notes += error.problems
        return
    for claim in found:
        yield {"type": claim.predicate_type, "is_signed": claim.is_signed, "signer": claim.signer}


def _history(tracker: Tracker, model: str, version: str, notes: list[str]) -> Iterable[dict[str, Any]]:
    try:
        past = trusted_history.read(tracker, model)
    except TunelineError as error:
        notes += error.problems
        return
    notes += past.found.problems
    for entry in past.found.entries:
        if version in (entry.before, entry.after):
            yield {
                "number": entry.number,
                "time": entry.time,
                "action": entry.action,
                "alias": entry.alias,
                "before": entry.before,
                "after": entry.after,
                "who": entry.who,
                "reason": entry.reason,
                "counts": past.is_believed(entry),
            }
