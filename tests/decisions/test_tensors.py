"""Two model folders are compared tensor by tensor."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tuneline.decisions import tensors
from tuneline.errors import ModelError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model and its copy."""
    made, registered = tmp_path / "made", tmp_path / "registered"
    (made / "adapter").mkdir(parents=True)
    save_file({"a": torch.ones(2, 3), "b": torch.arange(4, dtype=torch.bfloat16)}, made / "model.safetensors")
    save_file({"lora": torch.ones(2)}, made / "adapter/adapter_model.safetensors")
    (made / "config.json").write_text("{}")
    shutil.copytree(made, registered)
    return made, registered


def test_equal_folders_are_identical(folders: tuple[Path, Path]) -> None:
    (folders[1] / "MLmodel").write_text("of the version")
    compared = tensors.compare(*folders, ignored=["MLmodel"])
    assert compared == tensors.Comparison(tensors=3, others=1, differences=())
    assert compared.is_identical


def test_one_changed_bit_of_a_tensor_is_named(folders: tuple[Path, Path]) -> None:
    path = folders[1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    (difference,) = tensors.compare(*folders).differences
    assert difference.startswith("model.safetensors: tensor b differs in 1 of 4 numbers, by at most ")


def test_the_sign_of_zero_counts(folders: tuple[Path, Path]) -> None:
    for folder, value in zip(folders, (0.0, -0.0), strict=True):
        save_file({"a": torch.full((2,), value), "b": torch.ones(1)}, folder / "model.safetensors")
    (difference,) = tensors.compare(*folders).differences
    assert difference == "model.safetensors: tensor a differs in 2 of 2 numbers, by at most 0"


def test_other_shapes_types_names_and_files(folders: tuple[Path, Path]) -> None:
    save_file(
        {"a": torch.ones(3, 2), "b": torch.arange(4, dtype=torch.float16), "c": torch.ones(1)},
        folders[1] / "model.safetensors",
    )
    (folders[1] / "config.json").write_text("{ }")
    (folders[1] / "adapter/adapter_model.safetensors").rename(folders[1] / "adapter/other.safetensors")
    assert tensors.compare(*folders).differences == (
        "adapter/adapter_model.safetensors: the new model has it, and the registered version does not",
        "adapter/other.safetensors: the registered version has it, and the new model does not",
        "config.json: has other bytes",
        "model.safetensors: tensor a is F32 [2, 3], and F32 [3, 2] in the registered version",
        "model.safetensors: tensor b is BF16 [4], and F16 [4] in the registered version",
        "model.safetensors: tensor c is only in the registered version",
    )


def test_numbers_that_are_not_numbers_are_compared_by_their_bytes(folders: tuple[Path, Path]) -> None:
    for folder, value in zip(folders, (np.nan, 1.0), strict=True):
        save_file({"a": torch.tensor([value, 1.0])}, folder / "model.safetensors")
    (difference,) = tensors.compare(*folders).differences
    assert difference == "model.safetensors: tensor a differs in 1 of 2 numbers, by at most 0"


def test_a_damaged_file_is_refused(folders: tuple[Path, Path]) -> None:
    (folders[1] / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read as safetensors: "):
        tensors.compare(*folders)
