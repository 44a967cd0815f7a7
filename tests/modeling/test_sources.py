"""Model folders are checked, loaded, copied and fetched; a broken or untrusted folder gives one line per problem."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, tiny
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.modeling import model_folder, models, sources


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        models.load(folder)
    return str(caught.value)


def test_a_loaded_model_is_saved_as_the_same_bytes(
    tmp_path: Path, base: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded = models.load(base)
    models.save(*loaded, tmp_path / "elsewhere/again")
    assert files.sha256_tree(tmp_path / "elsewhere/again") == files.sha256_tree(base)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent").endswith(
        "absent: no such folder; it must contain a model as save_pretrained writes it"
    )


def test_one_error_names_all_missing_files(tmp_path: Path) -> None:
    lines = refusal(tmp_path).splitlines()
    assert [line.split(": ")[0].removeprefix(str(tmp_path)) for line in lines] == [
        "/config.json",
        "/model.safetensors",
        "",
    ]
    assert lines[2].startswith(f"{tmp_path}: no tokenizer")


def test_pickled_weights_are_refused(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "pytorch_model.bin: is a pickle, which can run code when it is loaded" in refusal(base)


OWN_CODE = {
    "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model", "AutoTokenizer": ["mine.T", None]}
}


def test_a_model_that_only_its_own_code_can_load_is_refused(base: Path) -> None:
    config = files.read_json(base / "config.json")
    files.write_json(base / "config.json", config | OWN_CODE | {"model_type": "mine"})
    assert "auto_map names Python code of the model, which is never run, and transformers " in refusal(base)
    assert "does not know the architecture (model_type 'mine'); use a model whose arch" in refusal(base)


def test_a_model_that_transformers_knows_is_used_without_its_own_code(base: Path, tmp_path: Path) -> None:
    plain, _ = models.load(base)
    for name in ("config.json", "tokenizer_config.json"):
        files.write_json(base / name, files.read_json(base / name) | OWN_CODE)
    ran = tmp_path / "ran"
    (base / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"mine.py: is Python code.*remove the file"):
        sources.copy(base, tmp_path / "copy")
    # What the hub gives has no such file.
    (base / "mine.py").unlink()
    sources.copy(base, tmp_path / "copy")
    for load in (models.load, lambda folder: models.new_classifier(folder, ["a", "b"], "", 0)):
        model, tokenizer = load(tmp_path / "copy")
        assert type(model).__module__.startswith("transformers.")
        models.save(model, tokenizer, tmp_path / "saved")
        assert not any("auto_map" in path.read_text() for path in (tmp_path / "saved").glob("*.json"))
    loaded, _ = models.load(tmp_path / "copy")
    assert all(loaded.state_dict()[name].equal(tensor) for name, tensor in plain.state_dict().items())
    assert not ran.exists()


@pytest.mark.parametrize("load", [models.load_base, lambda folder: models.new_classifier(folder, ["a", "b"], "", 0)])
@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            {"num_hidden_layers": 10_000},
            "num_hidden_layers is 10000, and the weights have fewer ",
        ),
        ("config.json", {"num_hidden_layers": -1}, "num_hidden_layers is -1, and the weights have fewer layers"),
        ("config.json", {"num_labels": 10**8}, "num_labels is 100000000, more than 1,000,000; use another base"),
        ("config.json", {"vocab_size": 2**33}, " parameters, and the weights have "),
        ("config.json", {"intermediate_size": 2**34}, " parameters, and the weights have "),
        ("config.json", {"hidden_size": "many"}, "Validation error for field 'hidden_size'"),
        ("config.json", {"num_attention_heads": 0}, "cannot be loaded: integer modulo by zero"),
        ("config.json", {"pad_token_id": 10**9}, "Padding_idx must be within num_embeddings"),
        ("tokenizer_config.json", {"tokenizer_class": "BertModel"}, "names BertModel, which is not a tokenizer; copy"),
        ("tokenizer_config.json", {"tokenizer_class": "Trainer"}, "the tokenizer cannot be loaded: "),
        ("tokenizer_config.json", {"tokenizer_class": ["a"]}, "the tokenizer cannot be loaded: "),
        ("tokenizer_config.json", {"model_max_length": "x"}, "the tokenizer cannot be loaded: "),
        (
            "tokenizer_config.json",
            {"chat_template": 5},
            "the chat template is not text; put another one into ",
        ),
        (
            "tokenizer.json",
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}},
            "the tokenizer cannot be loaded: Oniguruma error",
        ),
    ],
)
def test_an_untrusted_folder_is_refused_with_one_line(
    base: Path, load: Callable[[Path], object], file: str, change: dict[str, Any], message: str
) -> None:
    files.write_json(base / file, files.read_json(base / file) | change)
    with pytest.raises(ModelError) as caught:
        load(base)
    (problem,) = caught.value.problems
    assert message in problem


def test_a_tokenizer_that_grows_texts_without_end_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each letter o becomes a terabyte.
    longer = {"type": "Replace", "pattern": {"String": "o"}, "content": "o" * 10_000}
    file = base / "tokenizer.json"
    files.write_json(file, files.read_json(file) | {"normalizer": {"type": "Sequence", "normalizers": [longer] * 3}})
    monkeypatch.setattr(models, "_PROBE_SECONDS", 1)
    with pytest.raises(ModelError) as caught:
        models.load_tokenizer(base)
    assert caught.value.problems == (
        f"{base}: the tokenizer takes more than 1 s or 2 GB of memory for 339 characters of text; copy the folder "
        "again, or use another base",
    )


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_with_nan_or_infinity_are_refused(base: Path, number: float) -> None:
    weights = load_file(base / "model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[0] = number
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert f"1 tensors of the weights contain NaN or infinite numbers, {name} first" in refusal(base)


def test_a_deeply_nested_config_is_refused(base: Path) -> None:
    (base / "config.json").write_text("[" * 100_000)
    assert "config.json: missing or not JSON" in refusal(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "is not a causal language model"),
        ({"model_type": "no-such-family"}, "cannot be loaded as a causal language model"),
        ({"hidden_size": 64}, "cannot be loaded as a causal language model"),
        ({"num_hidden_layers": 3}, "the weights lack 9 tensors of the model, model.layers.2."),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(base: Path, change: dict[str, object], message: str) -> None:
    files.write_json(base / "config.json", files.read_json(base / "config.json") | change)
    assert message in refusal(base)


def test_incomplete_weights_are_refused(base: Path) -> None:
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be loaded as a causal language model" in refusal(base)


def test_a_missing_shard_is_named(base: Path) -> None:
    (base / "model.safetensors").unlink()
    files.write_json(base / "model.safetensors.index.json", {"weight_map": {"a": "model-1.safetensors"}})
    assert "model-1.safetensors: missing, but model.safetensors.index.json names it" in refusal(base)


def test_a_tokenizer_without_end_of_text_is_refused(base: Path) -> None:
    config = files.read_json(base / "tokenizer_config.json")
    del config["eos_token"]
    files.write_json(base / "tokenizer_config.json", config)
    assert "the tokenizer has no end-of-text token" in refusal(base)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    models.save(tiny("llama", vocab_size=270), tokenizer, tmp_path / "small")
    assert "the tokenizer has 300 tokens and the model 270" in refusal(tmp_path / "small")


def test_an_unknown_mode_is_refused(base: Path) -> None:
    files.write_json(base / "tuneline.json", {"mode": "riddle"})
    with pytest.raises(ModelError, match="mode 'riddle' is unknown; known: plain, chat, "):
        model_folder.stored_mode(base)


def test_an_encoder_is_a_base_for_labels_but_not_for_text(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    models.save(BertForMaskedLM(config), tokenizer, tmp_path / "encoder")
    sources.copy(tmp_path / "encoder", tmp_path / "copy")
    assert "BertForMaskedLM is not a causal language model" in refusal(tmp_path / "copy")
    classifier, _ = models.new_classifier(tmp_path / "copy", ["bad", "good"], "single_label_classification", seed=0)
    assert classifier.config.id2label == {0: "bad", 1: "good"}


def test_a_failed_copy_leaves_the_old_folder(tmp_path: Path, base: Path) -> None:
    before = files.sha256_tree(base)
    (tmp_path / "broken").mkdir()
    with pytest.raises(ModelError):
        sources.copy(tmp_path / "broken", base)
    assert files.sha256_tree(base) == before


def test_links_out_of_a_base_are_refused(tmp_path: Path, base: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("root:x:0:0")
    (base / "LICENSE.txt").symlink_to(outside)
    (base / "templates").mkdir()
    (base / "templates" / "passwd.json").symlink_to("/etc/passwd")
    (base / "loop.json").symlink_to("loop.json")
    (base / "vocab.txt").symlink_to("tokenizer.json")
    os.mkfifo(base / "pipe.json")
    with pytest.raises(ModelError) as caught:
        sources.copy(base, tmp_path / "copy")
    assert [problem.split(", ")[0] for problem in caught.value.problems] == [
        f"{base}/LICENSE.txt: is a link to {outside}",
        f"{base}/pipe.json: is neither a file nor a folder; remove it",
        f"{base}/templates/passwd.json: is a link to /etc/passwd",
    ]
    assert not (tmp_path / "copy").exists()


def test_a_snapshot_in_the_hub_s_cache_is_copied(tmp_path: Path, base: Path) -> None:
    snapshot = tmp_path / "hub/models--owner--name/snapshots" / ("a1" * 20)
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in base.iterdir():
        path.rename(blobs / files.digest(path.name))
        (snapshot / path.name).symlink_to(f"../../blobs/{files.digest(path.name)}")
    sources.copy(snapshot, tmp_path / "copy")
    assert files.sha256_file(tmp_path / "copy/model.safetensors") == files.sha256_file(snapshot / "model.safetensors")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
    (tmp_path / "hub/models--other--name").mkdir()
    (tmp_path / "hub/models--other--name/blob").write_text("of another")
    (snapshot / "NOTICE").symlink_to("../../../models--other--name/blob")
    with pytest.raises(ModelError, match="NOTICE: is a link to "):
        sources.copy(snapshot, tmp_path / "copy")
    (snapshot / "NOTICE").unlink()
    weights = (snapshot / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelError) as caught:
        sources.copy(snapshot, tmp_path / "copy")
    assert caught.value.problems[-1] == (
        f"the download may be incomplete: delete {tmp_path}/hub/models--owner--name, and run the same command again"
    )


@pytest.mark.parametrize("change", ["other", "gone", "new", "link"])
def test_a_base_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    load = models.load_base

    def loaded(folder: Path) -> object:
        found = load(folder)
        weights = folder / "model.safetensors"
        if change == "new":
            (folder / "added_tokens.json").write_text("{}")
        elif change == "gone":
            weights.unlink()
        elif change == "other":
            weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        else:
            weights.unlink()
            weights.symlink_to("/etc/passwd")
        return found

    monkeypatch.setattr(models, "load_base", loaded)
    with pytest.raises(ModelError, match=r"/(model.safetensors|added_tokens.json): changed while it was copied"):
        sources.copy(base, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("id: a/b\nrevision: main\n", ["git ls-remote https://huggingface.co/a/b main"]),
        ("id: a/b\n", ["revision: missing; write the commit's 40 hex digits"]),
        ("idd: a/b\nrevision: 7\n", ["idd: unknown key", "id: None is not an id", "revision: '7' is not a commit"]),
        ("- a\n", ["id: None is not an id", "revision: missing"]),
        ("id: [\n", ["cannot be read as YAML"]),
    ],
)
def test_a_wrong_hub_reference_is_refused(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        sources.read_reference(path)
    said = str(caught.value).splitlines()
    assert len(said) == len(lines)
    assert all(expected in line for expected, line in zip(lines, said, strict=True))


@pytest.mark.parametrize("revision", ["a1" * 20, "0" * 40, "12" * 10 + "e" + "3" * 19])
def test_a_hub_reference_is_read(tmp_path: Path, revision: str) -> None:
    (tmp_path / "hub.yaml").write_text(f"id: owner/name\nrevision: {revision}\n")
    assert sources.read_reference(tmp_path / "hub.yaml") == ("owner/name", revision)
