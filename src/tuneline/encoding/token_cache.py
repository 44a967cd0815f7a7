"""Examples of a split, kept on disk as Arrow files and memory-mapped: a row is read when it is asked for.

    work/tokens/data-clean-train/<key>/examples.arrow, manifest.json

The key is a digest of everything that decides over a token. An entry counts only with its manifest, which names the
sha256 of the examples; the folder is written under another name, synced and renamed. A split keeps its newest entry.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from tuneline import processes
from tuneline.core import files
from tuneline.core.identity import MANIFEST, code_deps, code_sha256, compute_fingerprint, is_complete
from tuneline.encoding.examples import ExampleTable
from tuneline.encoding.truncation import EncodingReport
from tuneline.work import WORK

FOLDER = WORK / "tokens"
"""The folder of the entries of all splits."""
_EXAMPLES = "examples.arrow"
_STAGES = ("finetune", "evaluate")
"""The stages that write entries."""

Table = TypeVar("Table", bound=ExampleTable[Any])


@cache
def deciding_code() -> tuple[str, ...]:
    """The code that decides over tokens, relative to the project: what the stages that write entries have in common.

    What only one of them depends on decides over rows and labels, which `parts` of the key contain.
    """
    return tuple(sorted(set.intersection(*(set(code_deps(stage)) for stage in _STAGES))))


def cache_key(tokenizer: PreTrainedTokenizerBase, **parts: Any) -> str:
    """The digest of what decides over tokens: the tokenizer, the code, the libraries, and `parts`.

    Args:
        tokenizer: with the chat template that is used.
        parts: JSON values: the digest of the rows, and what else decides over their tokens.
    """
    # A call with truncation leaves its limit in the tokenizer's files; this call takes it out.
    tokenizer("")
    with files.temporary_folder() as folder:
        tokenizer.save_pretrained(folder)
        tokenizer_files = files.sha256_tree(folder)
    return compute_fingerprint(code_sha256(deciding_code()), (), tokenizer=tokenizer_files, **parts)


def split_folder(split: Path, folder: Path) -> Path:
    """The folder of a split's entries in `folder`."""
    return folder / "-".join(part for part in split.parts if part not in (split.anchor, ".."))


def read_or_write(
    folder: Path,
    key: str,
    table: type[Table],
    batches: Iterable[Sequence[Any]],
    report: Callable[[], EncodingReport],
) -> tuple[Table, EncodingReport]:
    """The examples of an entry. One process writes a missing or incomplete entry, and other processes wait for it.

    Args:
        folder: by `split_folder`.
        key: by `cache_key`.
        table: the type of the examples.
        batches: makes the examples.
        report: called after the last batch.

    Returns:
        The memory-mapped examples, and the report.
    """
    entry = folder / key
    found = _read(entry, table)
    if found is None:
        with processes.exclusive(folder.with_name(f"{folder.name}.lock"), f"the tokens in {folder}", wait=True):
            found = _read(entry, table)
            if found is None:
                with files.atomic_folder(entry) as temporary:
                    table.write(temporary / _EXAMPLES, batches)
                    manifest = {"report": vars(report()), "files": files.sha256_tree(temporary)}
                    files.write_json(temporary / MANIFEST, manifest)
                for other in folder.iterdir():
                    if other != entry:
                        shutil.rmtree(other)
                found = _read(entry, table)
    assert found is not None
    return found


def _read(entry: Path, table: type[Table]) -> tuple[Table, EncodingReport] | None:
    """The entry, or None where it is missing or incomplete. Another process may delete it at any moment."""
    try:
        if not is_complete(entry):
            return None
        examples = table.open(entry / _EXAMPLES)
        stored = files.read_json(entry / MANIFEST)["report"]
    except FileNotFoundError:
        return None
    return examples, EncodingReport.from_json(stored)
