"""A model folder holds no pickle, no code, no archive and no link out of it, whatever its files are called."""

import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.modeling import model_folder, models, sources, unsafe_files


class Runs:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("ran",)


def _zip(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "x")
    return data.getvalue()


def _tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    return data.getvalue()


def _torch(**options: bool) -> bytes:
    data = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, data, **options)
    return data.getvalue()


UNSAFE = {
    "pytorch_model.bin": b"anything",
    "training_args.BIN": b"anything",
    "rng_state.pth": b"anything",
    "head.joblib": b"anything",
    "modeling_mine.py": b"import os",
    "deep/er/__init__.py": b"",
    "kernels.so": b"",
    "tokenizer.pkl": b"",
    "special_tokens_map.json": pickle.dumps(Runs(), 4),
    "vocab.txt": pickle.dumps(Runs(), 0),
    "merges.txt": pickle.dumps(Runs(), 1),
    "spiece.model": pickle.dumps(Runs(), 2),
    "more.safetensors": pickle.dumps(Runs(), 5),
    "added_tokens.json": _torch(),
    "optimizer.dat": _torch(_use_new_zipfile_serialization=False),
    "arrays.npz": _zip("arr_0.npy"),
    "tf_model.h5": b"\x89HDF\r\n\x1a\n",
    "rows.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'",
    "cached": zlib.compress(pickle.dumps(Runs())),
    "cached-fast": zlib.compress(pickle.dumps(Runs()), 3),
    "program": b"\x7fELF\x02\x01\x01" + bytes(60),
    "run": b"#!/usr/bin/env python\nprint()",
    "run-too": b"#! /bin/sh\nrm",
    "model.tar": _tar(),
    "cached-small": lzma.compress(pickle.dumps(Runs()), lzma.FORMAT_ALONE),
    "cached-quick": b"\x04\x22\x4d\x18" + pickle.dumps(Runs()),
    "cached-new": b"\x28\xb5\x2f\xfd" + pickle.dumps(Runs()),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_file_is_refused_by_name_or_content(base: Path, tmp_path: Path, name: str) -> None:
    (base / name).parent.mkdir(parents=True, exist_ok=True)
    (base / name).write_bytes(UNSAFE[name])
    assert list(unsafe_files.unsafe(base)) == [base / name]
    for load in (models.load, models.load_base, lambda folder: sources.copy(folder, tmp_path / "copy")):
        with pytest.raises(ModelError) as caught:
            load(base)
        assert any(
            problem.startswith(f"{base / name}: is ")
            and problem.endswith("remove the file: the weights are in *.safetensors")
            for problem in caught.value.problems
        )
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", b"It answers (in English)."),
        ("notes.txt", b"a."),
        ("formula.txt", b"x^2 + y^2 = z^2, for all who ask for it."),
        ("vocab.txt", b"c\nlong\nI\n(\n)."),
        ("LICENSE", b"(c) 2026 someone\nAll rights reserved."),
        ("spiece.model", b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"),
        ("report.html", b"<!doctype html>"),
        ("train-rows.parquet", b"PAR1"),
        ("model.sig", b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}'),
    ],
)
def test_ordinary_files_are_safe(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert unsafe_files.unsafe(tmp_path) == {}


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x0580])
def test_safetensors_whose_length_looks_like_a_pickle_are_safe(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"pad": "x"})
    missing = length - int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"a": torch.zeros(2)}, path, metadata={"pad": "x" * (1 + missing)})
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert unsafe_files.unsafe(tmp_path) == {}


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "a/b.safetensors", "..", 5, None])
def test_an_index_names_only_files_of_its_folder(base: Path, name: object) -> None:
    (base / "model.safetensors").rename(base / "part.safetensors")
    weights = {"a": "part.safetensors"} | ({"b": name} if isinstance(name, str) else {"a": name})
    files.write_json(base / "model.safetensors.index.json", {"weight_map": weights})
    (problem,) = model_folder.problems(base)
    assert "model.safetensors.index.json: names " in problem


def test_pickled_weights_without_safetensors_have_another_remedy(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    (problem,) = model_folder.problems(base)
    assert problem.endswith(
        "save the model again with save_pretrained, which writes model.safetensors, into a new folder"
    )
