"""Texts translated by tiny models with random weights: the same words for the same texts, and nothing cut."""

from pathlib import Path

import pytest
from tiny_translators import write_t5
from transformers import GPT2Config, GPT2LMHeadModel

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.modeling.translation import Translator


def test_the_same_texts_get_the_same_translation_line_by_line(tmp_path: Path) -> None:
    write_t5(tmp_path / "t5")
    translator = Translator.load(tmp_path / "t5")
    texts = ["w1 w2", "w3\n\nw1 w2", "", None]
    found = translator.translate(texts)
    assert found == Translator.load(tmp_path / "t5").translate(texts)
    assert found[0]
    assert (found[1] or "").split("\n")[1:] == ["", found[0]]
    assert found[2:] == ["", None]


def test_what_the_model_does_not_see_whole_or_does_not_end_is_not_translated(tmp_path: Path) -> None:
    write_t5(tmp_path / "t5")
    assert Translator.load(tmp_path / "t5").translate(["w1", " ".join(["w1"] * 200)])[1] is None
    write_t5(tmp_path / "endless", ends=False)
    assert Translator.load(tmp_path / "endless").translate(["w1 w2"]) == [None]


def test_another_kind_of_model_and_pickled_weights_are_refused(tmp_path: Path) -> None:
    write_t5(tmp_path / "gpt2")
    GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ModelError, match=r"gpt2: cannot be loaded as a sequence-to-sequence model"):
        Translator.load(tmp_path / "gpt2")
    write_t5(tmp_path / "pickled")
    (tmp_path / "pickled/model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: is a pickle"):
        Translator.load(tmp_path / "pickled")
    with pytest.raises(ModelError, match=r"nowhere: no such folder"):
        Translator.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("generation_config.json", {"eos_token_id": None}),
        ("generation_config.json", {"return_dict_in_generate": True}),
        ("config.json", {"max_position_embeddings": "abc"}),
        ("tokenizer_config.json", {"pad_token": None}),
    ],
)
def test_a_config_that_a_library_fails_on_is_one_sentence(tmp_path: Path, name: str, values: dict[str, object]) -> None:
    write_t5(tmp_path)
    files.write_json(tmp_path / name, files.read_json(tmp_path / name) | values)
    with pytest.raises(ModelError, match="the model cannot translate: "):
        Translator.load(tmp_path).translate(["w1 w2", "w3"])
