"""A mixture: several sets that one model learns from, and which of their examples an epoch takes.

Of the set to fine-tune on an epoch takes every example once; of another set `weight` times as many as there are, in an
order that is drawn once. The next epoch goes on where the last one stopped, so that each example comes as often as any
other of its set, give or take one.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, RecordForm
from tuneline.encoding.examples import Example, Examples
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import TrainingError
from tuneline.params import MixtureSet, Params
from tuneline.params.data import PRETRAINING, RAW

_TASKS = {"prompt-completion": "sft", "messages": "sft", "text": "language-modeling"}


@dataclass(frozen=True)
class Wanted:
    """A clean set that a mixture takes."""

    name: str
    path: Path
    """Folder of its parts."""
    form: RecordForm
    share: MixtureSet

    @property
    def task(self) -> str:
        """What is learnt of its rows."""
        return _TASKS[self.form.record_type]


@dataclass(frozen=True)
class Part:
    """A set as it is trained."""

    name: str
    examples: Examples
    account: EncodingReport
    share: MixtureSet
    is_text: bool = False
    """Plain text beside the task, of which any part is as good as another."""


def wanted(p: Params) -> list[Wanted]:
    """Find the clean sets of the params' mixture.

    Args:
        p: the params.

    Returns:
        The sets, in the order of their names.

    Raises:
        TrainingError: there is no set of a name.
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
        found.append(Wanted(name, path, form, mixture[name]))
    if idle := sorted(known.keys() - mixture.keys()):
        print(f"not trained, as data.mixture does not name them: {', '.join(idle)}", flush=True)
    return found


class Mixture(Sequence[Example]):
    """The examples of several sets, one set behind the other; a source begins with the name of its set.

    Args:
        raw: of the set to fine-tune on.
        account: of that set.
        others: the sets beside it.
        seed: where the orders come from.
    """

    def __init__(self, raw: Examples, account: EncodingReport, others: Sequence[Part], seed: int) -> None:
        self._parts = [Part(RAW, raw, account, MixtureSet(weight=1.0)), *others]
        self._ends = list(accumulate(len(part.examples) for part in self._parts))
        self.lengths = np.concatenate([part.examples.lengths for part in self._parts])
        """Tokens of each example, int64."""
        self._pools = [self._pool(part, seed) for part in self._parts]

    @property
    def others(self) -> list[Part]:
        """The sets beside the one to fine-tune on."""
        return self._parts[1:]

    def _pool(self, part: Part, seed: int) -> np.ndarray:
        """Numbers of the examples of a set that may be taken, in their order."""
        order = list(range(len(part.examples)))
        if part.name != RAW:
            random.Random(f"{seed}/{part.name}").shuffle(order)
        return np.array(order[: part.share.max_examples], np.int64)

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, place)
        part = self._parts[number]
        example = part.examples[place - (self._ends[number - 1] if number else 0)]
        return example if part.name == RAW else example._replace(source=f"{part.name}/{example.source}")

    def of_epoch(self, epoch: int) -> list[int]:
        """The numbers of the examples that an epoch takes, from 0; with a weight above 1 some more than once."""
        taken = []
        for part, pool, end in zip(self._parts, self._pools, self._ends, strict=True):
            start, stop = (round(n * part.share.weight * len(pool)) for n in (epoch, epoch + 1))
            taken.append(pool[np.arange(start, stop) % max(1, len(pool))] + end - len(part.examples))
        return np.concatenate(taken).tolist()

    def check(self, epochs: float) -> None:
        """Refuse sets of which nothing would come.

        Args:
            epochs: of the training.

        Raises:
            TrainingError: naming them.
        """
        problems = [
            f"data.mixture.{part.name}: weight {part.share.weight:g} of {len(pool)} examples is none in {epochs:g} "
            "epochs; raise it"
            for part, pool in zip(self._parts[1:], self._pools[1:], strict=True)
            if round(epochs * part.share.weight * len(pool)) == 0
        ]
        if problems:
            raise TrainingError(*problems)

    def realised(self, times: np.ndarray) -> dict[str, dict[str, Any]]:
        """What was trained of each set.

        Args:
            times: [examples] how often each was shown.

        Returns:
            Name (`raw`: the set to fine-tune on) -> what was asked for; `examples` that may be taken, and how many were
            `shown`, every time counted; their `tokens` and `supervised_tokens`; `share_of_tokens` of all that was
            shown; and the account of the set's rows.
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
                "data": part.account.as_dict(),
            }
        return found
