"""From the records of the raw sets to clean splits and pretraining text, in which nothing held out stands.

Every row that goes in comes out, or is dropped with a reason: the accounts add up.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from tuneline.data import cleaning, contamination, duplicates
from tuneline.data.records import FIELDS, Record, RecordSet
from tuneline.data.rows import Rejected, excerpt
from tuneline.data.splitting import SPLITS, SplitName, split_of
from tuneline.errors import DataError
from tuneline.params import Data

HELD_OUT_TEXTS = 500
"""Pretraining texts of held-out groups that are kept to measure the base."""

_REPORTED_OVERLAP = 0.3
_RANK: dict[SplitName, int] = {"train": 0, "validation": 1, "test": 2}


class _Row(NamedTuple):
    record: Record
    values: tuple[str, ...]
    """Cleaned."""
    key: str
    """Equal for rows that are the same."""
    fields: tuple[str, ...]
    """The keys of the single fields."""
    cluster: str
    split: SplitName


@dataclass
class _Set:
    """The rows of a set that are still in, and those that are not."""

    records: RecordSet
    rows: list[_Row] = field(default_factory=list)
    dropped: list[Rejected] = field(default_factory=list)
    changed: int = 0

    def drop(self, row: _Row, reason: str, detail: str) -> None:
        record = row.record
        text = excerpt(" | ".join(row.values))
        self.dropped.append(Rejected(record.file, record.line, record.offset, reason, detail, text))

    def of(self, *splits: SplitName) -> list[_Row]:
        return [row for row in self.rows if row.split in splits]

    def account(self) -> dict[str, Any]:
        reasons = Counter(row.reason for row in self.dropped)
        rows_in = self.records.rows
        assert rows_in == len(self.rows) + len(self.dropped), "a row was lost or counted twice"
        return {
            "set": self.records.path,
            "record_type": self.records.record_type,
            "files": len(self.records.formats),
            "rows_in": rows_in,
            "changed_by_cleaning": self.changed,
            "dropped": dict(sorted(reasons.items())),
            "rows_out": len(self.rows),
        }


@dataclass(frozen=True)
class Prepared:
    """What `prepare` writes."""

    clean: dict[str, pa.Table]
    """Split -> id, source, cluster and the fields of the record type."""
    pretraining: dict[str, pa.Table]
    """train and validation -> id, source, cluster, text."""
    accounts: dict[str, Any]
    quarantine: list[dict[str, Any]]


def prepare(raw: RecordSet, pretraining: RecordSet, data: Data) -> Prepared:
    """Clean, split and check both sets.

    Args:
        raw: the set to fine-tune on.
        pretraining: texts that a base is pretrained on.
        data: how.

    Returns:
        Tables, accounts and the dropped rows.

    Raises:
        DataError: a split is empty.
    """
    pairs, texts = _clean(raw, data), _clean(pretraining, data)
    for one in (pairs, texts):
        _drop_duplicates(one)
    overlaps = _drop_overlapping(pairs, texts, data.max_overlap)
    rows: dict[SplitName, list[_Row]] = {split: pairs.of(split) for split in SPLITS}
    _check_splits(rows, pairs, data)
    learnt = {row.fields[-1] for row in rows["train"]}
    known = sum(row.fields[-1] in learnt for row in rows["test"])
    _keep_some_held_out(texts)
    base = {"train": texts.of("train"), "validation": texts.of("validation", "test")}
    if not base["train"]:
        raise DataError(f"{pretraining.path}: no text is left to pretrain on; data.pretraining needs more of it")
    groups = {split: len({row.cluster for row in rows[split]}) for split in SPLITS}
    accounts = {
        "raw": pairs.account() | {"rows": {split: len(rows[split]) for split in SPLITS}, "groups": groups},
        "pretraining": texts.account()
        | {
            "rows": {split: len(base[split]) for split in base},
            "bytes": {split: sum(len(row.values[0].encode()) for row in base[split]) for split in base},
        },
        "overlap": overlaps | {"test_rows_with_an_answer_that_train_has": known},
    }
    return Prepared(
        {split: _table(rows[split], FIELDS[raw.record_type]) for split in SPLITS},
        {split: _table(base[split], FIELDS["text"]) for split in base},
        accounts,
        [_quarantined(one, row) for one in (pairs, texts) for row in one.dropped],
    )


def _clean(records: RecordSet, data: Data) -> _Set:
    one = _Set(records, dropped=list(records.rejected))
    shares = data.split
    split_by_group: dict[str, tuple[str, SplitName]] = {}
    for record in records.records:
        values = tuple(map(cleaning.clean, record.values))
        fields = tuple(map(cleaning.key, values))
        group = fields[0] if record.group is None else cleaning.key(record.group)
        if group not in split_by_group:
            split = split_of(group, validation=shares.validation, test=shares.test, seed=shares.seed)
            split_by_group[group] = (_hash(group), split)
        row = _Row(record, values, "\0".join(fields), fields, *split_by_group[group])
        one.changed += values != record.values
        if all(fields):
            one.rows.append(row)
        else:
            one.drop(row, "empty", "nothing is left after control characters are taken out")
    return one


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _drop_duplicates(one: _Set) -> None:
    kept = duplicates.representatives([row.key for row in one.rows], [_RANK[row.split] for row in one.rows])
    for index, row in enumerate(one.rows):
        if kept[index] != index:
            one.drop(row, "duplicate", f"the same as {one.rows[kept[index]].record.source}")
    one.rows = [row for index, row in enumerate(one.rows) if kept[index] == index]


def _drop_overlapping(pairs: _Set, texts: _Set, max_overlap: float) -> dict[str, Any]:
    """Take out of training what gives away a held-out row of either set."""
    held_out: list[tuple[str, str]] = []
    for one in (pairs, texts):
        for row in one.of("validation", "test"):
            place = f"{one.records.path}/{row.record.source}"
            held_out.append((" ".join(row.fields), place))
            # The answer counts by itself: a text may hold it without its question.
            held_out += [(row.fields[-1], place)] if len(row.fields) > 1 else []
    wholes = dict(reversed(held_out))
    candidates = [(one, row) for one in (pairs, texts) for row in one.of("train")]
    keys = [" ".join(row.fields) for _, row in candidates]
    found = contamination.overlap(keys, [key for key, _ in held_out])
    out: set[int] = set()
    for index, (one, row) in enumerate(candidates):
        if keys[index] in wholes:
            one.drop(row, "held-out", f"the same text as {wholes[keys[index]]}, which is held out")
        elif found.share[index] > max_overlap:
            place = held_out[found.held_out[index]][1]
            one.drop(row, "overlap", f"holds {found.share[index]:.0%} of {place}, which is held out")
        else:
            continue
        out.add(id(row))
    for one in (pairs, texts):
        one.rows = [row for row in one.rows if id(row) not in out]
    reported = int(((found.share > _REPORTED_OVERLAP) & (found.share <= max_overlap)).sum())
    return {"max_overlap": max_overlap, f"kept_above_{_REPORTED_OVERLAP}": reported, "held_out_texts": len(held_out)}


def _keep_some_held_out(texts: _Set) -> None:
    """Texts of held-out groups serve to measure the base; which ones stays the same when data is added."""
    held_out = sorted(texts.of("validation", "test"), key=lambda row: _hash(row.key))
    out = {id(row) for row in held_out[HELD_OUT_TEXTS:]}
    for row in held_out[HELD_OUT_TEXTS:]:
        texts.drop(row, "held-out-group", "its group is held out, so it is not pretrained on")
    texts.rows = [row for row in texts.rows if id(row) not in out]


def _check_splits(rows: dict[SplitName, list[_Row]], one: _Set, data: Data) -> None:
    empty = [split for split in SPLITS if not rows[split]]
    if not empty:
        return
    groups = len({row.cluster for split in SPLITS for row in rows[split]})
    by = f"the column {data.split.group_by!r}" if data.split.group_by else "their prompt"
    raise DataError(
        f"{one.records.path}: no rows for {' and '.join(empty)}: {len(one.rows)} rows in {groups} groups "
        f"by {by} (data.split: test {data.split.test:g}, validation {data.split.validation:g}); bring more groups, "
        "raise the shares, or group by another column"
    )


def _table(rows: Sequence[_Row], fields: Sequence[str]) -> pa.Table:
    columns = {
        "id": [_hash(row.key) for row in rows],
        "source": [row.record.source for row in rows],
        "cluster": [row.cluster for row in rows],
    }
    columns |= {name: [row.values[index] for row in rows] for index, name in enumerate(fields)}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _quarantined(one: _Set, row: Rejected) -> dict[str, Any]:
    return {
        "set": one.records.path,
        "source": f"{row.source}:{row.line}",
        "line": row.line,
        "offset": row.offset,
        "reason": row.reason,
        "detail": row.detail,
        "row": row.row,
    }
