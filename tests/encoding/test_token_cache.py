"""The token cache gives back the encoded examples, writes them once, and never reads an incomplete entry."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chats import encode_split, fresh
from test_templates_that_change_turns import CALLING, QWEN3, THINKING
from tiny_models import TEXTS
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tuneline import params
from tuneline.core import files, identity
from tuneline.data.records.record_form import RecordForm, RecordType
from tuneline.encoding import token_cache
from tuneline.encoding.examples import ExampleTable
from tuneline.errors import TrainingError
from tuneline.finetuning import tasks
from tuneline.modeling import models
from tuneline.params import Finetune, editing
from tuneline.training import training_run


def finetune(**more: Any) -> Finetune:
    values = {"max_length": 24, "overlong": "truncate", "max_dropped_fraction": 0.5}
    return Finetune.model_construct(**(values | more))


def split(folder: Path, **columns: list[Any]) -> Path:
    count = len(next(iter(columns.values())))
    table = pa.table({"source": [f"ä.csv:{row + 2}" for row in range(count)]} | columns)
    files.write_parquet(folder / "train/part-00000.parquet", table.slice(0, count // 2))
    files.write_parquet(folder / "train/part-00001.parquet", table.slice(count // 2))
    return folder / "train"


def texts(folder: Path, more: str = "") -> Path:
    return split(folder, text=[f"{text}{more}" for text in TEXTS] * 7)


def made(path: Path, tokenizer: PreTrainedTokenizerBase, folder: Path | None, **more: Any) -> tuple[Any, Any]:
    return encode_split(tokenizer, path, "text", finetune(**more), folder=folder)


def entries(folder: Path) -> dict[Path, int]:
    """The inode of every file of every entry; it changes when a file is written again."""
    return {path: path.stat().st_ino for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def conversations(folder: Path) -> Path:
    turns = [json.dumps(one) for one in (THINKING, CALLING, THINKING[:3])]
    return split(folder, messages=turns, tools=[""] * 3)


ANSWERS: dict[str, list[Any]] = {"prompt": ["alpha ", "beta " * 40], "chosen": ["a", "b"], "rejected": ["c c", "d"]}
CASES: dict[str, tuple[Callable[[Path], Path], RecordType, dict[str, Any]]] = {
    "text": (texts, "text", {}),
    "split": (texts, "text", {"max_length": 5, "overlong": "split"}),
    "pairs": (lambda to: split(to, prompt=["a", "b"], completion=["c", "d"]), "prompt-completion", {}),
    "chat": (conversations, "messages", {"max_length": 90}),
    "label": (lambda to: split(to, text=["a", "b"], label=["sad", "glad"]), "classification", {}),
    "labels": (
        lambda to: split(to, text=["a", "b"], label=['["sad"]', '["glad", "sad"]']),
        "classification",
        {},
    ),
    "number": (lambda to: split(to, text=["a " * 30, "b"], label=["-0.5", "3"]), "regression", {}),
    "preference": (lambda to: split(to, **ANSWERS), "preference", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_cached_examples_equal_encoded_examples(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, case: str) -> None:
    write, record_type, policy = CASES[case]
    path = write(tmp_path)
    more: dict[str, Any] = {}
    if record_type == "classification":
        form = RecordForm("classification", multi_label=case == "labels")
        more = {"labels": tasks.labels_of(form, path), "multi_label": form.multi_label}

    def fitted(folder: Path | None) -> tuple[ExampleTable[Any], Any]:
        own = fresh(tokenizer)
        own.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
        own.chat_template = QWEN3
        return encode_split(own, path, record_type, finetune(**policy), folder=folder, **more)

    rows, report = fitted(None)
    for _ in range(2):
        kept, same_report = fitted(tmp_path / "tokens")
        assert list(kept) == list(rows)
        assert kept.lengths.tolist() == rows.lengths.tolist()
        assert same_report == report
    # Reading copies nothing into memory.
    before = pa.total_allocated_bytes()
    opened = type(rows).open(next((tmp_path / "tokens").rglob("*.arrow")))
    assert list(opened) == list(rows)
    assert pa.total_allocated_bytes() == before


def test_an_entry_is_written_once_and_a_split_keeps_one_entry(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path, folder = texts(tmp_path), tmp_path / "tokens"
    made(path, tokenizer, folder)
    first = entries(folder)
    made(path, tokenizer, folder)
    assert entries(folder) == first
    seen = set(first)
    other = fresh(tokenizer)
    other.add_tokens(["alpha beta"])
    for change in (
        lambda: made(path, tokenizer, folder, max_length=23),
        lambda: made(path, tokenizer, folder, overlong="drop"),
        lambda: made(path, other, folder),
        lambda: made(texts(tmp_path, " mu"), tokenizer, folder),
    ):
        change()
        now = set(entries(folder))
        assert len(now) == len(first)
        assert not now & seen
        seen |= now
    validation = tmp_path / "validation"
    shutil.copytree(path, validation)
    made(validation, tokenizer, folder)
    assert len(entries(folder)) == 2 * len(first)


def test_truncation_by_a_tokenizer_does_not_change_the_cache_key(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = split(tmp_path, text=["alpha " * 30, "beta"], label=["-0.5", "3"])

    def key() -> str:
        return token_cache.cache_key(tokenizer, split=files.sha256_path(path))

    before = key()
    encode_split(tokenizer, path, "regression", finetune())
    assert key() == before


@pytest.mark.parametrize("harm", ["byte", "short", "missing", "manifest", "more"])
def test_a_damaged_entry_is_written_again(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, harm: str) -> None:
    path, folder = texts(tmp_path), tmp_path / "tokens"
    rows = list(made(path, tokenizer, folder)[0])
    [ids], [manifest] = folder.rglob("*.arrow"), folder.rglob("manifest.json")
    whole = ids.read_bytes()
    data = bytearray(whole)
    if harm == "byte":
        data[-5] ^= 1
        ids.write_bytes(data)
    elif harm == "short":
        ids.write_bytes(data[:-4])
    elif harm == "missing":
        ids.unlink()
    elif harm == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:-20])
    else:
        (ids.parent / "more.arrow").write_bytes(b"")
    assert list(made(path, tokenizer, folder)[0]) == rows
    assert ids.read_bytes() == whole
    assert identity.is_complete(ids.parent)


def test_refused_rows_leave_no_entry(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path, folder = texts(tmp_path), tmp_path / "tokens"
    for _ in range(2):
        with pytest.raises(TrainingError, match="rows are longer than max_length 5"):
            made(path, tokenizer, folder, max_length=5, overlong="error")
    assert not entries(folder)


def test_examples_in_use_outlive_their_entry(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path, folder = texts(tmp_path), tmp_path / "tokens"
    rows, _ = made(path, tokenizer, folder)
    again = list(rows)
    made(path, tokenizer, folder, max_length=23)
    assert list(rows) == again


def make_and_die(place: Path, event: int, name: str) -> None:
    """Encode in a process that kills itself at its n-th access to the token cache."""
    seen = 0

    def watch(what: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if what in ("open", "os.rename", "os.mkdir", "shutil.rmtree") and f"{place / 'tokens'}/" in str(arguments[0]):
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place / "tokenizer")
    rows, report = made(place / "train", tokenizer, place / "tokens")
    files.write_json(place / f"{name}.json", [rows.lengths.tolist(), [row.input_ids for row in rows], report.rows])


def start(place: Path, event: int, name: str) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuneline.stages.base"])
    process = context.Process(target=make_and_die, args=(place, event, name))
    process.start()
    return process


def test_killed_and_concurrent_processes_read_the_same_examples(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    texts(tmp_path)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    for event in (4, 10, 16):
        dying = start(tmp_path, event, "dying")
        dying.join()
        assert dying.exitcode == -signal.SIGKILL
        assert not (tmp_path / "dying.json").exists()
    together = [start(tmp_path, 0, f"process-{number}") for number in range(3)]
    for process in together:
        process.join()
        assert process.exitcode == 0
    rows, _ = made(tmp_path / "train", tokenizer, None)
    expected = [rows.lengths.tolist(), [row.input_ids for row in rows], len(TEXTS) * 7]
    assert [files.read_json(tmp_path / f"process-{number}.json") for number in range(3)] == [expected] * 3
    [entry] = (tmp_path / "tokens/").glob("*/*")
    assert identity.is_complete(entry)
    assert not list((tmp_path / "tokens").rglob("*.partial"))


def test_cached_tokens_give_the_same_weights_and_serve_another_learning_rate(workplace: Path) -> None:
    def trained(learning_rate: float, name: str) -> str:
        editing.set_values(Path("params.yaml"), {"finetune.learning_rate": learning_rate})
        p = params.load()
        ready = tasks.prepare(p.task, Path("data/clean"), Path("models/base"), p.finetune)
        training = tasks.train(ready, p.finetune, folder=workplace / "work" / name)
        training_run.delete_checkpoints(workplace / "work" / name)
        models.save(training.model, ready.tokenizer, workplace / name, ready.mode)
        return files.sha256_path(workplace / name)

    once = trained(0.01, "once")
    kept = entries(workplace / "work/tokens")
    assert {path.parts[-3] for path in kept} == {"data-clean-train", "data-clean-validation"}
    assert trained(0.01, "again") == once
    assert trained(0.02, "other") != once
    assert entries(workplace / "work/tokens") == kept
    shutil.rmtree(workplace / "work")
    assert trained(0.01, "anew") == once
