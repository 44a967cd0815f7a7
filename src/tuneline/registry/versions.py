"""Versions of the registered model: how a version is made exactly once, what it holds, and how it is fetched."""

import difflib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.errors import BrokenVersionError, RegistryError, UnreadableFileError
from tuneline.fusion.merging import merge_recipe
from tuneline.modeling import unsafe_files
from tuneline.params.data import PRETRAINING
from tuneline.registry import abandoned, cards, measured, version_files, version_status, weights
from tuneline.registry.lineage import Lineage, code_url
from tuneline.registry.runs import Dataset, Subject
from tuneline.registry.tracking import NewVersion, Tracker
from tuneline.work import WORK

MADE = ("tuneline.model_sha256", "tuneline.data_sha256")
"""The tags that are equal where two versions are of the same model, trained on the same data."""
IDENTITY = (*MADE, "tuneline.evaluation_sha256")
"""The tags that are equal where two versions are of the same model, data and evaluation."""
FILES = "tuneline.files_sha256"
"""The tag with the digest of a version's folder."""
_DVC_LOCK = "tuneline.dvc_lock_sha256"
COMMIT = "tuneline.kept_in_commit"
"""The tag with the first commit of a person that holds all that a version was made from."""
RUN = "tuneline.run_id"
"""The tag with the training run."""
TRAIN_ROWS = merge_recipe.ROWS
"""The file with the ids and clusters of the rows that a version, or a version that it was merged from, was fine-tuned
on."""
PARENTS = "tuneline.parents"
"""The tag with the numbers of the versions that a version was merged from."""
ADDED = frozenset(
    {
        cards.CARD,
        params.PARAMS_FILE,
        "dvc.lock",
        version_files.REPORT,
        TRAIN_ROWS,
        merge_recipe.FILE,
        *version_files.EXAMPLES,
        *version_files.DESCRIPTIONS,
    }
)
"""The files in the folder of a version that are not of the model."""
_FETCHED = WORK / "models"
_NAMED = 10
"""The most files that a message names."""


@dataclass(frozen=True)
class Registration:
    """The version that a call of `register` made or found."""

    version: str
    created: bool
    notes: tuple[str, ...] = ()
    """What else a person should know, in sentences."""


def training_subject(
    p: params.Params, *, fingerprint: str, data_sha256: str, base_sha256: str, git: dict[str, str]
) -> Subject:
    """The training run of these params, data and base: what MLflow finds it by and shows of it."""
    values = {
        "task": p.task,
        "base.source": p.base.source,
        "threads": p.compute.threads,
        "mixture": {name: one.model_dump() for name, one in sorted(p.data.mixture.items())},
        **({"augment": p.data.augment.model_dump()} if any(p.data.augment.variants()) else {}),
        **p.finetune.model_dump(),
    }
    if p.base.source == "merge":
        # Loads transformers, which commands that only look for a version do not need.
        from tuneline.modeling.model_folder import MERGED

        values["merge"] = merge_recipe.read(Path(p.paths.base) / MERGED).describe()
    tags = {"tuneline.data_sha256": data_sha256, "tuneline.base_sha256": base_sha256}
    tags |= {"mlflow.source.git.commit": git["git_commit"], "tuneline.git_dirty": git["git_dirty"]}
    return Subject(
        fingerprint=fingerprint,
        experiment=p.registry.model,
        params=values,
        tags=tags,
        inputs=(
            clean_dataset(p, data_sha256),
            Dataset("base", base_sha256, p.paths.base, "base model"),
        ),
    )


def clean_dataset(p: params.Params, sha256: str) -> Dataset:
    """The clean splits as MLflow shows them: what a model is trained and measured on."""
    return Dataset("clean", sha256, p.paths.clean, "training")


def register(
    tracker: Tracker,
    p: params.Params,
    lineage: Lineage,
    run_id: str,
    gate: dict[str, Any],
    evaluation: dict[str, Any],
    complete: Callable[[Path], Mapping[str, str] | None],
    check: Callable[[Path], None],
    also: Callable[[Path], str | None] | None = None,
) -> Registration:
    """Register the fine-tuned model, unless the registry has a version of the same model, data and evaluation.

    Every byte of an existing version is hashed; a broken version is tagged, and a new version takes its place. A later
    decision of the gate about the same version is added to it. If another process registers the same model at the same
    time, the version with the lowest number stays. Copies of the model that killed registers have left are removed.

    Args:
        tracker: the registry.
        p: the params.
        lineage: of the working tree.
        run_id: the training run.
        gate: the value of gate.json.
        evaluation: the value of evaluation.json.
        complete: called with the folder of a new version before it is hashed; adds the files that describe the rest,
            and may return more tags of the version.
        check: called with this folder after it was hashed; raises if it must not be registered.
        also: as for `find_damage`.

    Returns:
        The version of this model.
    """
    model = p.registry.model
    # First, because the copy needs disk space.
    removed = abandoned.remove_abandoned(tracker, model)
    broken = _find_broken(tracker, model, lineage, also)
    version = _lowest_sound(tracker, model, lineage)
    made = None
    if version is None:
        made = _create(tracker, p, lineage, run_id, gate, evaluation, complete, check)
        # MLflow has no compare-and-set. A process with a lower number came first, and sees no lower number itself.
        version = _lowest_sound(tracker, model, lineage) or made
        if version != made:
            tracker.delete_version(model, made)
    version_status.add_verdict(tracker, model, version, gate, run_id, Path(p.paths.reports) / "index.html")
    notes = (
        [
            f"removed {removed} {'copy' if removed == 1 else 'copies'} of the model that a killed register had left in "
            "MLflow"
        ]
        if removed
        else []
    )
    return Registration(version, created=version == made, notes=(*notes, *_notes(tracker, model, version, broken)))


def _notes(tracker: Tracker, model: str, sound: str, broken: Mapping[str, str]) -> Iterator[str]:
    """A line for each broken version: what replaces it, and which aliases a person should move."""
    aliases = tracker.aliases(model)
    for version, reason in broken.items():
        names = [name for name, number in aliases.items() if number == version]
        move = f"; give it the alias {' and '.join(names)}, which is still on version {version}" if names else ""
        yield f"version {version} is broken: {reason}; version {sound} is of the same model{move}"


def _same(tracker: Tracker, model: str, identity: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Number -> tags of the versions of the same model, data and evaluation, lowest first."""
    if not identity.keys() >= set(IDENTITY):
        return {}
    wanted = {name: identity[name] for name in IDENTITY}
    found = {
        version: own
        for version, own in tracker.all_version_tags(model).items()
        if wanted.items() <= own.items() and version_status.ERASED not in own
    }
    return {version: found[version] for version in sorted(found, key=int)}


def _lowest_sound(tracker: Tracker, model: str, lineage: Lineage) -> str | None:
    """The lowest version of the same model without the tag `BROKEN`."""
    same = _same(tracker, model, lineage.tags())
    return next((version for version, tags in same.items() if version_status.BROKEN not in tags), None)


def _find_broken(
    tracker: Tracker, model: str, lineage: Lineage, also: Callable[[Path], str | None] | None
) -> dict[str, str]:
    """Hash the files of the versions of the same model, up to the first sound version; tag those that are broken.

    Returns:
        Number -> reason of the broken versions; a version that was tagged before and has no alias is left out.
    """
    found, aliases = {}, tracker.aliases(model).values()
    for version, tags in _same(tracker, model, lineage.tags()).items():
        if version_status.BROKEN in tags:
            found |= {version: tags[version_status.BROKEN]} if version in aliases else {}
            continue
        reason = find_damage(tracker, model, version, also)
        if reason is None:
            break
        found[version] = reason
        version_status.tag_broken(tracker, model, version, reason)
    return found


def _create(
    tracker: Tracker,
    p: params.Params,
    lineage: Lineage,
    run_id: str,
    gate: dict[str, Any],
    evaluation: dict[str, Any],
    complete: Callable[[Path], Mapping[str, str] | None],
    check: Callable[[Path], None],
) -> str:
    page = Path(p.paths.reports) / "index.html"
    with files.temporary_folder() as temporary:
        folder = temporary / p.registry.model
        _link(Path(p.paths.finetuned), folder)
        labelled = workspace_labelled_sets(p)
        files.write_text(folder / cards.CARD, cards.model_card(p, lineage, gate, evaluation, labelled))
        for name in (params.PARAMS_FILE, "dvc.lock"):
            shutil.copyfile(name, folder / name)
        if page.is_file():
            shutil.copyfile(page, folder / version_files.REPORT)
        files.write_parquet(folder / TRAIN_ROWS, workspace_train_rows(p))
        more = complete(folder) or {}
        if unsafe := unsafe_files.unsafe(folder):
            finetuned = Path(p.paths.finetuned)
            raise RegistryError(
                *(f"{finetuned / path.relative_to(folder)}: {what}" for path, what in unsafe.items()),
                "a version holds safetensors and text only, so nothing is registered; remove these files",
            )
        tags = cards.first_tags(p, gate["verdict"], labelled) | lineage.tags() | version_status.first_verdict_tags(gate)
        sha256 = version_files.sha256(folder)
        tags |= {FILES: sha256, RUN: run_id, **weights.weight_tags(folder), **more}
        # The linked files may have changed since the gate decided.
        check(folder)
        new = NewVersion(
            model=p.registry.model,
            run_id=run_id,
            folder=folder,
            sha256=sha256,
            tags=tags,
            metrics=measured.model_metrics(evaluation),
            dataset=clean_dataset(p, lineage.data_sha256),
            describe=lambda pages: cards.version_description(
                p.task, gate, evaluation, cards.links(p, lineage, pages, run_id, code_url(lineage.git_commit))
            ),
        )
        return tracker.create_version(new)


def add_commit(tracker: Tracker, model: str, version: str, commit: str, dvc_lock_sha256: str) -> bool:
    """Add to a version's lineage the first commit that holds all that it was made from.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        commit: it equals the working tree.
        dvc_lock_sha256: of the working tree's dvc.lock.

    Returns:
        Whether the commit was added: the version has no commit yet, and was made with this dvc.lock.
    """
    tags = tracker.version_tags(model, version)
    if COMMIT in tags or tags.get(_DVC_LOCK) != dvc_lock_sha256:
        return False
    tracker.update_version(model, version, {COMMIT: commit})
    return True


def _link(model: Path, folder: Path) -> None:
    """Make `folder` with links to the files of a model, for the store to copy."""
    for path in sorted(model.rglob("*")):
        if path.is_file():
            link = folder / path.relative_to(model)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def workspace_train_rows(p: params.Params) -> pa.Table:
    """The ids and clusters of the rows that the model in the workspace was fine-tuned on, or its parents were."""
    tables = []
    if p.base.source == "merge":
        tables.append(files.read_parquet(Path(p.base.input) / merge_recipe.ROWS, ["id", "cluster"]))
    if p.finetune.num_train_epochs:
        tables.append(clean_train_rows(p))
    return pa.concat_tables(tables)


def clean_train_rows(p: params.Params) -> pa.Table:
    """The ids and clusters of today's training rows, those of the mixture included."""
    clean = Path(p.paths.clean)
    sets = files.read_object(clean / DATASET_FILE, "mixture")["mixture"] if p.data.mixture else {}
    seen = [clean / "train", *(clean / sets[name]["path"] for name in sorted(p.data.mixture) if name in sets)]
    if PRETRAINING in p.data.mixture:
        seen.append(Path(p.paths.pretraining) / "train")
    return pa.concat_tables([files.read_parquet(path, ["id", "cluster"]) for path in seen])


def workspace_labelled_sets(p: params.Params) -> dict[str, LabelledBy]:
    """The sets of the mixture on which the model in the workspace was trained and that a version has labelled."""
    sets = files.read_object(Path(p.paths.clean) / DATASET_FILE, "mixture")["mixture"] if p.data.mixture else {}
    found = {name: LabelledBy.from_json(sets[name]) for name in sorted(p.data.mixture) if name in sets}
    return {name: by for name, by in found.items() if by is not None}


def resolve_version(tracker: Tracker, model: str, *, version: str | None, alias: str) -> str:
    """The given version, or the version that has the alias.

    Raises:
        RegistryError: no version has the alias; says how to set it.
    """
    if version is not None:
        return version
    found = tracker.version_by_alias(model, alias)
    if found is not None:
        return found
    versions = tracker.find_versions(model, {})
    if not versions:
        raise RegistryError(f"{model}: no version is registered at {tracker.address}; make one with: make run")
    version_status.refuse_misspelt_alias(tracker, model, alias)
    is_champion = alias == cards.CHAMPION
    why = version_status.read_champion(tracker, model).absent if is_champion else f"no version is {alias} yet"
    close = difflib.get_close_matches(alias, tracker.aliases(model), n=1)
    why += f"; did you mean {close[0]}?" if close else ""
    raise RegistryError(
        f"{model}: {why} (registered: {', '.join(versions)}); give a version this alias with `tuneline promote N"
        f"{'' if is_champion else f' --alias {alias}'}` or in the MLflow UI (make ui → Model registry → {model} → a "
        f"version → Aliases → {alias}), or name a version by its number: --version {versions[-1]}"
    )


def fetch_version(tracker: Tracker, model: str, version: str) -> Path:
    """A local folder with the files of a version, hashed again; the caller must not change them.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.

    Returns:
        The folder in the store if the store is on this machine; else a folder in work/, fetched once and kept.

    Raises:
        RegistryError: the registry does not have the version.
        BrokenVersionError: its files are not those that were registered.
    """
    expected = registered_sha256(tracker, model, version)
    in_store = tracker.local_folder(model, version)
    if in_store:
        _check(in_store, expected, model, version)
        return in_store
    folder = _FETCHED / expected
    if folder.is_dir() and version_files.sha256(folder) == expected:
        return folder
    _download(tracker, model, version, expected, folder)
    return folder


def model_sha256(folder: Path) -> str:
    """The digest of the model in the folder of a version, without the files that describe it."""
    tree = version_files.sha256_tree(folder)
    return files.digest({name: sha256 for name, sha256 in tree.items() if name not in ADDED})


def find_damage(
    tracker: Tracker, model: str, version: str, also: Callable[[Path], str | None] | None = None
) -> str | None:
    """Why the files of a version cannot be used, or None; every byte is hashed, after a download from a server.

    Args:
        tracker: the registry.
        model: the registered model's name.
        version: its number.
        also: what else is wrong with the files in a folder, or None.

    Raises:
        RegistryError: the registry does not have the version.
    """
    try:
        expected = registered_sha256(tracker, model, version)
        in_store = tracker.local_folder(model, version)
        if in_store:
            _check(in_store, expected, model, version)
            return also(in_store) if also else None
        # An earlier download would not show what the server has now.
        with files.work_folder(_FETCHED / expected) as beside:
            _download(tracker, model, version, expected, beside / "version")
            return also(beside / "version") if also else None
    except BrokenVersionError as error:
        return error.reason


def copy_version(tracker: Tracker, model: str, version: str, folder: Path) -> None:
    """Copy the files of a version out of MLflow's store into a new folder, and hash the copy.

    Raises:
        RegistryError: the registry does not have the version.
        BrokenVersionError: its files are not those that were registered.
    """
    expected = registered_sha256(tracker, model, version)
    in_store = tracker.local_folder(model, version)
    if in_store is None:
        _download(tracker, model, version, expected, folder)
        return
    if in_store.is_dir():
        files.copy_tree(in_store, folder)
    _check(folder, expected, model, version)


def _download(tracker: Tracker, model: str, version: str, expected: str, folder: Path) -> None:
    def once() -> None:
        with files.atomic_folder(folder) as beside:
            tracker.download(model, version, beside)
            _check(beside, expected, model, version)

    try:
        once()
    except BrokenVersionError:
        # A connection that broke off is not the version's fault.
        once()


def _check(found: Path, expected: str, model: str, version: str) -> None:
    tree = version_files.sha256_tree(found)
    actual = files.digest(tree)
    if actual == expected:
        _refuse_unsafe(found, model, version)
        return
    # Without the address, which may hold a password: the reason becomes a tag.
    reason = (
        f"its files have the digest {actual[:12]}… instead of the registered {expected[:12]}…; they were changed or "
        "deleted in MLflow's store"
        if tree
        else "its files were deleted in MLflow's store"
    )
    raise BrokenVersionError(f"{model} version {version}", reason)


def _refuse_unsafe(found: Path, model: str, version: str) -> None:
    """Refuse a version as it was registered, if another program could run code from its folder, or read outside."""
    unsafe = unsafe_files.unsafe(found) | unsafe_files.foreign(found)
    if unsafe:
        told = [f"{path.relative_to(found).as_posix()} {what}" for path, what in unsafe.items()]
        more = f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
        named = f"{', '.join(told[:_NAMED])}{more}"
        raise BrokenVersionError(f"{model} version {version}", f"its folder is not safe: {named}")


def suggest_instead(tracker: Tracker, p: params.Params, version: str) -> str:
    """What to do instead of using a broken version, in a sentence.

    Args:
        tracker: the registry.
        p: the params.
        version: its number.
    """
    model = p.registry.model
    tags = tracker.version_tags(model, version)
    others = {
        one: of for one, of in _same(tracker, model, tags).items() if one != version and version_status.BROKEN not in of
    }
    sound = next(iter(others), None)
    alias = next((name for name, one in tracker.aliases(model).items() if one == version), None)
    move = f", and give it the alias {alias} (make ui → Model registry → {model})" if alias else ""
    if sound:
        return f"version {sound} is of the same model: use it with --version {sound}{move}"
    finetuned = Path(p.paths.finetuned)
    if finetuned.is_dir() and files.sha256_path(finetuned) == tags.get(IDENTITY[0]):
        return (
            f"{finetuned} is the same model: register it again with `.venv/bin/tuneline register`, then use "
            f"the version that this prints with --version{move}"
        )
    rest = [one for one in tracker.find_versions(model, {}) if one != version]
    other = f"use another version ({', '.join(rest)}) with --version, or " if rest else ""
    return f"{other}put its files back from a backup of the store"


def registered_sha256(tracker: Tracker, model: str, version: str) -> str:
    """The digest of the files of a version when it was registered.

    Raises:
        RegistryError: the registry does not have the version.
        BrokenVersionError: the version has no digest, or was erased.
    """
    tags = tracker.version_tags(model, version)
    if when := tags.get(version_status.ERASED):
        raise BrokenVersionError(f"{model} version {version}", erased(when))
    expected = tags.get(FILES)
    if expected is None or not re.fullmatch("[0-9a-f]{64}", expected):
        reason = f"its tag {FILES} is not a sha256, so its files cannot be checked"
        raise BrokenVersionError(f"{model} version {version}", reason)
    return expected


def erased(when: str) -> str:
    """Why an erased version cannot be used: the value of its tag `version_status.ERASED` in a sentence."""
    return f"it was erased on {when[:10]}: rows that it was made from were erased, and with them its files"


def version_train_rows(folder: Path) -> pa.Table:
    """The ids and clusters of the rows that a fetched version was fine-tuned on.

    Raises:
        BrokenVersionError: its file does not hold them, so it cannot be measured on rows that it has not seen.
    """
    try:
        table = files.read_parquet(folder / TRAIN_ROWS).select(["id", "cluster"])
    except (UnreadableFileError, FileNotFoundError, KeyError):
        table = None
    if table is None or any(pa.types.is_nested(field.type) for field in table.schema):
        reason = f"its {TRAIN_ROWS} does not hold the ids and clusters of the rows that it was trained on"
        raise BrokenVersionError(str(folder), reason)
    return table


def unseen_rows(trained: pa.Table, ids: Sequence[str], clusters: Sequence[str]) -> np.ndarray:
    """The indices of the rows whose ids and clusters a model was not trained on, by which a table can be cut.

    Args:
        trained: the value of `version_train_rows` or `workspace_train_rows`.
        ids: of the rows.
        clusters: of the rows.

    Returns:
        int64, also where there are none: Arrow refuses an empty list.
    """
    seen = {name: set(column) for name, column in trained.to_pydict().items()}
    pairs = zip(ids, clusters, strict=True)
    return np.flatnonzero([row not in seen["id"] and cluster not in seen["cluster"] for row, cluster in pairs])
