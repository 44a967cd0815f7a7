"""A merge folder becomes a model folder: tied weights, shards, bfloat16, heads, buffers, and folders that changed."""

import os
from pathlib import Path
from typing import Any

import merge_folders
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import classifier, tiny
from transformers import PreTrainedTokenizerFast

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.fusion.merging import merge_recipe, merged_model
from tuneline.modeling import models


def described(version: str = "1", weight: str = "1", other: str = "1", seed: str = "null", model: str = "mine") -> str:
    """The text of a description, by a hand or a program that is not to be trusted."""
    of_parent = '"sha256": "", "files_sha256": "", "source_commit": ""'
    parents = f'{{"version": "{version}", "weight": {weight}, {of_parent}}}, {{"version": "2", "weight": {other}, '
    return (
        f'{{"method": "linear", "density": null, "seed": {seed}, "base_sha256": "", "rows_sha256": "", '
        f'"model": "{model}", "parents": [{parents}{of_parent}}}]}}'
    )


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A merge folder of a Llama and two models that were made from it, without a description."""
    fill(tmp_path / "merge", tiny("llama"), tokenizer)
    return tmp_path / "merge"


def fill(folder: Path, base: Any, tokenizer: PreTrainedTokenizerFast) -> list[Any]:
    models.save(base, tokenizer, folder / "base")
    parents = [merge_folders.nudged(base, seed) for seed in (1, 2)]
    for number, parent in enumerate(parents, 1):
        models.save(parent, tokenizer, folder / str(number), "chat")
    return parents


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_an_average_of_folders_is_the_average_of_every_tensor_and_keeps_tokenizer_and_mode(folder: Path) -> None:
    merge_folders.sealed(folder, "linear", [1.0, 3.0])
    merged_model.write(folder, folder.parent / "merged")
    one, other, merged = (weights(folder.parent / name) for name in ("merge/1", "merge/2", "merged"))
    assert merged.keys() == one.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, one[name] / 4 + other[name] * 3 / 4, rtol=0, atol=1e-6)
    kept = {path.name for path in (folder / "1").iterdir()} | {merge_recipe.FILE}
    assert {path.name for path in (folder.parent / "merged").iterdir()} == kept
    assert files.read_json(folder.parent / "merged/tuneline.json") == {"mode": "chat"}
    models.load(folder.parent / "merged")


@pytest.mark.parametrize("method", ["ties", "dare_ties", "slerp"])
def test_a_merge_ends_in_the_same_bytes_again(folder: Path, method: str) -> None:
    density, seed = (0.4 if method != "slerp" else None), (3 if method == "dare_ties" else None)
    merge_folders.sealed(folder, method, [1.0, 1.0], density=density, seed=seed)
    digests = []
    for name in ("once", "again"):
        torch.manual_seed(len(name))
        merged_model.write(folder, folder.parent / name)
        digests.append(files.sha256_path(folder.parent / name))
    assert digests[0] == digests[1]
    assert weights(folder.parent / "once")["model.norm.weight"].isfinite().all()


def test_tied_weights_are_merged_once_and_stay_tied(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    fill(tmp_path / "merge", tiny("llama", tie_word_embeddings=True), tokenizer)
    merge_folders.sealed(tmp_path / "merge", "task_arithmetic", [0.5, 0.5])
    merged_model.write(tmp_path / "merge", tmp_path / "merged")
    assert "lm_head.weight" not in weights(tmp_path / "merged")
    model: Any = models.load(tmp_path / "merged")[0]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    parents = [weights(tmp_path / "merge" / name)["model.embed_tokens.weight"] for name in "12"]
    torch.testing.assert_close(model.lm_head.weight.detach(), (parents[0] + parents[1]) / 2, rtol=0, atol=1e-6)


def test_experts_that_a_file_names_otherwise_than_the_model_are_merged_by_the_method(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    fill(tmp_path / "merge", tiny("mixtral"), tokenizer)
    merge_folders.sealed(tmp_path / "merge", "task_arithmetic", [1.0, 1.0])
    merged_model.write(tmp_path / "merge", tmp_path / "merged")
    base, one, other, merged = (weights(tmp_path / name) for name in ("merge/base", "merge/1", "merge/2", "merged"))
    assert any("experts.0.w1" in name for name in merged)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, one[name] + other[name] - base[name], rtol=0, atol=1e-6)


def test_a_base_that_lacks_a_tensor_of_the_versions_is_refused(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    for number in "12":
        tensors = weights(folder / number)
        save_file(tensors | {"model.extra": torch.ones(2)}, folder / number / "model.safetensors", {"format": "pt"})
    merge_folders.sealed(folder, "ties", [1.0, 1.0], density=0.5)
    with pytest.raises(ModelError, match=r"merge/base: has no tensor model\.extra, so what the versions have"):
        merged_model.write(folder, folder.parent / "merged")


def test_bfloat16_parents_give_bfloat16(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    fill(tmp_path / "merge", tiny("qwen3").bfloat16(), tokenizer)
    merge_folders.sealed(tmp_path / "merge", "ties", [1.0, 1.0], density=0.5)
    merged_model.write(tmp_path / "merge", tmp_path / "merged")
    assert {tensor.dtype for tensor in weights(tmp_path / "merged").values()} == {torch.bfloat16}


def test_parents_in_several_files_are_merged_file_by_file(folder: Path) -> None:
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    merged_model.write(folder, folder.parent / "whole")
    models.load(folder / "1")[0].save_pretrained(folder / "1", max_shard_size="40KB")
    (folder / "1/model.safetensors").unlink(missing_ok=True)
    assert len(list((folder / "1").glob("*.safetensors"))) > 2
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    merged_model.write(folder, folder.parent / "merged")
    assert len(list((folder.parent / "merged").glob("*.safetensors"))) > 2
    whole, merged = weights(folder.parent / "whole"), weights(folder.parent / "merged")
    assert whole.keys() == merged.keys()
    assert all(torch.equal(whole[name], merged[name]) for name in whole)


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_the_head_of_a_classifier_is_averaged_and_its_body_is_not(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    folder = tmp_path / "merge"
    base = classifier("bert") if family == "bert" else tiny(family)
    models.save(base, tokenizer, folder / "base")
    for number in (1, 2):
        model, own = models.new_classifier(folder / "base", ["a", "b", "c"], "single_label_classification", number)
        models.save(merge_folders.nudged(model, number), own, folder / str(number), "classification")
    merge_folders.sealed(folder, "task_arithmetic", [1.0, 1.0])
    merged_model.write(folder, tmp_path / "merged")
    model, _ = models.load_classifier(tmp_path / "merged")
    assert list((model.config.id2label or {}).values()) == ["a", "b", "c"]
    one, other, merged = (weights(path) for path in (folder / "1", folder / "2", tmp_path / "merged"))
    origin = models.tensors_of_base(folder / "base", folder / "1")
    body = [name for name in merged if name in origin]
    heads = set(merged) - set(body)
    # The head of the BERT that is the base here has the same shape, so it is a head to start from.
    assert bool(heads) == (family != "bert")
    for name in body:
        torch.testing.assert_close(merged[name], one[name] + other[name] - origin[name], rtol=0, atol=1e-6)
    for name in heads:
        torch.testing.assert_close(merged[name], (one[name] + other[name]) / 2, rtol=0, atol=1e-6)


def test_buffers_of_whole_numbers_are_kept_and_must_be_equal(folder: Path) -> None:
    for number, places in (("1", [0, 1]), ("2", [0, 1])):
        path = folder / number / "model.safetensors"
        save_file({**load_file(path), "model.places": torch.tensor(places)}, path, metadata={"format": "pt"})
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    merged_model.write(folder, folder.parent / "merged")
    assert weights(folder.parent / "merged")["model.places"].tolist() == [0, 1]
    path = folder / "2/model.safetensors"
    save_file({**load_file(path), "model.places": torch.tensor([1, 0])}, path, metadata={"format": "pt"})
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    with pytest.raises(ModelError, match=r"^model\.places is of the type int64, which cannot be averaged, and differs"):
        merged_model.write(folder, folder.parent / "merged")


def test_other_shapes_are_told_tensor_by_tensor(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    models.save(tiny("llama", intermediate_size=64, num_hidden_layers=1), tokenizer, folder / "2")
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    with pytest.raises(ModelError) as caught:
        merged_model.write(folder, folder.parent / "merged")
    told = str(caught.value)
    assert f"only {folder}/1 has the tensors model.layers.1.input_layernorm.weight" in told
    assert f"model.layers.0.mlp.down_proj.weight is F32 [32, 48] in {folder}/1, and F32 [32, 64] in {folder}/2" in told
    assert not (folder.parent / "merged").exists()


def test_weights_whose_sum_is_not_finite_are_refused(folder: Path) -> None:
    for number in "12":
        path = folder / number / "model.safetensors"
        tensors = load_file(path)
        tensors["model.norm.weight"].fill_(3e38)
        save_file(tensors, path, metadata={"format": "pt"})
    merge_folders.sealed(folder, "task_arithmetic", [1.0, 1.0])
    with pytest.raises(ModelError, match="NaN or infinite numbers"):
        merged_model.write(folder, folder.parent / "merged")


@pytest.mark.parametrize("changed", ["1/model.safetensors", "base/config.json", "train-rows.parquet", "2"])
def test_a_folder_that_changed_is_refused(folder: Path, changed: str) -> None:
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    path = folder / changed
    if path.is_dir():
        path.rename(folder / "away")
    else:
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError) as caught:
        merged_model.write(folder, folder.parent / "merged")
    name = changed.split("/")[0]
    assert caught.value.problems[0] == f"{folder / name}: is missing or was changed after `tuneline merge` wrote it"
    assert "dvc checkout --force" in caught.value.problems[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file; write the folder with `tuneline merge VERSION VERSION`"),
        ("[]", "is not a description of a merge (not an object)"),
        ("{", "is not a description of a merge"),
        ('{"method": "linear", "parents": [{"version": "../x", "weight": 1}]}', "is not a description of a merge"),
        (described(seed="Infinity"), "is not a description of a merge (a number is too large)"),
        (described(weight="1" + 400 * "0"), "is not a description of a merge (a number is too large)"),
        (described(version="٣"), "is not a description of a merge (a version is not a number)"),
        (described(version=5_000 * "1"), "is not a description of a merge (a version is not a number)"),
        (described(version="2"), "is not a description of a merge (a version is named twice)"),
        (described(model=r"\ud800"), "is not a description of a merge (a text is not Unicode)"),
        (described(weight="1.7e308", other="1.7e308"), "the weights have no finite sum; use smaller weights"),
    ],
)
def test_a_broken_description_is_one_message(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / merge_recipe.FILE).write_text(text)
    with pytest.raises(ModelError) as caught:
        merge_recipe.read(tmp_path)
    assert said in str(caught.value)


def test_a_description_edited_by_hand_is_checked(folder: Path) -> None:
    merge_folders.sealed(folder, "ties", [1.0, 1.0], density=7.0)
    with pytest.raises(ModelError, match="density is 7; it is a share above 0"):
        merge_recipe.read(folder)
    again = merge_folders.sealed(folder, "ties", [1.0, 1.0], density=0.5)
    assert merge_recipe.read(folder) == again


@pytest.mark.parametrize("name", ["1", "2"])
def test_a_parent_with_broken_weights_is_one_message(folder: Path, name: str) -> None:
    path = folder / name / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    with pytest.raises(ModelError, match=rf"{name}/model\.safetensors: cannot be read as weights \("):
        merged_model.write(folder, folder.parent / "merged")


def test_a_tensor_in_two_files_of_a_parent_is_refused(folder: Path) -> None:
    path = folder / "2/model.safetensors"
    save_file({"model.norm.weight": load_file(path)["model.norm.weight"] + 7}, path.with_name("a.safetensors"))
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    with pytest.raises(ModelError, match=r"2/model\.safetensors: has the tensor model\.norm\.weight, which is in"):
        merged_model.write(folder, folder.parent / "merged")


def test_links_pipes_and_pickles_in_a_merge_folder_are_refused_together(folder: Path) -> None:
    (folder / "1/LICENSE").symlink_to("/etc/hostname")
    (folder / "2/pytorch_model.bin").write_bytes(b"\x80\x04N.")
    os.mkfifo(folder / "base/pipe")
    (folder / "1/notes.html").write_text("<script>")
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    with pytest.raises(ModelError) as caught:
        merged_model.write(folder, folder.parent / "merged")
    told = [problem.removeprefix(f"{folder}/").partition(":")[0] for problem in caught.value.problems[:-1]]
    assert sorted(told) == ["1/LICENSE", "2/pytorch_model.bin", "base/pipe"]
    assert caught.value.problems[-1].startswith("bring the folder back with")
    for name in told:
        (folder / name).unlink()
    merge_folders.sealed(folder, "linear", [1.0, 1.0])
    merged_model.write(folder, folder.parent / "merged")
