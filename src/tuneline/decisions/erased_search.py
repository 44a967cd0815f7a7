"""Searches the files of a project for texts that must be gone: their bytes, and the columns of tables."""

import html
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from tuneline.data.removing import found_rows

_LEFT_OUT = (".git", ".venv", "__pycache__")
_BLOCK = 1 << 24


def search(root: Path, texts: Sequence[str], *, leave_out: Sequence[Path] = ()) -> tuple[list[str], int]:
    """The files that hold one of the texts, and how many files were searched.

    Args:
        root: the folder; git's and Python's own folders in it are left out.
        texts: also looked for as JSON, HTML and CSV write them.
        leave_out: files that are not searched.
    """
    needles = [form.encode("utf-8", "replace") for form in sorted({form for text in texts for form in _forms(text)})]
    found, count = [], 0
    for file in _files(root):
        if file in leave_out:
            continue
        count += 1
        try:
            if _holds(file, needles):
                found.append(file.relative_to(root).as_posix())
        except FileNotFoundError:
            # A file of a running server that has ended meanwhile.
            continue
    return found, count


def find_values(root: Path, texts: Sequence[str], *, leave_out: Sequence[Path] = ()) -> list[str]:
    """The files of rows in which one of the texts is a whole value: tables, and JSON with one row per line.

    Args:
        root: as for `search`.
        texts: too short to be searched for in bytes, where they occur by chance.
        leave_out: files that are not searched.
    """
    values = {form for text in texts for form in (text, unicodedata.normalize("NFC", text))}
    # A conversation is JSON in a column.
    quoted = {json.dumps(value, ensure_ascii=is_ascii) for value in values for is_ascii in (True, False)}
    needles = [form[1:-1].encode("utf-8", "replace") for form in quoted]

    def holds(value: str) -> bool:
        text = value.strip()
        return text in values or (text[:1] in "[{" and any(one in text for one in quoted))

    found = []
    for file in _files(root):
        if file not in leave_out:
            try:
                if any(holds(value) for value in _values(file, needles)):
                    found.append(file.relative_to(root).as_posix())
            except FileNotFoundError:
                continue
    return found


def _values(file: Path, needles: Sequence[bytes]) -> Iterator[str]:
    """The texts in the values of a file of rows; of other files nothing."""
    with file.open("rb") as opened:
        head = opened.read(8)
        if _is_table(head):
            for rows in _batches(file, head):
                yield from found_rows.texts_of(rows)
        elif head.lstrip().startswith(b"{"):
            opened.seek(0)
            for line in opened:
                if line.lstrip().startswith(b"{") and any(needle in line for needle in needles):
                    try:
                        yield from found_rows.texts_of(json.loads(line))
                    except (ValueError, RecursionError):
                        # A line of another format.
                        continue


def _forms(text: str) -> set[str]:
    """How files write a text."""
    # The pipeline writes line breaks as \n, and accents in one character.
    plain = {text, text.replace("\r\n", "\n").replace("\r", "\n")}
    plain |= {unicodedata.normalize("NFC", form) for form in plain}
    once = {form for one in plain for form in _json_forms(one)}
    # A conversation is JSON in a column, and a line of JSON may hold it.
    found = plain | once | {form for one in once for form in _json_forms(one)}
    found |= {html.escape(form, quote=quote) for form in found for quote in (True, False)}
    return found | {form.replace('"', '""') for form in plain | once}


def _json_forms(text: str) -> tuple[str, str]:
    return json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        yield from (file for name in names if (file := Path(folder, name)).is_file() and not file.is_symlink())


def _holds(file: Path, needles: Sequence[bytes]) -> bool:
    longest = max(map(len, needles))
    with file.open("rb") as opened:
        head, before = opened.read(8), b""
        opened.seek(0)
        while block := opened.read(_BLOCK):
            text = before + block
            if any(needle in text for needle in needles):
                return True
            before = text[-longest:]
    return _is_table(head) and any(needle in cell for cell in _cells(file, head) for needle in needles)


def _is_table(head: bytes) -> bool:
    return head.startswith((b"PAR1", b"ARROW1"))


def _cells(file: Path, head: bytes) -> Iterator[bytes]:
    """The texts of a table, batch by batch."""
    for rows in _batches(file, head):
        yield "\n".join(found_rows.texts_of(rows)).encode("utf-8", "replace")


def _batches(file: Path, head: bytes) -> Iterator[list[Any]]:
    """The rows of a table, batch by batch."""
    try:
        if head.startswith(b"PAR1"):
            for batch in pq.ParquetFile(file).iter_batches():
                yield batch.to_pylist()
        else:
            with pa.OSFile(str(file)) as source:
                reader = pa.ipc.open_file(source)
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number).to_pylist()
    except pa.ArrowInvalid:
        # It only begins like a table; its bytes were searched.
        return
