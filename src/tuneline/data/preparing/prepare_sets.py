"""Prepares raw sets: makes clean splits and pretraining text, without training rows that leak held-out rows.

Every row that comes in goes out or is dropped with a reason: the counts add up. The work is done in parts of bounded
size, which any number of processes may share. The result is always the same.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuneline.core.arrays import among, distinct
from tuneline.data.mapping import raw_set
from tuneline.data.mapping.raw_set import RawSet, RawSets
from tuneline.data.preparing import first_pass, output, scheduler, splits
from tuneline.data.preparing.decontamination import decontaminate
from tuneline.data.preparing.duplicates import drop_duplicates
from tuneline.data.preparing.first_pass import FirstPass
from tuneline.data.preparing.planted import plant
from tuneline.data.preparing.prepared_set import DECISION, PreparedSet, portion_groups
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Store
from tuneline.data.preparing.text.row_keys import ROW
from tuneline.data.records import canaries, label_codec, labelled_by, labels
from tuneline.data.records.record_form import KEPT_COLUMNS, SPLITS, SplitName
from tuneline.errors import DataError
from tuneline.params import Data
from tuneline.params.evaluate import FEWEST_GROUPS
from tuneline.progress import Progress

HELD_OUT_TEXTS = 500
"""Pretraining texts of held-out groups that are kept, to measure the base."""

_MIXTURE = "mixture"
# Number of the set in the order of RawSets.all.
_PRETRAINING = 1


@dataclass(frozen=True)
class Paths:
    """Where `prepare` writes. The folders exist and are empty."""

    work: Path
    """Folder for intermediate files."""
    clean: Path
    pretraining: Path
    quarantine: Path
    """A file."""


def prepare(sets: RawSets, data: Data, paths: Paths, *, inline: int = scheduler.INLINE) -> dict[str, Any]:
    """Clean, split and check the sets, and write them.

    Args:
        sets: the set to fine-tune on, the set to pretrain a base on, and the sets of the mixture.
        data: the section `data` of the params.
        paths: where the results are written.
        inline: up to this many bytes all work is done in this process.

    Returns:
        The report, as prepare.json has it.

    Raises:
        DataError: too many rows cannot be used, a split is empty, or the set has only one label.
    """
    opened = sets.all()
    size = sum(raw.bytes for raw in opened)
    with scheduler.pool(workers=data.workers, address=data.scheduler, size=size, inline=inline) as run:
        runs = [run if raw.bytes >= inline else scheduler.here for raw in opened]
        all_sets = [_run_first_pass(raw, i, data, paths.work, runs[i]) for i, raw in enumerate(opened)]
        _check_rejected(all_sets, data)
        pairs, texts, *mixture = all_sets
        for prepared in (pairs, texts):
            splits.decide_splits(prepared, data.split)
        for prepared in mixture:
            splits.decide_only_train(prepared, [pairs, texts])
        for number, prepared in enumerate(all_sets):
            drop_duplicates(prepared, data.near_duplicates, paths.work / f"near-{number}", runs[number])
        overlaps: dict[str, Any] = {}
        frozen = _PRETRAINING if data.frozen_pretraining else None
        if frozen is not None:
            work = paths.work / "frozen"
            work.mkdir()
            overlaps = decontaminate.drop_leaked_rows(pairs, texts, frozen, data.max_overlap, work, run)
        overlaps |= decontaminate.drop_leaking_rows(all_sets, data.max_overlap, paths.work, run, frozen=frozen)
        _check_splits(pairs, data)
        _keep_some_held_out(texts)
        _check_left(texts, mixture)
        counts = _count_labels(pairs)
        warnings = []
        if counts is not None:
            warnings = labels.split_warnings(counts, where=pairs.store.path, mentioned=pairs.count("mentions"))
        sizes = _write(all_sets, _targets(paths, list(sets.mixture), data), paths, run)
        planted = canaries.draw(data.canaries, f"canaries {data.split.seed}")
        if planted:
            plant(paths.clean / "train", pairs.store, planted, data.split.folds)
    rows = {split: len(pairs.kept_in(split)) for split in SPLITS}
    groups = {split: len(distinct(pairs.rows["cluster"][pairs.kept_in(split)])) for split in SPLITS}
    known = among(pairs.rows["answer"][pairs.kept_in("test")], pairs.rows["answer"][pairs.kept_in("train")])
    raw_report: dict[str, Any] = pairs.report() | {"rows": rows, "groups": groups}
    raw_report["warnings"] += [*splits.warnings(pairs), *warnings]
    raw_report["changed_splits"] = splits.changed_splits(pairs)
    if counts is not None:
        raw_report["labels"] = counts
    base = {"train": len(texts.kept_in("train")), "validation": len(texts.kept_in("validation", "test"))}
    return {
        # Without canaries, dataset.json and prepare.json are as they were before there were canaries.
        **({"canaries": planted} if planted else {}),
        "raw": raw_report,
        "pretraining": texts.report() | {"rows": base, "bytes": {split: sizes[split] for split in base}},
        "mixture": {
            name: prepared.report() | {"rows": {"train": len(prepared.kept)}} | _labelled_by(prepared.raw)
            for name, prepared in zip(sets.mixture, mixture, strict=True)
        },
        "overlap": overlaps | {"test_rows_with_an_answer_that_train_has": int(known.sum())},
    }


def prepare_alone(raw: RawSet, data: Data, paths: Paths, *, inline: int = scheduler.INLINE) -> dict[str, Any]:
    """Clean, split and check one set without any other sets, and write its splits.

    Args:
        raw: the set to fine-tune on.
        data: the section `data` of the params.
        paths: where the results are written. `pretraining` stays empty.
        inline: up to this many bytes all work is done in this process.

    Returns:
        The report on the set, with the number of `rows` of each split.

    Raises:
        DataError: too many rows cannot be used, or a split is empty.
    """
    with scheduler.pool(workers=data.workers, address=data.scheduler, size=raw.bytes, inline=inline) as run:
        prepared = _run_first_pass(raw, 0, data, paths.work, run)
        _check_rejected([prepared], data)
        splits.decide_splits(prepared, data.split)
        drop_duplicates(prepared, data.near_duplicates, paths.work / "near-0", run)
        decontaminate.drop_leaking_rows([prepared], data.max_overlap, paths.work, run)
        _check_splits(prepared, data)
        _write([prepared], _targets(paths, [], data)[:1], paths, run)
    return prepared.report() | {"rows": {split: len(prepared.kept_in(split)) for split in SPLITS}}


def describe_clean_set(sets: RawSets, report: dict[str, Any]) -> dict[str, Any]:
    """Return the content of dataset.json: what the readers of the clean splits need to know.

    Args:
        sets: the sets that were prepared.
        report: from `prepare`.
    """
    raw = report["raw"]
    described = _describe(sets.raw, raw)
    if sets.raw.kept:
        described[KEPT_COLUMNS] = dict(sets.raw.kept)
    if "labels" in raw:
        described["labels"] = {label: sum(counts.values()) for label, counts in raw["labels"].items()}
    if "canaries" in report:
        described["canaries"] = report["canaries"]
        described["rows"] = raw["rows"] | {"train": raw["rows"]["train"] + len(report["canaries"])}
    described["mixture"] = {
        name: _describe(mixed, report["mixture"][name]) | {"path": f"{_MIXTURE}/{name}"} | _labelled_by(mixed)
        for name, mixed in sets.mixture.items()
    }
    return described


def _labelled_by(mixed: RawSet) -> dict[str, Any]:
    """Which version has labelled a set of the mixture; empty where people have."""
    found = labelled_by.read(Path(mixed.path))
    return {labelled_by.KEY: found.as_json()} if found else {}


def _describe(raw: RawSet, report: dict[str, Any]) -> dict[str, Any]:
    return raw.form.as_json() | {"rows": report["rows"]}


def _run_first_pass(raw: RawSet, number: int, data: Data, work: Path, run: Run) -> PreparedSet:
    folder = work / f"set-{number}"
    order = splits.order_type(data.split) if data.split.order_by is not None else None
    jobs = [
        first_pass.Job(
            portion, shape, folder / f"{index:06d}", data.secrets.model_dump(), data.damaged.model_dump(), order,
            data.near_duplicates is not None, tuple(raw.kept.values()),
        )
        for index, (portion, shape) in enumerate(raw.portions)
    ]  # fmt: skip
    made: list[FirstPass] = []
    groups = [[jobs[portion] for portion in group] for group in portion_groups(raw)]
    size, read = raw.bytes / 1e6, 0
    with Progress(f"{raw.path}: reading", unit="MB") as progress:
        for done, found in enumerate(run(first_pass.process_portions, groups), 1):
            made += found
            read += sum(portion.rows for portion in found)
            progress.update(done / len(groups) * size, size, f"{read:,} rows")
    store = Store(
        raw.path, raw.form, folder,
        tuple(portion.name for portion, _ in raw.portions),
        tuple(tuple(rows for _, rows in found.parts) for found in made), tuple(raw.kept.values()),
    )  # fmt: skip
    rows = np.zeros(store.rows, ROW)
    for part in store.parts:
        rows[part.start : part.stop] = part.array("rows")
    decisions = np.zeros(len(rows), DECISION)
    decisions["set"] = number
    decisions["other"] = -1
    np.save(work / f"lines-{number}.npy", rows["line"])
    return PreparedSet(store, raw, made, rows, splits.split_numbers(rows["cluster"], data.split.seed), decisions)


def _check_rejected(sets: Sequence[PreparedSet], data: Data) -> None:
    problems: dict[str, None] = {}
    for prepared in sets:
        unusable = prepared.count("unusable")
        first = [row for made in prepared.made for row in made.first]
        rows, most = sum(made.rows for made in prepared.made), data.max_rejected_fraction
        reasons = dict(sorted(unusable.items()))
        try:
            raw_set.check_rejected(prepared.raw.path, rows, sum(unusable.values()), reasons, first, most)
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise DataError(*problems)


def _keep_some_held_out(texts: PreparedSet) -> None:
    """Keep some texts of held-out groups to measure the base. Added data does not change which texts are kept."""
    held_out = texts.kept_in("validation", "test")
    texts.drop(held_out[np.argsort(texts.rows["key_high"][held_out], kind="stable")][HELD_OUT_TEXTS:], "held-out-group")


def _check_left(texts: PreparedSet, mixture: Sequence[PreparedSet]) -> None:
    problems = []
    if not len(texts.kept_in("train")):
        problems.append(f"{texts.store.path}: no text is left to pretrain on; add texts to data.pretraining")
    problems += [
        f"{prepared.store.path}: no row is left to train on (dropped: {_reasons(prepared)}); add rows, or remove the "
        f"set: dvc remove --outs {prepared.store.path}.dvc"
        for prepared in mixture
        if not len(prepared.kept)
    ]
    if problems:
        raise DataError(*problems)


def _reasons(prepared: PreparedSet) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in prepared.dropped().items()) or "none"


def _check_splits(prepared: PreparedSet, data: Data) -> None:
    empty = [split for split in SPLITS if not len(prepared.kept_in(split))]
    if not empty:
        return
    missing = f"{prepared.store.path}: no rows for {' and '.join(empty)}"
    if any(shape.split == "test" for shape in prepared.raw.shapes):
        groups = len(distinct(prepared.rows["cluster"][prepared.kept_in("train")]))
        raise DataError(
            f"{missing}: files named train and test keep their split, and validation is a share of "
            f"{data.split.validation:g} (data.split.validation) of the {groups:,} groups of the other files; raise it, "
            f"add rows, or add a file named validation (dropped: {_reasons(prepared)})"
        )
    kept = prepared.kept
    by = f"the column {data.split.group_by!r}" if data.split.group_by else "their prompt"
    problem = (
        f"{missing}: {len(kept)} rows in {len(distinct(prepared.rows['cluster'][kept]))} groups by {by} (data.split: "
        f"test {data.split.test:g}, validation {data.split.validation:g}; dropped: {_reasons(prepared)})"
    )
    if "pretraining" in prepared.dropped():
        raise DataError(
            f"{problem}; the base learns rows that would be held out: the split has changed since {data.pretraining} "
            "was written and frozen (data.frozen_pretraining); set data.split back, or have the text written again: "
            f"dvc remove {data.pretraining}.dvc, delete the folder, and run `tuneline use` again"
        )
    raise DataError(
        f"{problem}; add groups, raise the shares, or group by another column; the gate needs {FEWEST_GROUPS} groups "
        f"of test rows to decide, which are about {math.ceil(FEWEST_GROUPS / data.split.test):,} groups in all"
    )


def _count_labels(prepared: PreparedSet) -> dict[str, dict[SplitName, int]] | None:
    """Return label -> split -> number of rows; None if the set is not for classification."""
    form = prepared.store.form
    if form.record_type != "classification":
        return None
    names = prepared.label_names()
    counts: dict[str, Counter[SplitName]] = {}
    for split in SPLITS:
        hashes, found = np.unique(prepared.rows["answer"][prepared.kept_in(split)], return_counts=True)
        for label_hash, count in zip(hashes.tolist(), found.tolist(), strict=True):
            for label in label_codec.decode(names[label_hash], multi_label=form.multi_label):
                counts.setdefault(label, Counter())[split] += count
    return {label: dict(counts[label]) for label in sorted(counts)}


_Target = tuple[Path, dict[str, str], int | None]
"""Where the rows of a set are written: the folder, split -> name of the split that is written, and number of folds."""


def _targets(paths: Paths, mixture: Sequence[str], data: Data) -> list[_Target]:
    """Return the targets of all sets, in the order of RawSets.all."""
    same: dict[str, str] = {split: split for split in SPLITS}
    return [
        (paths.clean, same, data.split.folds),
        (paths.pretraining, {**same, "test": "validation"}, None),
        *((paths.clean / _MIXTURE, {"train": name}, None) for name in mixture),
    ]


def _write(sets: Sequence[PreparedSet], targets: Sequence[_Target], paths: Paths, run: Run) -> Counter[str]:
    """Write all sets; return the bytes of each split of the pretraining text."""
    for number, prepared in enumerate(sets):
        np.save(paths.work / f"decisions-{number}.npy", prepared.decisions)
    stores = tuple(prepared.store for prepared in sets)
    jobs = [
        output.Output(
            stores, number, portions, paths.work, folder, names, paths.work / f"quarantine-{number}-{group:06d}",
            folds, group,
        )
        for number, (folder, names, folds) in enumerate(targets)
        for group, portions in enumerate(stores[number].groups(output.GROUP))
    ]  # fmt: skip
    sizes: Counter[str] = Counter()
    size = sum(prepared.raw.bytes for prepared in sets) / 1e6
    with Progress("writing", unit="MB") as progress, paths.quarantine.open("wb") as quarantine:
        for done, (job, found) in enumerate(zip(jobs, run(output.write, jobs), strict=True), 1):
            quarantine.write(job.quarantine.read_bytes())
            sizes.update(found if job.number == _PRETRAINING else {})
            progress.update(done / len(jobs) * size, size)
    for store, (folder, names, folds) in zip(stores, targets, strict=True):
        for split in dict.fromkeys(names.values()):
            written = sorted(folder.glob(f"{split}/*.parquet"))
            for index, file in enumerate(written):
                file.rename(file.with_name(f"part-{index:05d}.parquet"))
            if not written:
                path = folder / split / "part-00000.parquet"
                output.parquet_writer(path, output.schema_of(store, bool(folds) and split != "test")).close()
    return sizes
