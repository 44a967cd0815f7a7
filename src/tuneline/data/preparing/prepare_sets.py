"""From the raw sets to clean splits and pretraining text, in which nothing held out stands.

Every row that goes in comes out, or is dropped with a reason: the accounts add up. Work is done in parts of bounded
size, which any number of processes may share; the result is the same.
"""

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
from tuneline.data.preparing.decontamination import held_out
from tuneline.data.preparing.dedup import duplicates, near_duplicates
from tuneline.data.preparing.prepared_set import DECISION, Prepared, together
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Catalogue
from tuneline.data.preparing.text.row_keys import ROW, same_by
from tuneline.data.records import label_codec, labels
from tuneline.data.records.record_form import SPLITS, SplitName
from tuneline.data.secrets import screening
from tuneline.errors import DataError
from tuneline.params import Data
from tuneline.progress import Progress

HELD_OUT_TEXTS = 500
"""Pretraining texts of held-out groups that are kept to measure the base."""

_LARGEST = 10
_MIXTURE = "mixture"
# Of the sets, as RawSets.all orders them.
_PRETRAINING = 1


@dataclass(frozen=True)
class Places:
    """Where `prepare` writes: folders that are there and empty."""

    work: Path
    """For what is needed on the way."""
    clean: Path
    pretraining: Path
    quarantine: Path
    """A file."""


def prepare(sets: RawSets, data: Data, places: Places, *, inline: int = scheduler.INLINE) -> dict[str, Any]:
    """Clean, split and check the sets, and write them.

    Args:
        sets: what to fine-tune on, what a base is pretrained on, and what a mixture may take.
        data: how.
        places: where to.
        inline: bytes below which all is done in this process.

    Returns:
        The accounts.

    Raises:
        DataError: too many rows cannot be used, a split is empty, or there is one class only.
    """
    opened = sets.all()
    size = sum(one.bytes for one in opened)
    with scheduler.pool(workers=data.workers, address=data.scheduler, size=size, inline=inline) as run:
        runs = [run if one.bytes >= inline else scheduler.here for one in opened]
        all_sets = [_first_pass(one, i, data, places.work, runs[i]) for i, one in enumerate(opened)]
        _check_rejected(all_sets, data)
        pairs, texts, *mixture = all_sets
        for one in (pairs, texts):
            splits.decide_splits(one, data.split)
        for one in mixture:
            splits.decide_only_train(one, [pairs, texts])
        for number, one in enumerate(all_sets):
            _drop_duplicates(one, data, places.work / f"near-{number}", runs[number])
        overlaps: dict[str, Any] = {}
        if data.frozen_pretraining:
            work = places.work / "frozen"
            work.mkdir()
            overlaps = held_out.drop_given_away(pairs, texts, _PRETRAINING, data.max_overlap, work, run)
        frozen = _PRETRAINING if data.frozen_pretraining else None
        overlaps |= held_out.drop_overlapping(all_sets, data.max_overlap, places.work, run, frozen=frozen)
        _check_splits(pairs, data)
        _keep_some_held_out(texts)
        _check_left(texts, mixture)
        counts = _labels(pairs)
        where = pairs.catalogue.path
        warnings = (
            labels.split_warnings(counts, where=where, mentioned=pairs.count("mentions")) if counts is not None else []
        )
        sizes = _write(all_sets, _targets(places, list(sets.mixture), data), places, run)
    rows = {split: len(pairs.of(split)) for split in SPLITS}
    groups = {split: len(distinct(pairs.rows["cluster"][pairs.of(split)])) for split in SPLITS}
    known = among(pairs.rows["answer"][pairs.of("test")], pairs.rows["answer"][pairs.of("train")])
    of_raw: dict[str, Any] = pairs.account() | {"rows": rows, "groups": groups}
    of_raw["warnings"] += [*splits.warnings(pairs), *warnings]
    of_raw["changed_splits"] = splits.changed_splits(pairs)
    if counts is not None:
        of_raw["labels"] = counts
    base = {"train": len(texts.of("train")), "validation": len(texts.of("validation", "test"))}
    return {
        "raw": of_raw,
        "pretraining": texts.account() | {"rows": base, "bytes": {split: sizes[split] for split in base}},
        "mixture": {
            name: one.account() | {"rows": {"train": len(one.stays)}}
            for name, one in zip(sets.mixture, mixture, strict=True)
        },
        "overlap": overlaps | {"test_rows_with_an_answer_that_train_has": int(known.sum())},
    }


def prepare_alone(one: RawSet, data: Data, places: Places, *, inline: int = scheduler.INLINE) -> dict[SplitName, int]:
    """Clean, split and check one set as `prepare` does, as if there were no other, and write its splits.

    Args:
        one: the set to fine-tune on.
        data: how.
        places: where to; `pretraining` stays empty.
        inline: bytes below which all is done in this process.

    Returns:
        Split -> its rows.

    Raises:
        DataError: too many rows cannot be used, or a split is empty.
    """
    with scheduler.pool(workers=data.workers, address=data.scheduler, size=one.bytes, inline=inline) as run:
        own = _first_pass(one, 0, data, places.work, run)
        _check_rejected([own], data)
        splits.decide_splits(own, data.split)
        _drop_duplicates(own, data, places.work / "near-0", run)
        held_out.drop_overlapping([own], data.max_overlap, places.work, run)
        _check_splits(own, data)
        _write([own], _targets(places, [], data)[:1], places, run)
    return {split: len(own.of(split)) for split in SPLITS}


def dataset(sets: RawSets, accounts: dict[str, Any]) -> dict[str, Any]:
    """What those who read the clean splits need to know of them.

    Args:
        sets: what was prepared.
        accounts: from `prepare`.
    """
    account = accounts["raw"]
    found = _dataset(sets.raw, account)
    if "labels" in account:
        found["labels"] = {label: sum(counts.values()) for label, counts in account["labels"].items()}
    found["mixture"] = {
        name: _dataset(one, accounts["mixture"][name]) | {"path": f"{_MIXTURE}/{name}"}
        for name, one in sets.mixture.items()
    }
    return found


def _dataset(one: RawSet, account: dict[str, Any]) -> dict[str, Any]:
    return one.form.as_json() | {"rows": account["rows"]}


def _first_pass(one: RawSet, number: int, data: Data, work: Path, run: Run) -> Prepared:
    folder = work / f"set-{number}"
    order = splits.order_type(data.split) if data.split.order_by is not None else None
    jobs = [
        first_pass.Job(
            portion, shape, folder / f"{index:06d}",
            screening.Policy.of(data.secrets), data.damaged.model_dump(), order, data.near_duplicates is not None,
        )
        for index, (portion, shape) in enumerate(one.portions)
    ]  # fmt: skip
    made: list[first_pass.Made] = []
    groups = [[jobs[portion] for portion in group] for group in together(one)]
    size, read = one.bytes / 1e6, 0
    with Progress(f"{one.path}: reading", unit="MB") as progress:
        for done, found in enumerate(run(first_pass.make_all, groups), 1):
            made += found
            read += sum(portion.rows for portion in found)
            progress.update(done / len(groups) * size, size, f"{read:,} rows")
    catalogue = Catalogue(
        one.path, one.form, folder,
        tuple(portion.name for portion, _ in one.portions),
        tuple(tuple(rows for _, rows in found.parts) for found in made),
    )  # fmt: skip
    rows = np.zeros(catalogue.rows, ROW)
    for part in catalogue.parts:
        rows[part.start : part.stop] = part.array("rows")
    decisions = np.zeros(len(rows), DECISION)
    decisions["set"] = number
    decisions["other"] = -1
    np.save(work / f"lines-{number}.npy", rows["line"])
    return Prepared(catalogue, one, made, rows, splits.split_numbers(rows["cluster"], data.split.seed), decisions)


def _check_rejected(sets: Sequence[Prepared], data: Data) -> None:
    problems: dict[str, None] = {}
    for one in sets:
        unusable = one.count("unusable")
        first = [row for made in one.made for row in made.first]
        rows, most = sum(made.rows for made in one.made), data.max_rejected_fraction
        reasons = dict(sorted(unusable.items()))
        try:
            raw_set.check_rejected(one.raw.path, rows, sum(unusable.values()), reasons, first, most)
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise DataError(*problems)


def _drop_duplicates(one: Prepared, data: Data, folder: Path, run: Run) -> None:
    rows, stays = one.rows, one.stays
    ids = rows["key_high"]
    preference = duplicates.Preference(2 - one.decisions["split"], one.split_numbers, ids)
    stands = np.arange(len(rows))
    stands[stays] = stays[duplicates.representatives(same_by(rows[stays]), preference.of(stays))]
    repeated = stays[stands[stays] != stays]
    one.drop(repeated, "duplicate")
    if data.near_duplicates is not None:
        folder.mkdir()
        found = near_duplicates.near(
            one.catalogue, one.stays, rows["answer"], rows["characters"], data.near_duplicates, folder, run
        )
        unique = one.stays
        kept = unique[duplicates.representatives([found.clusters[unique]], preference.of(unique))]
        one.drop(unique[kept != unique], "near-duplicate")
        stands[unique] = kept
        stands[repeated] = stands[stands[repeated]]
        one.near = {
            "threshold": data.near_duplicates,
            "pairs_compared": found.compared,
            "largest_bucket_bounded": found.bounded,
        }
    gone = np.flatnonzero(stands != np.arange(len(rows)))
    one.decisions["other"][gone] = stands[gone]
    heads, sizes = np.unique(stands[gone], return_counts=True)
    largest = np.lexsort((heads, -sizes))[:_LARGEST]
    one.clusters = [
        {"kept": one.catalogue.source(head, int(rows["line"][head])), "dropped": size}
        for head, size in zip(heads[largest].tolist(), sizes[largest].tolist(), strict=True)
    ]


def _keep_some_held_out(texts: Prepared) -> None:
    """Texts of held-out groups serve to measure the base; which ones stays the same when data is added."""
    held_out = texts.of("validation", "test")
    texts.drop(held_out[np.argsort(texts.rows["key_high"][held_out], kind="stable")][HELD_OUT_TEXTS:], "held-out-group")


def _check_left(texts: Prepared, mixture: Sequence[Prepared]) -> None:
    problems = []
    if not len(texts.of("train")):
        problems.append(f"{texts.catalogue.path}: no text is left to pretrain on; data.pretraining needs more of it")
    problems += [
        f"{one.catalogue.path}: no row is left to train on ({_reasons(one)}); bring more, or take the set away: "
        f"dvc remove --outs {one.catalogue.path}.dvc"
        for one in mixture
        if not len(one.stays)
    ]
    if problems:
        raise DataError(*problems)


def _reasons(one: Prepared) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in one.account()["dropped"].items())


def _check_splits(one: Prepared, data: Data) -> None:
    empty = [split for split in SPLITS if not len(one.of(split))]
    if not empty:
        return
    stays = one.stays
    if any(shape.split == "test" for shape in one.raw.shapes):
        groups = len(distinct(one.rows["cluster"][one.of("train")]))
        raise DataError(
            f"{one.catalogue.path}: no rows for {' and '.join(empty)}: files named train and test are taken as they "
            f"are, and validation is a share of {data.split.validation:g} (data.split.validation) of the {groups:,} "
            "groups of the others; raise it, bring more rows, or bring a file named validation (dropped: "
            f"{_reasons(one) or 'none'})"
        )
    by = f"the column {data.split.group_by!r}" if data.split.group_by else "their prompt"
    left = (
        f"{one.catalogue.path}: no rows for {' and '.join(empty)}: {len(stays)} rows in "
        f"{len(distinct(one.rows['cluster'][stays]))} groups by {by} (data.split: test {data.split.test:g}, "
        f"validation {data.split.validation:g}; dropped: {_reasons(one) or 'none'})"
    )
    if "pretraining" in one.account()["dropped"]:
        raise DataError(
            f"{left}; the base learns what would be held out: the split is another than when {data.pretraining} was "
            "written, which data.frozen_pretraining keeps; set data.split back, or have that text written anew: "
            f"dvc remove {data.pretraining}.dvc, delete the folder, and run `tuneline use` again"
        )
    raise DataError(f"{left}; bring more groups, raise the shares, or group by another column")


def _labels(one: Prepared) -> dict[str, dict[SplitName, int]] | None:
    if one.catalogue.form.record_type != "classification":
        return None
    names = one.label_names()
    counts: dict[str, Counter[SplitName]] = {}
    for index, split in enumerate(SPLITS):
        chosen = (one.decisions["reason"] == 0) & (one.decisions["split"] == index)
        numbers, found = np.unique(one.rows["answer"][chosen], return_counts=True)
        for number, count in zip(numbers.tolist(), found.tolist(), strict=True):
            for label in label_codec.decode(names[number], multi_label=one.catalogue.form.multi_label):
                counts.setdefault(label, Counter())[split] += count
    return {label: dict(counts[label]) for label in sorted(counts)}


_Target = tuple[Path, dict[str, str], int | None]
"""Where the rows of a set go: the folder, what each split becomes there, and the number of folds."""


def _targets(places: Places, mixture: Sequence[str], data: Data) -> list[_Target]:
    """Of every set, in the order of RawSets.all."""
    same: dict[str, str] = {split: split for split in SPLITS}
    return [
        (places.clean, same, data.split.folds),
        (places.pretraining, {**same, "test": "validation"}, None),
        *((places.clean / _MIXTURE, {"train": name}, None) for name in mixture),
    ]


def _write(sets: Sequence[Prepared], targets: Sequence[_Target], places: Places, run: Run) -> Counter[str]:
    """Write all sets; of the pretraining text the bytes of each split are returned."""
    for number, one in enumerate(sets):
        np.save(places.work / f"decisions-{number}.npy", one.decisions)
    catalogues = tuple(one.catalogue for one in sets)
    jobs = [
        output.Output(
            catalogues, number, portions, places.work, folder, names,
            places.work / f"quarantine-{number}-{group:06d}", folds, group,
        )
        for number, (folder, names, folds) in enumerate(targets)
        for group, portions in enumerate(catalogues[number].groups(output.GROUP))
    ]  # fmt: skip
    sizes: Counter[str] = Counter()
    size = sum(one.raw.bytes for one in sets) / 1e6
    with Progress("writing", unit="MB") as progress, places.quarantine.open("wb") as quarantine:
        for done, (job, found) in enumerate(zip(jobs, run(output.write, jobs), strict=True), 1):
            quarantine.write(job.quarantine.read_bytes())
            sizes.update(found if job.number == _PRETRAINING else {})
            progress.update(done / len(jobs) * size, size)
    for catalogue, (folder, names, folds) in zip(catalogues, targets, strict=True):
        for split in dict.fromkeys(names.values()):
            written = sorted(folder.glob(f"{split}/*.parquet"))
            for index, file in enumerate(written):
                file.rename(file.with_name(f"part-{index:05d}.parquet"))
            if not written:
                place = folder / split / "part-00000.parquet"
                output.writer(place, output.schema_of(catalogue, bool(folds) and split != "test")).close()
    return sizes
