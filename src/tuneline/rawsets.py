"""Your own text: read as the pipeline would, copied to data/raw, put under DVC, and named in params.yaml."""

import codecs
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneline import files, params, pipeline
from tuneline.data import records
from tuneline.errors import DataError
from tuneline.params import editing

RAW = Path("data/raw")

_NAME = re.compile(r"\w[\w.-]{0,99}")
_TASKS = {record_type: task for task, record_type in records.RECORD_TYPE_OF_TASK.items()}


def use(
    path: Path,
    *,
    name: str | None,
    group_by: str | None,
    columns: Mapping[str, str],
    encoding: str | None,
) -> Iterator[str]:
    """Make the text at `path` the raw set, from now on; a set of the same name is replaced.

    Args:
        path: a file or a folder.
        name: of the set, a folder under data/raw; by default that of `path`.
        group_by: column whose value keeps rows together when they are split; None: as the set was split before, or
            rows with the same prompt.
        columns: field of the record -> column of the files; empty: as the set was read before, or by known names.
        encoding: of the files; None: what params.yaml says.

    Yields:
        What was found and done, a line each.

    Raises:
        DataError: the text cannot be used; nothing was changed.
    """
    p = params.load()
    encoding = encoding or p.data.encoding
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(f"--encoding {encoding}: is no encoding that Python knows; utf-8 and gb18030 are two") from None
    name = name or (path.stem if path.is_file() else path.resolve().name)
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r}: is no name for a folder under {RAW}; give one with --name, of letters and digits")
    target = RAW / name
    if target.as_posix() in (p.paths.sample, p.paths.sample_text):
        raise DataError(f"{target}: belongs to the built-in corpus, which is made anew; choose another with --name")
    if target.as_posix() == p.data.raw:
        # The next month's files are split and read as the last month's were, unless this call says otherwise.
        group_by, columns = group_by or p.data.split.group_by, columns or p.data.columns
    found = records.read(path, encoding=encoding, columns=columns, group_by=group_by)
    records.check_rejected(found, p.data.max_rejected_fraction)
    yield f"{path}: {len(found.records):,} rows of {found.record_type}, {len(found.rejected):,} set aside"
    yield from (f"  {row.describe()}" for row in found.rejected[:5])
    _copy(path, list(found.formats), target)
    pipeline.add(target)
    yield f"{target}: copied, and under DVC ({target}.dvc)"
    values = _values(p, found.record_type, target, group_by, columns, encoding)
    editing.set_values(Path(params.PARAMS_FILE), values)
    yield from (f"{params.PARAMS_FILE}: {key}: {value}" for key, value in values.items())
    params.load()
    yield "next: make run"


def _copy(path: Path, names: list[str], target: Path) -> None:
    """Only what was read: whatever else lies beside it is none of the pipeline's business."""
    if path.resolve() == target.resolve():
        return
    with files.atomic_folder(target) as beside:
        for name in names:
            source = path if path.is_file() else path / name
            copy = beside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def _values(
    p: params.Params,
    record_type: records.RecordType,
    target: Path,
    group_by: str | None,
    columns: Mapping[str, str],
    encoding: str,
) -> dict[str, Any]:
    """What changes in params.yaml."""
    task = _TASKS[record_type]
    values: dict[str, Any] = {
        "task": task,
        "data.raw": target.as_posix(),
        "data.encoding": encoding,
        "data.columns": dict(columns),
        "data.split.group_by": group_by,
    }
    if p.data.raw == p.paths.sample:
        # Another model than the built-in one deserves a name, and a champion, of its own.
        values["registry.model"] = re.sub(r"[^A-Za-z0-9._-]", "-", target.name).lstrip("._-") or "model"
    if task == "language-modeling":
        rules = [rule.model_dump() for rule in p.gate.rules if rule.metric != "chrf"]
        if len(rules) < len(p.gate.rules):
            values["gate.rules"] = rules
    return values
