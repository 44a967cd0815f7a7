"""Variants of the training rows: a row with another text, the same label and the same cluster.

A variant depends on its parent, the seed and the settings alone, so rows that come later change no other variant. What
is not another row, or is too near to a held-out row, is dropped and counted.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.augmentation.near_held_out import HeldOut, key
from tuneline.core import files
from tuneline.data.records import canaries, field_texts
from tuneline.data.records.record_form import RecordForm, read_form
from tuneline.errors import DataError
from tuneline.params import Params
from tuneline.progress import Progress

Change = Callable[[Sequence[str], Sequence[int]], Sequence[str | None]]
"""Texts and the seed of each -> other texts; None for a text that is too long."""

DROPPED = ("unchanged", "empty", "too-long", "training-row", "twice", "held-out")
"""Why a variant is dropped: it is its parent; nothing is left of a text; a text was too long to be changed; it is
another training row; it is another variant of the same name; it is equal or nearly equal to a held-out row."""
_BATCH = 1024
_EXAMPLES = 3
_EXCERPT = 300
PARENT = "parent"
"""The column of the id of the row that a variant was made from."""


@dataclass
class Counted:
    """What became of the rows."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def add(self, row: str, example: dict[str, str]) -> None:
        """Count a variant; those with the lowest ids are the examples."""
        self.rows_out += 1
        self.examples = sorted([*self.examples, (row, example)], key=lambda one: one[0])[:_EXAMPLES]

    def described(self, name: str) -> str:
        """A line for a person."""
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
        left = f"; dropped {dropped}" if dropped else ""
        return f"{name}: {self.rows_out:,} variants of {self.rows_in:,} training rows{left}"

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "dropped": {reason: self.dropped[reason] for reason in DROPPED if self.dropped[reason]},
            "examples": [example for _, example in self.examples],
        }


def make(p: Params, name: str, change: Change, *, completion: bool = False) -> None:
    """Write the variants of a name into their folder, and the counts into the reports.

    Args:
        p: the params.
        name: of the variants.
        change: makes the texts.
        completion: whether the completion is changed too.

    Raises:
        DataError: no variant is left.
    """
    clean = Path(p.paths.clean)
    counted = write(
        clean,
        Path(p.paths.augmented) / name,
        read_form(clean, p.task),
        change,
        name=name,
        seed=p.data.split.seed,
        threshold=p.data.near_duplicates,
        completion=completion,
    )
    files.write_json(Path(p.paths.reports) / "augmented" / f"{name}.json", counted.as_json())
    print(counted.described(name), flush=True)


def by_text(change: Callable[[str, float, int], str], p: float) -> Change:
    """A change that looks at one text at a time, with one probability."""
    return lambda texts, seeds: [change(text, p, seed) for text, seed in zip(texts, seeds, strict=True)]


def write(
    clean: Path,
    target: Path,
    form: RecordForm,
    change: Change,
    *,
    name: str,
    seed: int,
    threshold: float | None,
    completion: bool = False,
) -> Counted:
    """Write a variant of each training row, without those that are dropped.

    Args:
        clean: the folder of the clean splits.
        target: the new folder of parquet files.
        form: of the records.
        change: makes the texts.
        name: of the variants, for their ids and sources.
        seed: decides, with the id of a row, what changes in it.
        threshold: Jaccard similarity of near duplicates; None: only variants equal to a held-out row are dropped.
        completion: whether the completion is changed too.

    Returns:
        The counts.

    Raises:
        DataError: no variant is left.
    """
    held_out = [_key(form, row) for split in ("validation", "test") for rows in _read(clean / split) for row in rows]
    trained = {_digest(_key(form, row)) for rows in _read(clean / "train") for row in rows}
    maker = _Maker(form, change, name, seed, completion, HeldOut(held_out, threshold), trained)
    counted = maker.counted
    with files.atomic_folder(target) as new, Progress(f"{name}: {clean / 'train'}") as progress:
        total = sum(pq.read_metadata(part).num_rows for part in _parts(clean / "train"))
        for part in _parts(clean / "train"):
            with pq.ParquetWriter(new / part.name, _schema(part), compression="zstd") as writer:
                for rows in _batches(part):
                    progress.update(counted.rows_in, total)
                    if kept := maker.variants(rows):
                        writer.write_table(pa.Table.from_pylist(kept, _schema(part)))
        if not counted.rows_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in counted.dropped.most_common())
            raise DataError(
                f"{name}: no variant of the {counted.rows_in:,} training rows is left ({reasons}); raise its p, or "
                "take it out of data.augment: not every kind of change fits every script and every length"
            )
    return counted


@dataclass
class _Maker:
    """Makes the variants of one name, batch by batch."""

    form: RecordForm
    change: Change
    name: str
    seed: int
    completion: bool
    held_out: HeldOut
    trained: set[bytes]
    """The digests of the keys of all training rows."""
    made: set[bytes] = field(default_factory=set)
    """The digests of the keys of the variants so far."""
    counted: Counted = field(default_factory=Counted)

    def variants(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """The variants of some training rows that are kept."""
        rows = [row for row in rows if not row["source"].startswith(f"{canaries.SOURCE}:")]
        self.counted.rows_in += len(rows)
        texts = [_texts(self.form, row, self.completion) for row in rows]
        places = ((row["id"], place) for row, own in zip(rows, texts, strict=True) for place in range(len(own)))
        seeds = [self._seed(*one) for one in places]
        changed = iter(self.change([text for own in texts for text in own], seeds))
        made = [[next(changed) for _ in own] for own in texts]
        is_long = [None in own for own in made]
        after = [[text or "" for text in own] for own in made]
        others = [_replaced(self.form, row, own, self.completion) for row, own in zip(rows, after, strict=True)]
        keys = [_key(self.form, other) for other in others]
        kept = []
        near = self.held_out.near(keys).tolist()
        for row, other, own, before, now, too_long, is_near in zip(
            rows, others, keys, texts, after, is_long, near, strict=True
        ):
            reason = "too-long" if too_long else self._why_dropped(row, own, before, now, is_near)
            if reason:
                self.counted.dropped[reason] += 1
                continue
            self.made.add(_digest(own))
            new_id = hashlib.sha256(f"{self.name} {row['id']} {own}".encode()).hexdigest()[:16]
            kept.append({**other, "id": new_id, "source": f"{row['source']} ({self.name})", PARENT: row["id"]})
            self.counted.add(new_id, {"source": row["source"], "before": _excerpt(before), "after": _excerpt(now)})
        return kept

    def _why_dropped(
        self, row: dict[str, str], own: str, before: Sequence[str], now: Sequence[str], is_near: bool
    ) -> str | None:
        if own == _key(self.form, row):
            return "unchanged"
        if any(old.strip() and not text.strip() for old, text in zip(before, now, strict=True)):
            return "empty"
        if is_near:
            return "held-out"
        if _digest(own) in self.trained:
            return "training-row"
        return "twice" if _digest(own) in self.made else None

    def _seed(self, row: str, place: int) -> int:
        digest = hashlib.sha256(f"{self.seed} {self.name} {row} {place}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


def _excerpt(texts: Sequence[str]) -> str:
    joined = " … ".join(text.strip() for text in texts)
    return joined if len(joined) <= _EXCERPT else f"{joined[:_EXCERPT]}…"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _key(form: RecordForm, row: dict[str, str]) -> str:
    """What two rows have in common if they are the same: of a row with a label its text."""
    values = tuple(row[name] for name in form.fields)
    return key(" ".join(values[:1] if form.labelled else field_texts.texts(form, values)))


def _texts(form: RecordForm, row: dict[str, str], completion: bool) -> list[str]:
    """The texts of a row that are changed: never a label, a system turn, or an answer that is preferred or rejected."""
    if not form.conversational:
        return [row[name] for name in _fields(form, completion)]
    return [message["content"] for message in _changeable(form, orjson.loads(row[form.fields[0]]), completion)]


def _replaced(form: RecordForm, row: dict[str, str], texts: Sequence[str], completion: bool) -> dict[str, str]:
    """The row with other texts in the places of `_texts`."""
    if not form.conversational:
        return {**row, **dict(zip(_fields(form, completion), texts, strict=True))}
    messages = orjson.loads(row[form.fields[0]])
    for message, text in zip(_changeable(form, messages, completion), texts, strict=True):
        message["content"] = text
    return {**row, form.fields[0]: orjson.dumps(messages).decode()}


def _fields(form: RecordForm, completion: bool) -> tuple[str, ...]:
    return form.fields[:2] if completion and form.record_type == "prompt-completion" else form.fields[:1]


def _changeable(form: RecordForm, messages: list[dict[str, Any]], completion: bool) -> list[dict[str, Any]]:
    roles = ("user", "assistant") if completion and form.record_type == "messages" else ("user",)
    return [message for message in messages if message["role"] in roles and message.get("content")]


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _schema(part: Path) -> pa.Schema:
    return pq.read_schema(part).append(pa.field(PARENT, pa.string())).remove_metadata()


def _read(folder: Path) -> Iterator[list[dict[str, str]]]:
    for part in _parts(folder):
        yield from _batches(part)


def _batches(part: Path) -> Iterator[list[dict[str, str]]]:
    with pq.ParquetFile(part) as file:
        for batch in file.iter_batches(_BATCH):
            yield batch.to_pylist()
