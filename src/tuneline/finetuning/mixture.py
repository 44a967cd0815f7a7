"""A mixture: several sets that one model is trained on, and the examples that each epoch takes of them.

An epoch takes every example of the set `raw` once. Of another set it takes `weight` times as many examples as the set
has, in an order that is drawn once. The next epoch continues where the last one stopped, so that the examples of a set
are shown equally often, give or take one.
"""

import random
import shlex
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, RecordForm, read_form
from tuneline.encoding.examples import ExampleTable
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import TrainingError
from tuneline.params import MixtureSet, Params
from tuneline.params.data import PRETRAINING, RAW


@dataclass(frozen=True)
class MixtureSource:
    """A clean set that the params mix in, or variants of the training rows."""

    name: str
    path: Path
    """The folder of its parts."""
    form: RecordForm
    share: MixtureSet
    key: str
    """Its place in params.yaml."""
    is_variant: bool = False
    """Whether its rows are variants of the training rows."""


@dataclass(frozen=True)
class Part:
    """An encoded set of a mixture."""

    name: str
    examples: ExampleTable[Any]
    report: EncodingReport
    share: MixtureSet
    is_text: bool = False
    """Whether it is plain text, which may be truncated."""
    key: str = ""
    """Its place in params.yaml."""


def find_sources(p: Params) -> list[MixtureSource]:
    """The clean sets of `data.mixture`, sorted by name, and the variants of `data.augment`.

    Args:
        p: the params.

    Raises:
        TrainingError: a name is not the name of a set, or variants are missing or are not named by data.augment.
    """
    mixture, clean = p.data.mixture, Path(p.paths.clean)
    known = files.read_object(clean / DATASET_FILE, "mixture")["mixture"]
    missing = sorted(mixture.keys() - known.keys() - {PRETRAINING})
    if missing:
        has = ", ".join(sorted([*known, PRETRAINING]))
        raise TrainingError(*(f"data.mixture.{name}: no set has this name; the sets are {has}" for name in missing))
    found = []
    for name in sorted(mixture):
        path, form = Path(p.paths.pretraining) / "train", RecordForm("text")
        if name != PRETRAINING:
            path, form = clean / known[name]["path"], RecordForm.from_json(known[name])
        found.append(MixtureSource(name, path, form, mixture[name], f"data.mixture.{name}"))
    if idle := sorted(known.keys() - mixture.keys()):
        print(f"not trained, because data.mixture does not name them: {', '.join(idle)}", flush=True)
    return [*found, *_variants(p)]


def _variants(p: Params) -> list[MixtureSource]:
    """The variants of the training rows, which have the form of these."""
    folder, named = Path(p.paths.augmented), list(p.data.augment.variants())
    if left := left_variants(p):
        raise TrainingError(
            *(f"{one}: data.augment does not name it any more; run: rm -r {shlex.quote(str(one))}" for one in left)
        )
    if missing := [variant.key for variant in named if not (folder / variant.name).is_dir()]:
        raise TrainingError(*(f"{key}: its variants are not made yet; run: make run" for key in missing))
    form = read_form(Path(p.paths.clean), p.task) if named else RecordForm("text")
    return [
        MixtureSource(name, folder / name, form, MixtureSet(weight=settings.weight), key, is_variant=True)
        for name, key, settings in named
    ]


def left_variants(p: Params) -> list[Path]:
    """The folders of variants that data.augment does not name any more, which no stage makes or deletes."""
    named = {variant.name for variant in p.data.augment.variants()}
    folders = sorted(Path(p.paths.augmented).glob("*/"))
    # What a killed write leaves begins with a dot.
    return [path for path in folders if path.name not in named and path.name[0] != "."]


class Mixture(Sequence[Any]):
    """The examples of several sets, one set after the other. The source of an example begins with the name of its set.

    Args:
        raw: the examples of the set `raw`.
        report: the encoding report of that set.
        others: the other sets, whose examples are of the same type.
        seed: decides the order of the examples of the other sets.
    """

    def __init__(self, raw: ExampleTable[Any], report: EncodingReport, others: Sequence[Part], seed: int) -> None:
        self._parts = [Part(RAW, raw, report, MixtureSet(weight=1.0)), *others]
        self._ends = list(accumulate(len(part.examples) for part in self._parts))
        self.lengths = np.concatenate([part.examples.lengths for part in self._parts])
        """Tokens of each example, int64."""
        self._pools = [self._pool(part, seed) for part in self._parts]

    @property
    def others(self) -> list[Part]:
        """All sets except `raw`."""
        return self._parts[1:]

    def _pool(self, part: Part, seed: int) -> np.ndarray:
        """The numbers of the examples that may be taken from a set, in the order in which they are taken."""
        order = list(range(len(part.examples)))
        if part.name != RAW:
            random.Random(f"{seed}/{part.name}").shuffle(order)
        return np.array(order[: part.share.max_examples], np.int64)

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def times(self) -> np.ndarray:
        """How often an epoch shows each example, on average over many epochs: float64."""
        found = np.zeros(len(self))
        for part, pool, end in zip(self._parts, self._pools, self._ends, strict=True):
            found[pool + end - len(part.examples)] = part.share.weight
        return found

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, position)
        part = self._parts[number]
        example = part.examples[position - (self._ends[number - 1] if number else 0)]
        return example if part.name == RAW else example._replace(source=f"{part.name}/{example.source}")

    def of_epoch(self, epoch: int) -> list[int]:
        """The numbers of the examples that epoch `epoch` (from 0) takes; a weight above 1 repeats some of them."""
        taken = []
        for part, pool, end in zip(self._parts, self._pools, self._ends, strict=True):
            start, stop = (round(n * part.share.weight * len(pool)) for n in (epoch, epoch + 1))
            taken.append(pool[np.arange(start, stop) % max(1, len(pool))] + end - len(part.examples))
        return np.concatenate(taken).tolist()

    def check(self, epochs: float) -> None:
        """Refuse sets of which no example would be trained.

        Args:
            epochs: epochs of the training.

        Raises:
            TrainingError: the names of these sets.
        """
        problems = [
            f"{part.key}: weight {part.share.weight:g} takes none of its {len(pool)} examples in "
            f"{epochs:g} epochs; raise the weight"
            for part, pool in zip(self._parts[1:], self._pools[1:], strict=True)
            if round(epochs * part.share.weight * len(pool)) == 0
        ]
        if problems:
            raise TrainingError(*problems)

    def realised(self, times: np.ndarray) -> dict[str, dict[str, Any]]:
        """What was trained of each set.

        Args:
            times: [examples] how often each example was shown.

        Returns:
            Name of the set -> its keys of data.mixture; `examples` that may be taken; and of those that were trained,
            with repetitions, their number `shown`, `tokens`, `supervised_tokens` and `share_of_tokens`; `data`: the
            encoding report of its rows.
        """
        total = int((times * self.lengths).sum()) or 1
        found = {}
        for part, pool, end in zip(self._parts, self._pools, self._ends, strict=True):
            own = slice(end - len(part.examples), end)
            shown = times[own]
            tokens = int((shown * self.lengths[own]).sum())
            found[part.name] = {
                **part.share.model_dump(),
                "examples": len(pool),
                "shown": int(shown.sum()),
                "tokens": tokens,
                "supervised_tokens": int((shown * part.examples.supervised_counts()).sum()),
                "share_of_tokens": round(tokens / total, 4),
                "data": part.report.as_dict(),
            }
        return found
