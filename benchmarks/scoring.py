"""Recall and precision of a tool's duplicates and leaks, against those that were planted."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from planted import DUPLICATES, Plant

BINS = (0.75, 0.8, 0.85, 0.9, 0.95)
SURE = 0.8
"""Near duplicates from this similarity on must be found."""

_PLACE = re.compile(r"part-\d+\.jsonl:\d+")
_DUPLICATES = ("duplicate", "near-duplicate")
_OVERLAPS = ("overlap", "held-out", "spread")
_HELD_OUT = ("validation", "test")
_GIVEN_AWAY = 0.5


@dataclass
class Score:
    """Found, of how many there were."""

    found: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)
    false_merges: int = 0
    leaks: str = ""
    spread: str = ""
    """Held-out rows in pieces, of which training keeps no more than half."""
    boilerplate: str = ""
    """Rows with a disclaimer of many rows that were taken for leaks."""
    clean_flagged: int | None = None
    notes: list[str] = field(default_factory=list)

    def share(self, kind: str) -> str:
        """As in `99.5 % (410 of 412)`."""
        return _share(self.found[kind], self.planted[kind])


def read_truth(path: Path) -> list[Plant]:
    with path.open("rb") as file:
        return [Plant(**json.loads(line)) for line in file]


def kinds(plant: Plant) -> list[str]:
    """The lines of the table to which a planted duplicate belongs."""
    if plant.kind != "near":
        return [plant.kind]
    low, high = next((low, high) for low, high in itertools.pairwise(BINS) if plant.measure <= high)
    lines = [f"near, Jaccard {low:.2f} to {high:.2f}"]
    lines += [f"near, all from {SURE:.2f}"] if plant.measure >= SURE else []
    return [*lines, f"near, all from {SURE:.2f} by runs of 5 words"] if plant.by_words >= SURE else lines


def count_duplicates(score: Score, truth: Iterable[Plant], are_merged: Any) -> None:
    """Fill in how many planted pairs were found.

    Args:
        score: to fill in.
        truth: what was planted.
        are_merged: whether two places were taken for one text.
    """
    for plant in truth:
        if plant.kind in DUPLICATES:
            for kind in kinds(plant):
                score.planted[kind] += 1
                score.found[kind] += are_merged(plant.place, plant.of)


def of_clusters(truth: list[Plant], clusters: Mapping[str, int]) -> Score:
    """The score of a tool that gives each row the number of its cluster.

    Args:
        truth: what was planted.
        clusters: place -> cluster; a row without one stands alone.

    Returns:
        The score; a false merge is a row in a cluster with rows that it has nothing in common with.
    """
    score = Score()
    count_duplicates(score, truth, lambda one, other: one in clusters and clusters[one] == clusters.get(other))
    origin = {plant.place: plant.of for plant in truth if plant.kind in DUPLICATES}
    origins: dict[int, set[str]] = {}
    for place, cluster in clusters.items():
        origins.setdefault(cluster, set()).add(origin.get(place, place))
    score.false_merges = sum(len(places) - 1 for places in origins.values())
    return score


def of_project(project: Path, raw: str, truth: list[Plant]) -> Score:
    """The score of `prepare`, from its quarantine and the clean splits.

    Args:
        project: where it ran.
        raw: the set, as params name it.
        truth: what was planted.

    Returns:
        The score.
    """
    dropped: dict[str, tuple[str, str]] = {}
    with (project / "reports" / "quarantine.jsonl").open("rb") as file:
        for line in file:
            row = json.loads(line)
            if row["set"] == raw:
                dropped[row["source"]] = (row["reason"], row["detail"])
    split_of = _splits(project / "data" / "clean", {place for plant in truth for place in (plant.place, plant.of)})
    score = Score()
    partner: dict[str, str] = {}
    for plant in truth:
        if plant.kind in DUPLICATES:
            partner[plant.place], partner[plant.of] = plant.of, plant.place

    def are_merged(one: str, other: str) -> bool:
        return any(dropped.get(place, ("",))[0] in _DUPLICATES for place in (one, other))

    count_duplicates(score, truth, are_merged)
    for place, (reason, detail) in dropped.items():
        if reason in _DUPLICATES:
            named = _PLACE.search(detail)
            score.false_merges += place not in partner or (named is not None and named[0] != partner[place])
    _count_leaks(score, truth, dropped, split_of, partner)
    reasons = Counter(reason for reason, _ in dropped.values())
    others = {reason: n for reason, n in reasons.items() if reason not in (*_DUPLICATES, *_OVERLAPS)}
    if others:
        score.notes.append(f"dropped for other reasons: {others}")
    return score


def _count_leaks(
    score: Score,
    truth: list[Plant],
    dropped: Mapping[str, tuple[str, str]],
    split_of: Mapping[str, str],
    partner: Mapping[str, str],
) -> None:
    flagged = {place for place, (reason, _) in dropped.items() if reason in _OVERLAPS}
    found = there = 0
    real: set[str] = set()
    for plant in truth:
        if plant.kind != "leak" or split_of.get(plant.of) not in _HELD_OUT:
            continue
        if plant.place in flagged or split_of.get(plant.place) == "train":
            there += 1
            found += plant.place in flagged
            real.add(plant.place)
    score.leaks = _share(found, there)
    pieces: dict[str, list[Plant]] = {}
    for plant in truth:
        if plant.kind == "spread" and split_of.get(plant.of) in _HELD_OUT:
            pieces.setdefault(plant.of, []).append(plant)
    learnable = [
        group
        for group in pieces.values()
        if all(plant.place in flagged or split_of.get(plant.place) == "train" for plant in group)
    ]
    left = [sum(plant.measure for plant in group if plant.place not in flagged) for group in learnable]
    score.spread = _share(sum(share <= _GIVEN_AWAY for share in left), len(left))
    real |= {plant.place for group in pieces.values() for plant in group}
    alike = {plant.place for plant in truth if plant.kind == "boilerplate"}
    score.boilerplate = _share(len(alike & flagged), sum(split_of.get(p) == "train" or p in flagged for p in alike))
    real |= alike
    # A near duplicate that was not merged and whose other half is held out gives it away; that flag is right.
    unmerged = {place for place in flagged - real if place in partner and partner[place] not in dropped}
    score.clean_flagged = len(flagged - real - unmerged)
    if unmerged:
        score.notes.append(f"near duplicates that were not merged, but kept out of training: {len(unmerged)}")


def _share(found: int, there: int) -> str:
    return f"{found / there:.2%} ({found} of {there})" if there else "none planted"


def _splits(clean: Path, places: set[str]) -> dict[str, str]:
    """Place -> the split in which it stands."""
    found: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        path = clean / split if (clean / split).is_dir() else clean / f"{split}.parquet"
        for batch in ds.dataset(path, format="parquet").to_batches(columns=["source"]):
            found |= dict.fromkeys(places.intersection(batch.column("source").to_pylist()), split)
    return found
