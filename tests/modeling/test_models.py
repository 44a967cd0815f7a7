"""Every base can become a classifier, and a saved classifier is loaded with its labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, tiny
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    set_seed,
)

from tuneline.core import files
from tuneline.encoding import encode, examples
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.token_ids import with_special_tokens
from tuneline.errors import ModelError
from tuneline.modeling import model_folder, models

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
LABELS = ["calm", "glad", "sad"]


def word_pieces() -> PreTrainedTokenizerFast:
    """A tokenizer like BERT's: [CLS] … [SEP] around a text."""
    letters = [*"abcdefghijklmnopqrstuvwxyz[]", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz[]")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "alpha", "beta"]
    backend = Tokenizer(WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in named.items()}
    )


@pytest.fixture(params=["llama", "gpt2", "qwen3", "bert", "bert-with-head"])
def any_base(request: pytest.FixtureRequest, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    set_seed(0)
    if request.param.startswith("bert"):
        config = BertConfig(**SHAPE)
        encoder = BertModel(config) if request.param == "bert" else BertForMaskedLM(config)
        encoder.save_pretrained(tmp_path / "base")
        word_pieces().save_pretrained(tmp_path / "base")
    else:
        models.save(tiny(request.param), tokenizer, tmp_path / "base")
    return tmp_path / "base"


def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64)).logits


def test_any_base_becomes_a_classifier_that_is_saved_with_its_labels(any_base: Path, tmp_path: Path) -> None:
    model, tokenizer = models.new_classifier(any_base, LABELS, "single_label_classification", 3)
    assert logits(model, [5, 6, 7]).shape == (1, 3)
    models.save(model, tokenizer, tmp_path / "made", examples.CLASSIFICATION)
    again, tokenizer = models.load_classifier(tmp_path / "made")
    assert model_folder.stored_mode(tmp_path / "made") == "classification"
    assert again.config.id2label == dict(enumerate(LABELS))
    assert again.config.label2id == {"calm": 0, "glad": 1, "sad": 2}
    assert again.config.problem_type == "single_label_classification"
    assert again.config.pad_token_id == models.pad_token_id(tokenizer)
    torch.testing.assert_close(logits(again, [5, 6, 7]), logits(model, [5, 6, 7]))


def test_the_head_comes_from_the_seed_and_the_rest_from_the_base(any_base: Path) -> None:
    once, again, other = (
        dict(models.new_classifier(any_base, LABELS, "multi_label_classification", seed)[0].named_parameters())
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(once[name], again[name]) for name in once)
    differing = {name.rsplit(".", 1)[0] for name in once if not torch.equal(once[name], other[name])}
    # A base without a pooler gets a new one, too.
    assert differing <= {"score", "classifier", "bert.pooler.dense"}
    assert differing & {"score", "classifier"}


def test_a_classifier_taken_as_a_base_gets_a_new_head(any_base: Path, tmp_path: Path) -> None:
    models.save(
        *models.new_classifier(any_base, LABELS, "single_label_classification", 0), tmp_path / "first", "classification"
    )
    model, _ = models.new_classifier(tmp_path / "first", ["no", "yes"], "single_label_classification", 0)
    assert model.config.num_labels == 2
    model, _ = models.new_classifier(tmp_path / "first", [], "regression", 0)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


def test_a_model_that_is_not_a_classifier_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the weights lack 1 tensors of the model, score.weight first"):
        models.load_classifier(base)
    models.save(
        *models.new_classifier(base, LABELS, "single_label_classification", 0), tmp_path / "made", "classification"
    )
    config = files.read_json(tmp_path / "made/config.json")
    files.write_json(tmp_path / "made/config.json", config | {"problem_type": None})
    with pytest.raises(ModelError, match="the meaning of the model's outputs is unknown"):
        models.load_classifier(tmp_path / "made")


def test_a_base_that_lacks_more_than_a_head_is_refused(base: Path) -> None:
    config = files.read_json(base / "config.json")
    files.write_json(base / "config.json", config | {"num_hidden_layers": 3})
    with pytest.raises(ModelError, match=r"the weights lack \d+ tensors .*model.layers.2"):
        models.new_classifier(base, LABELS, "single_label_classification", 0)


def test_a_truncated_text_keeps_the_special_tokens_of_an_encoder() -> None:
    tokenizer = word_pieces()
    records = [{"text": "alpha beta", "label": "sad"}, {"text": "[SEP]", "label": "glad", "source": "a.csv:2"}]
    first, second = encode.encode_labelled(tokenizer, records, labels=LABELS)
    assert tokenizer.convert_ids_to_tokens(first.input_ids) == ["[CLS]", "alpha", "beta", "[SEP]"]
    assert (first.target, second.target, second.source) == (2, 1, "a.csv:2")
    # The special token that the text spells is text.
    assert second.input_ids.count(3) == 1
    [cut] = with_special_tokens(tokenizer, ["alpha beta"], 3)
    assert tokenizer.convert_ids_to_tokens(cut) == ["[CLS]", "alpha", "[SEP]"]


@pytest.mark.parametrize("given", [{}, {"add_eos_token": False, "add_bos_token": False}])
def test_the_tokenizer_of_a_causal_classifier_ends_texts_with_end_of_text(
    base: Path, tmp_path: Path, given: dict[str, bool]
) -> None:
    # Some tokenizer configurations say that nothing is put around a text.
    config = files.read_json(base / "tokenizer_config.json")
    files.write_json(base / "tokenizer_config.json", config | given)
    end = config["eos_token"]
    models.save(
        *models.new_classifier(base, LABELS, "single_label_classification", 0), tmp_path / "made", "classification"
    )
    for tokenizer in (models.load_tokenizer(tmp_path / "made"), AutoTokenizer.from_pretrained(tmp_path / "made")):
        ids = tokenizer("alpha beta")["input_ids"]
        assert tokenizer.decode(ids) == f"alpha beta{end}"
        [cut] = with_special_tokens(tokenizer, ["alpha beta"], 3)
        assert len(cut) == 3
        assert cut[-1] == tokenizer.eos_token_id
    # The base's own tokenizer does not change.
    assert models.load_tokenizer(base)("alpha beta")["input_ids"] == ids[:-1]


@pytest.mark.parametrize(("family", "positions"), [("bert", 64), ("roberta", 62)])
def test_rows_longer_than_an_encoder_s_context_are_refused(family: str, positions: int) -> None:
    model = BertModel(BertConfig(**SHAPE)) if family == "bert" else RobertaModel(RobertaConfig(pad_token_id=1, **SHAPE))
    models.check_length(model, positions, "finetune.max_length")
    assert model(input_ids=torch.full((1, positions), 7)).last_hidden_state.shape[1] == positions
    with pytest.raises(ModelError, match=f"{positions + 1} tokens are more than the model can see at once"):
        models.check_length(model, positions + 1, "finetune.max_length")


def test_a_chat_model_is_saved_with_its_template_and_its_end_tokens(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    assert ChatTemplate(own).origin == "shipped"
    models.save(tiny("llama"), own, tmp_path / "chat", examples.CHAT)
    model, own = models.load(tmp_path / "chat")
    assert model_folder.stored_mode(tmp_path / "chat") == "chat"
    assert ChatTemplate(own).origin == "shipped"
    assert model.generation_config is not None
    assert model.generation_config.eos_token_id == [own.eos_token_id]
