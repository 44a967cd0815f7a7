"""Near duplicates of one set: which rows may be alike, by their sketches, and whether they are, by their grams."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuneline.data.preparing.dedup import duplicates
from tuneline.data.preparing.scheduler import Run
from tuneline.data.preparing.store import Catalogue, values_of
from tuneline.data.preparing.text import cleaning, grams
from tuneline.data.preparing.text.row_keys import plain_texts

_PAIRS = 4000
_CHARACTERS = 16_000_000
_QUESTION = 0.5


@dataclass(frozen=True)
class Band:
    """One band of a set."""

    catalogue: Catalogue
    number: int
    rows: Path
    """The indices of the rows that are compared, rising."""


@dataclass(frozen=True)
class Pairs:
    """Rows that may be alike."""

    catalogue: Catalogue
    pairs: np.ndarray
    """[pairs, 2] indices in the set."""
    threshold: float
    """Jaccard similarity."""


def near(
    catalogue: Catalogue, compared: np.ndarray, answers: np.ndarray, characters: np.ndarray, threshold: float,
    folder: Path, run: Run,
) -> duplicates.Near:  # fmt: skip
    """Find the near duplicates among some rows of a set.

    Args:
        catalogue: of the set.
        compared: which rows, rising.
        answers: [rows of the set] hash of what is to be learnt.
        characters: [rows of the set]
        threshold: Jaccard similarity from which two rows are one.
        folder: for what other processes must see.
        run: runs a function over items.

    Returns:
        Clusters of all rows of the set; a row that is not compared is alone.
    """
    np.save(folder / "compared.npy", compared)
    bands = run(buckets_of, [Band(catalogue, band, folder / "compared.npy") for band in range(grams.BANDS)])
    with_label = catalogue.form.labelled

    def are_alike(pairs: np.ndarray) -> np.ndarray:
        wanted = np.ones(len(pairs), bool)
        if with_label:
            wanted = answers[pairs[:, 0]] == answers[pairs[:, 1]]
        found = list(run(alike, (Pairs(catalogue, chunk, threshold) for chunk in chunks(pairs[wanted], characters))))
        wanted[wanted] = np.concatenate(found) if found else np.zeros(0, bool)
        return wanted

    return duplicates.near(catalogue.rows, bands, are_alike)


def chunks(pairs: np.ndarray, characters: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs in pieces whose rows take a bounded amount of memory.

    Args:
        pairs: [pairs, 2] indices of rows.
        characters: of each row.
    """
    if not len(pairs):
        return
    sizes = np.cumsum(characters[pairs].sum(axis=1, dtype=np.int64))
    number = np.maximum(sizes // _CHARACTERS, np.arange(len(pairs)) // _PAIRS)
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(pairs)]
    for start, stop in itertools.pairwise(cuts):
        yield pairs[start:stop]


def buckets_of(band: Band) -> duplicates.Buckets:
    """The rows that share a number in one band."""
    rows = np.load(band.rows)
    keys = np.concatenate([part.array("bands")[band.number] for part in band.catalogue.parts])
    return duplicates.buckets(keys[rows], rows)


def alike(job: Pairs) -> np.ndarray:
    """Whether the rows of each pair are nearly the same."""
    rows, places = np.unique(job.pairs, return_inverse=True)
    return alike_texts(_texts(job.catalogue, rows), places.reshape(-1, 2), job.threshold)


def alike_texts(texts: Sequence[tuple[str, ...]], pairs: np.ndarray, threshold: float) -> np.ndarray:
    """Whether the rows of each pair are nearly the same.

    Args:
        texts: of each row, as `plain_texts` gives them.
        pairs: [pairs, 2] indices of rows.
        threshold: Jaccard similarity from which two rows are one.

    Returns:
        bool, [pairs].
    """
    wholes = grams.gram_sets([" ".join(map(cleaning.key, text)) for text in texts])
    return np.array(
        [
            grams.jaccard(wholes[one], wholes[other]) >= threshold
            and _same_in_each_field(texts[one], texts[other], threshold)
            for one, other in pairs.tolist()
        ],
        bool,
    )


def _texts(catalogue: Catalogue, rows: np.ndarray) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for part in catalogue.parts:
        first, last = np.searchsorted(rows, (part.start, part.stop))
        if last > first:
            values = values_of(part.batch(), rows[first:last] - part.start)
            found += [plain_texts(catalogue.form, row) for row in values]
    return found


def _same_in_each_field(one: Sequence[str], other: Sequence[str], threshold: float) -> bool:
    """Of several fields, every answer must be alike by itself, and so must the question beside a long context."""
    if len(one) == 1:
        return True
    answers = zip(one[1:], other[1:], strict=True)
    return all(_similarity(left, right) >= threshold for left, right in answers) and _asks_the_same(one[0], other[0])


def _asks_the_same(one: str, other: str) -> bool:
    """Whether what is left of two prompts without the lines that both have is the same question.

    Only where most of them is shared: else the lines say nothing, as when one text is wrapped in two ways.
    """
    lines, others = (Counter(filter(None, map(cleaning.key, text.split("\n")))) for text in (one, other))
    left, right = (" ".join((a - b).elements()) for a, b in ((lines, others), (others, lines)))
    shared = sum(map(len, (lines & others).elements()))
    if not left or not right or shared < max(len(left), len(right)):
        return True
    return _similarity(left, right) >= _QUESTION


def _similarity(one: str, other: str) -> float:
    return grams.jaccard(*grams.gram_sets([cleaning.key(one), cleaning.key(other)]))
