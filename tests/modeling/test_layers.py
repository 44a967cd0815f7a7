"""Which part of a model each parameter is in, what its learning rate is multiplied by, and what is kept as it is."""

from collections.abc import Callable
from typing import Any

import pytest
from tiny_models import classifier, tiny

from tuneline.errors import TrainingError
from tuneline.modeling import adapters, layers


@pytest.mark.parametrize(
    ("make", "embeddings", "head"),
    [
        (lambda: tiny("llama"), ["model.embed_tokens.weight"], ["model.norm.weight", "lm_head.weight"]),
        # The output head is the matrix of the embeddings.
        (lambda: tiny("llama", tie_word_embeddings=True), ["model.embed_tokens.weight"], ["model.norm.weight"]),
        (
            lambda: tiny("gpt2"),
            ["transformer.wte.weight", "transformer.wpe.weight"],
            ["transformer.ln_f.weight", "transformer.ln_f.bias"],
        ),
        (
            lambda: classifier("bert"),
            [
                *(f"bert.embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")),
                "bert.embeddings.LayerNorm.weight",
                "bert.embeddings.LayerNorm.bias",
            ],
            ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"],
        ),
    ],
    ids=["llama", "tied", "gpt2", "bert"],
)
def test_each_parameter_is_in_one_part(make: Callable[[], Any], embeddings: list[str], head: list[str]) -> None:
    model = make()
    found = layers.parts(model)
    assert list(found) == ["embeddings", "layer 0", "layer 1", "head"]
    assert found["embeddings"] == embeddings
    assert found["head"] == head
    assert all(f".{number}." in name for number in (0, 1) for name in found[f"layer {number}"])
    assert sorted(name for names in found.values() for name in names) == sorted(dict(model.named_parameters()))


def test_the_rates_fall_from_the_head_to_the_embeddings() -> None:
    # BEiT: the head 1, the last layer the decay, each layer below it the decay of the layer above.
    expected = {"embeddings": 0.125, "layer 0": 0.25, "layer 1": 0.5, "head": 1.0}
    assert layers.rate_factors(tiny("gpt2"), 0.5) == expected
    with_adapters = adapters.wrap(tiny("llama"), {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}, 0)
    assert layers.rate_factors(with_adapters, 0.5) == expected
    adapted = layers.parts(with_adapters)["layer 1"]
    assert "base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight" in adapted


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        ({"layers": [0, 2]}, "finetune.freeze.layers: 2 is none of the layers of the base, which are 0 to 1"),
        ({"modules": ["q_porj"]}, "finetune.freeze.modules: q_porj matches no weights; did you mean q_proj"),
        (
            {"modules": ["x"]},
            "finetune.freeze.modules: x matches no weights; the modules are model, embed_tokens, layers",
        ),
        (
            {"embeddings": True, "layers": [0, 1], "modules": ["norm", "lm_head"]},
            "finetune.freeze: nothing is left to train",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(freeze: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError) as caught:
        layers.freeze(tiny("llama"), **freeze)
    assert str(caught.value).startswith(told)


def test_all_wrong_names_are_told_at_once() -> None:
    with pytest.raises(TrainingError) as caught:
        layers.freeze(tiny("llama"), layers=[7, 8], modules=["nothing"])
    assert len(caught.value.problems) == 3


def test_a_part_of_a_name_keeps_what_is_in_it() -> None:
    model = tiny("llama")
    kept = layers.freeze(model, modules=["layers.0.mlp", "norm"])
    assert kept == [
        *(f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
        "model.norm.weight",
    ]
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == kept
