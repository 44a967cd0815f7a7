"""Builds a version again from its sources, in a folder of its own and without any cache, and compares the bytes."""

import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from tuneline import git, processes, progress
from tuneline.core import files
from tuneline.decisions import signature_policy, source_commit, sources, tensors, unfinished_erasure
from tuneline.decisions.sources import Source
from tuneline.environment import ENV_FILE
from tuneline.errors import PipelineError, RegistryError, SetupError, SignatureError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph, objects, repro
from tuneline.pipeline.repro import Elsewhere
from tuneline.proofs import claims, keys
from tuneline.proofs.keys import PrivateKey
from tuneline.registry import history, versions
from tuneline.registry.history import History
from tuneline.registry.lineage import ENVIRONMENT_LOCKS, pinned
from tuneline.registry.tracking import Tracker
from tuneline.training import checkpoints
from tuneline.work import WORK

PREDICATE = "urn:tuneline:reproduction:v1"
"""The type of the claim about a rebuild."""
CLAIM = "claim.jsonl"
"""The name of the claim in the history's entry."""
KEPT = WORK / "rebuilt"
"""The folder of rebuilds that a person wants to keep."""
_IDENTICAL = "identical"
# An entry's reason, from which `rebuilds_of` counts; the entry is part of the history's chain of hashes.
_REASON = re.compile(rf"{_IDENTICAL}, in clone (?P<clone>[0-9a-f]{{12}}) on machine [0-9a-f]{{12}}")
# Variables of this project and of its tools, which the other folder sets for itself.
_OWN = ("MLFLOW_", "PREFECT_", "TUNELINE_", "DVC_", "GIT_", "HF_HOME", "PYTHONPATH")
_SPARE = 200 * 10**6
"""Bytes that a rebuild needs besides its files."""
_NAMED = 20


@dataclass(frozen=True)
class Rebuild:
    """The outcome of building a version again."""

    comparison: tensors.Comparison
    reasons: tuple[str, ...]
    """Where the bytes differ: which stage was the first to make other bytes, and why that is expected, in sentences."""
    seconds: Mapping[str, float]
    """Stage -> how long it took."""
    kept: Path | None
    """The folder of the rebuild; None if it was removed."""
    claim: Mapping[str, Any] = field(default_factory=dict)
    """The in-toto statement about it."""


def reproduce(
    p: Params,
    tracker: Tracker,
    version: str,
    *,
    log: Callable[[str], None],
    with_env: bool = False,
    from_hub: bool = False,
    keep: bool = False,
    unsigned: bool = False,
) -> Rebuild:
    """Build a version again and compare it with the registered files; writes an entry into the history.

    The project's workspace, its pipeline and its caches stay as they are, so a training can run meanwhile.

    Args:
        p: the params of today, which name the model.
        tracker: the registry.
        version: the number of the version.
        log: called with each line about the progress.
        with_env: build a Python environment from the locks of the version, instead of using this one.
        from_hub: fetch a base that came from a model hub from there again, instead of from DVC's cache or remote.
        keep: keep the folder of the rebuild.
        unsigned: run the code of a version that no trusted key has signed, although the project has keys.

    Raises:
        BrokenVersionError: the files of the version have changed or are gone.
        GitError: the sources of the version are missing in git, or git fails.
        PipelineError: data are missing, or something differs from what the version was made from, or a stage failed.
        RegistryError: the registry does not have the version.
        SetupError: there is not enough space on the disk.
        SignatureError: the project has keys, and none of them has signed which commit the version was made from.
        TrackingError: MLflow does not answer.
    """
    model = p.registry.model
    tags = tracker.version_tags(model, version)
    registered = versions.fetch_version(tracker, model, version)
    _refuse_unsigned(f"{model} version {version}", registered, tags, unsigned=unsigned)
    source = sources.find(tags, source_commit.ref_name(model, version))
    log(f"{model} version {version}, from the git commit {source.commit[:12]}")
    with _checked_out(source, model, version, keep=keep) as folder:
        place = _prepare_environment(folder, source, log, with_env=with_env, from_hub=from_hub)
        made_before = _fetch_data(source, folder, log, from_hub=from_hub)
        _refuse_changes(place, source)
        for line in _neighbours():
            log(line)
        began = datetime.now(UTC)
        seconds = _run_stages(source, place, log, left_out=made_before)
        finetuned = folder / source.recorded.values["paths"]["finetuned"]
        compared = tensors.compare(finetuned, registered, ignored=_not_of_model(finetuned, registered))
        reasons = () if compared.is_identical else tuple(_explain(source, folder))
        rebuild = Rebuild(compared, reasons, seconds, folder if keep else None)
        return replace(rebuild, claim=_claim(model, version, tags, source, rebuild, folder, began))


def _refuse_unsigned(name: str, folder: Path, tags: Mapping[str, str], *, unsigned: bool) -> None:
    """Raise where a person who can only write to the registry may have chosen the code: the tag names the commit."""
    if problem := signature_policy.wrong_signature(folder, tags):
        raise SignatureError(f"{name}: {problem}; its code is not run")
    if not unsigned and signature_policy.signature_problem(folder, tags):
        raise SignatureError(
            f"{name}: no key in {keys.TRUSTED} has signed it, so everyone who can write to the registry may have "
            "chosen its code, which is not run; look at the code with: git show "
            f"{tags.get(source_commit.TAG, '')[:40]}; to run it all the same, use --unsigned"
        )


def record(tracker: Tracker, model: str, version: str, rebuild: Rebuild, key: PrivateKey | None) -> history.Entry:
    """Write a rebuild into the history of the model, with its claim.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: the number of the version.
        rebuild: the outcome.
        key: signs the claim; None: it stays unsigned.

    Raises:
        TrackingError: MLflow does not answer.
    """
    clone, machine = place()
    where = f"in clone {clone} on machine {machine}"
    reason = (
        f"{_IDENTICAL}, {where}"
        if rebuild.comparison.is_identical
        else f"different, {where}: {'; '.join([*rebuild.comparison.shown(), *rebuild.reasons])}"
    )
    evidence = {CLAIM: claims.as_line(rebuild.claim, key)}
    return history.append(tracker, model, action=history.REPRODUCED, after=version, reason=reason, evidence=evidence)


def rebuilds_of(past: History, model: str, version: str, tracker: Tracker | None = None) -> int:
    """How many independent rebuilds of a version ended in identical bytes.

    Rebuilds are independent if they ran in different clones of the project; clones on different machines are different.
    The clone itself says which it is: it is a safeguard against chance and mistakes, and no proof against a person who
    may write into the history.

    Args:
        past: the history of the model.
        model: the registered model's name.
        version: the number of the version.
        tracker: the registry; if it is given and the project trusts keys, only rebuilds count whose claim one of them
            has signed.

    Raises:
        TrackingError: MLflow does not answer.
    """
    entries = [entry for entry in past.entries if entry.action == history.REPRODUCED and entry.after == version]
    trusted = keys.trusted_keys()
    if tracker and trusted:
        name = f"{model}/{version}/"
        sha256 = tracker.version_tags(model, version).get(versions.FILES, "") if entries else ""
        subject = {"name": name, "digest": claims.digest_of(name, sha256)}
        entries = [entry for entry in entries if _is_signed(tracker, entry, trusted, subject)]
    matches = (_REASON.match(entry.reason) for entry in entries)
    return len({match["clone"] for match in matches if match})


def _is_signed(tracker: Tracker, entry: history.Entry, trusted: Sequence[Path], subject: Mapping[str, object]) -> bool:
    """Whether a trusted key has signed the claim of an entry, and the claim is about this version and says the same."""
    try:
        content = history.read_evidence(tracker, entry).get(CLAIM, b"")
        (claim,) = claims.parse(content, trusted, f"entry {entry.number}: {CLAIM}")
    except (RegistryError, SignatureError, ValueError):
        # A missing, changed, unsigned or repeated claim; `tuneline history` names the first two.
        return False
    said, match = claim.predicate, _REASON.match(entry.reason)
    place = said.get("place")
    return (
        # Without a signer the claim is a plain statement.
        claim.signer is not None
        and claim.predicate_type == PREDICATE
        # The claim about another model, or about other files of the same number, was copied here.
        and subject in claim.statement["subject"]
        and said.get("version") == entry.after
        and said.get("result") == _IDENTICAL
        and isinstance(place, dict)
        and match is not None
        and place.get("clone") == match["clone"]
    )


@contextmanager
def _checked_out(source: Source, model: str, version: str, *, keep: bool) -> Iterator[Path]:
    """The sources of a version in a folder of their own; it is removed at the end unless it is to be kept."""
    with ExitStack() as stack:
        # While this folder is there, no erasure begins: it writes its journal, and then looks for such folders.
        parent, name = stack.enter_context(files.temporary_folder()), model
        if problem := unfinished_erasure.problem():
            raise PipelineError(f"{problem}; then run this again")
        if keep:
            parent = KEPT.absolute()
            parent.mkdir(parents=True, exist_ok=True)
            name = f"{model}-v{version}"
            if (parent / name).exists():
                raise SetupError(f"{KEPT / name}: exists; remove it with: git worktree remove --force {KEPT / name}")
        _check_space(source, parent)
        yield stack.enter_context(git.worktree(source.commit, parent / name, keep=keep)).resolve()


def _check_space(source: Source, parent: Path) -> None:
    recorded = source.recorded
    entries = [entry for name in recorded.stage_names() for entry in recorded.locked.get(name, {}).get("outs", [])]
    entries += [entry for pointer in recorded.pointers.values() for entry in pointer.get("outs", [])]
    entries = [entry for entry in entries if isinstance(entry.get("size"), int)]
    # A training keeps two checkpoints; each holds the weights and an optimizer with two numbers per weight.
    model = sum(entry["size"] for entry in entries if entry.get("path") == recorded.values["paths"]["finetuned"])
    needed = 2 * sum(entry["size"] for entry in entries) + 6 * model + _SPARE
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise SetupError(
            f"{parent}: {free / 1e9:,.1f} GB are free, and building the version again needs about "
            f"{needed / 1e9:,.1f} GB; free some, for example with: .venv/bin/tuneline gc"
        )


def _prepare_environment(
    folder: Path, source: Source, log: Callable[[str], None], *, with_env: bool, from_hub: bool
) -> Elsewhere:
    """The Python of the rebuild, which stages find as .venv in their folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    variables |= {
        "TUNELINE_ROOT": str(folder),
        # A registry of its own: the stage finetune writes its run into it.
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/store/mlflow.db",
        "DVC_SITE_CACHE_DIR": str(folder / "work/dvc"),
        "DVC_NO_ANALYTICS": "true",
    }
    if not from_hub:
        variables["HF_HUB_OFFLINE"] = "1"
    if not (folder / ENV_FILE).is_file():
        # It was not kept because it holds a password.
        (folder / ENV_FILE).parent.mkdir(exist_ok=True)
        shutil.copyfile(ENV_FILE, folder / ENV_FILE)
    venv = folder / ".venv"
    if with_env:
        _build_environment(folder, variables, log)
    else:
        venv.symlink_to(sys.prefix)
        locks = [git.content_of(source.commit, name) or b"" for name in ENVIRONMENT_LOCKS]
        for line in environment_differences(b"\n".join(locks).decode("utf-8", "replace")):
            log(f"note: {line}")
    return Elsewhere(folder, venv / "bin" / "python", folder / "src", variables)


def _build_environment(folder: Path, variables: Mapping[str, str], log: Callable[[str], None]) -> None:
    choice = Path(sys.prefix, "torch-choice")
    torch = {"TORCH": choice.read_text("utf-8").strip()} if choice.is_file() else {}
    log("building the Python environment of the version from its locks")
    last = ""
    group = processes.process_group(
        ["sh", str(folder / "scripts/setup.sh")], folder=folder, variables={**variables, **torch}
    )
    with group as process:
        assert process.stdout is not None
        for line in map(str.rstrip, process.stdout):
            last = line or last
            log(line)
    if process.returncode != 0:
        raise SetupError(f"the Python environment of the version cannot be built from its locks: {last}")


def environment_differences(locks: str) -> list[str]:
    """How the installed packages differ from those that a version was made with, a line per package.

    Args:
        locks: the text of its locks.
    """
    found = []
    for name, wanted in sorted(pinned(locks).items()):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        # The part after + names the build, such as 2.13.0+cpu.
        if installed.partition("+")[0] not in {one.partition("+")[0] for one in wanted}:
            found.append(
                f"{name} {installed} is installed, and the version was made with {' or '.join(sorted(wanted))}"
            )
    more = [f"and {len(found) - _NAMED} more packages differ"] if len(found) > _NAMED else []
    remedy = ["to build it with the packages of its locks, use --with-env"] if found else []
    return [*found[:_NAMED], *more, *remedy]


def _fetch_data(source: Source, folder: Path, log: Callable[[str], None], *, from_hub: bool) -> set[str]:
    """Lay out what no stage makes; returns the stages whose outputs are taken over."""
    base = [] if from_hub else source.downloaded_base()
    wanted = [*source.recorded.inputs(), *base]
    for output in wanted:
        # A commit can hold any path and any link.
        if not (folder / output.path).resolve().is_relative_to(folder):
            raise PipelineError(
                f"{output.path}: {output.keeper} names a place outside of the project; do not build this"
            )
    fresh = folder / ".dvc/cache/files/md5"
    caches = [fresh, dvc_files.cache_folder()]
    lost = {output: md5s for output in wanted if (md5s := objects.copy_verified(output, caches, folder / output.path))}
    if lost and dvc_files.has_remote():
        md5s = [md5 for found in lost.values() for md5 in found]
        log(f"fetching {', '.join(output.path for output in lost)} from the remote '{objects.remote_name()}'")
        objects.pull_objects(md5s, into=fresh)
        lost = {
            output: left for output in lost if (left := objects.copy_verified(output, caches, folder / output.path))
        }
    if lost:
        raise PipelineError(*(sources.lost_data(output, md5s) for output, md5s in lost.items()))
    for output in wanted:
        log(f"{output.path}: its bytes are those that {output.keeper} records")
    return {output.keeper for output in base}


def _refuse_changes(place: Elsewhere, source: Source) -> None:
    """Raise where code, params, locks or data are not those that dvc.lock records of the version."""
    last = source.recorded.stage_names()[-1]
    changed = repro.changed_inputs(place, last)
    if changed:
        raise PipelineError(
            *(f"stage {name}: {reason}" for name, reasons in changed.items() for reason in reasons),
            f"so the git commit {source.commit[:12]} is not what the version was made from, and nothing is built",
        )


def _neighbours() -> Iterator[str]:
    if processes.is_running(checkpoints.LOCK):
        yield "note: a training of this project is running; both share the cores and the memory, so both take longer"


def _run_stages(
    source: Source, place: Elsewhere, log: Callable[[str], None], *, left_out: set[str]
) -> dict[str, float]:
    names = [name for name in source.recorded.stage_names() if name not in left_out]
    seconds = {}
    for number, name in enumerate(names, 1):
        log(f"[{number}/{len(names)}] {name}")
        began = time.monotonic()
        try:
            repro.build_anew(name, place, lambda line: log(f"  {line}"))
        except PipelineError as error:
            raise PipelineError(f"stage {name} of the version failed:", *error.problems) from None
        seconds[name] = time.monotonic() - began
        log(f"[{number}/{len(names)}] {name}: {progress.duration(seconds[name])}")
    return seconds


def _not_of_model(made: Path, registered: Path) -> list[str]:
    """The files that a version holds besides its model."""
    own = files.sha256_tree(made)
    return [name for name in files.sha256_tree(registered) if name not in own and not name.endswith(".safetensors")]


def _explain(source: Source, folder: Path) -> Iterator[str]:
    """Why a rebuild has ended in other bytes: the first stage with other outputs, and the surroundings that differ."""
    recorded = source.recorded
    locked = graph.parse_yaml((folder / "dvc.lock").read_bytes(), "dvc.lock", "build it again")["stages"]
    read = {entry["path"] for stage in recorded.locked.values() for entry in stage.get("deps", [])}
    read.add(recorded.values["paths"]["finetuned"])
    for name in recorded.stage_names():
        before = {entry["path"]: entry.get("md5") for entry in recorded.locked.get(name, {}).get("outs", [])}
        after = {entry["path"]: entry.get("md5") for entry in locked.get(name, {}).get("outs", [])}
        used = (path for path in before if read & {path, PurePosixPath(path).parent.as_posix()})
        if wrong := [path for path in used if before[path] != after.get(path)]:
            yield f"stage {name} is the first that has made other bytes: {', '.join(wrong)}"
            if name == "sample":
                yield "it reads the sources of the installed Python and libraries, which are other versions here"
            break
    yield from _other_surroundings(source, folder)


def _other_surroundings(source: Source, folder: Path) -> Iterator[str]:
    now = _surroundings(folder / source.recorded.values["paths"]["reports"] / "training.json")
    yield from compare_surroundings(now, _registered_surroundings(source, folder))


def compare_surroundings(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Whether other bytes are expected of a training, in sentences.

    Args:
        now: the surroundings of this training, as in training.json.
        before: those of the version; empty if they are not known.
    """
    if not now or not before:
        return ["on which processor and with which libraries the version was made is not known: its report is gone"]
    found = []
    if now.get("python") != before.get("python"):
        found.append(f"Python {now.get('python')} here, and {before.get('python')} there")
    if now.get("processor") != before.get("processor"):
        kinds = [" ".join(map(str, one.get("processor", []))) for one in (now, before)]
        found.append(
            f"the processor computes with {kinds[0]} here, and with {kinds[1]} there: other instruction sets round "
            "differently, which `compute.portable: true` prevents for versions that are trained with it"
        )
    libraries = [one.get("libraries", {}) for one in (now, before)]
    found += [
        f"{name} {libraries[0].get(name)} here, and {libraries[1].get(name)} there; use --with-env"
        for name in sorted(libraries[0].keys() | libraries[1].keys())
        if libraries[0].get(name) != libraries[1].get(name)
    ]
    if found:
        return ["that is expected, because the version was made in other surroundings:", *found]
    return [
        "Python, libraries, kind of processor and number of threads are equal here and there, so no difference is "
        "expected; build it again, and if it differs again, test the memory of both machines"
    ]


def _surroundings(report: Path) -> dict[str, Any]:
    return files.read_object(report).get("surroundings", {}) if report.is_file() else {}


def _registered_surroundings(source: Source, folder: Path) -> dict[str, Any]:
    place = f"{source.recorded.values['paths']['reports']}/training.json"
    output = next((one for one in source.recorded.outputs() if one.path == place), None)
    fresh = folder / ".dvc/cache/files/md5"
    caches = [fresh, dvc_files.cache_folder()]
    target = folder / "work/registered-training.json"
    if output is None:
        return {}
    if objects.copy_verified(output, caches, target) and dvc_files.has_remote():
        objects.pull_objects([output.md5], into=fresh)
        objects.copy_verified(output, caches, target)
    return _surroundings(target)


def place() -> tuple[str, str]:
    """Names of this clone and of this machine, as digests: the history tells neither paths nor hosts by them."""
    try:
        machine = Path("/etc/machine-id").read_text("ascii").strip() or platform.node()
    except OSError:
        machine = platform.node()
    repository = Path(git.ask("rev-parse", "--git-common-dir") or ".").resolve()
    texts = (f"{machine} {repository}", machine)
    clone, here = (hashlib.sha256(f"tuneline {text}".encode()).hexdigest()[:12] for text in texts)
    return clone, here


def _claim(
    model: str,
    version: str,
    tags: Mapping[str, str],
    source: Source,
    rebuild: Rebuild,
    folder: Path,
    began: datetime,
) -> dict[str, Any]:
    clone, machine = place()
    paths = source.recorded.values["paths"]
    compared = rebuild.comparison
    subject = {f"{model}/{version}/": tags[versions.FILES], **files.sha256_tree(folder / paths["finetuned"])}
    predicate = {
        "model": model,
        "version": version,
        "result": _IDENTICAL if compared.is_identical else "different",
        "sourceCommit": source.commit,
        "tensors": compared.tensors,
        "otherFiles": compared.others,
        "differences": compared.shown(),
        "reasons": list(rebuild.reasons),
        "place": {"clone": clone, "machine": machine},
        "surroundings": _surroundings(folder / paths["reports"] / "training.json"),
        "seconds": {name: round(value, 1) for name, value in rebuild.seconds.items()},
        "startedOn": began.isoformat(timespec="seconds"),
        "finishedOn": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return claims.statement(PREDICATE, subject, predicate)
