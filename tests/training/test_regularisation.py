"""What is done against overfitting has the effect of its definition, and none where nothing is learned."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import classifier, documents, labelled, tiny, training_config
from torch import Tensor
from torch.nn import functional

from tuneline.encoding import packing
from tuneline.encoding.examples import IGNORED
from tuneline.errors import TrainingError
from tuneline.modeling import adapters, layers
from tuneline.training import regularisation, training_run
from tuneline.training.objectives import Causal, Classification
from tuneline.training.training_run import Training

RATE = 0.1
# One step with all documents.
STEP: dict[str, Any] = {
    "optim": "sgd", "learning_rate": RATE, "warmup_steps": 0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
    "num_train_epochs": 1.0, "per_device_train_batch_size": 99, "save_steps": 99, "logging_steps": 1,
}  # fmt: skip
Weights = dict[str, Tensor]


def weights(model: torch.nn.Module) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def step(
    folder: Path, model: Any = None, *, freeze: dict[str, Any] | None = None, **how: Any
) -> tuple[Weights, Training]:
    model = model or tiny("llama")
    if freeze:
        layers.freeze(model, **freeze)
    made = training_run.train(model, documents(12), training_config(**(STEP | how)), pad=1, folder=folder)
    return weights(made.model), made


def is_decayed(name: str) -> bool:
    return "norm" not in name


def test_weight_decay_shrinks_matrices_by_rate_times_decay(tmp_path: Path) -> None:
    before = weights(tiny("llama"))
    plain, _ = step(tmp_path / "plain", optim="adamw_torch")
    decayed, _ = step(tmp_path / "decayed", optim="adamw_torch", weight_decay=0.5)
    for name in before:
        expected = plain[name] - RATE * 0.5 * before[name] * is_decayed(name)
        torch.testing.assert_close(decayed[name], expected, atol=1e-6, rtol=0)


def test_a_gradient_is_clipped_to_the_norm(tmp_path: Path) -> None:
    before = weights(tiny("llama"))
    plain, made = step(tmp_path / "plain")
    clipped, _ = step(tmp_path / "clipped", max_grad_norm=0.01)
    norm = made.history.lines[0]["grad_norm"]
    for name in before:
        expected = before[name] + (plain[name] - before[name]) * 0.01 / norm
        torch.testing.assert_close(clipped[name], expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch", "muon"])
def test_l1_is_soft_thresholding_after_the_step(tmp_path: Path, optim: str) -> None:
    plain, _ = step(tmp_path / "plain", optim=optim)
    shrunk, _ = step(tmp_path / "l1", optim=optim, l1_decay=0.05)
    zeros = 0
    for name in plain:
        # As for weight_decay, Muon's are the matrices of the layers.
        is_shrunk = is_decayed(name) and (optim != "muon" or ".layers." in name)
        expected = functional.softshrink(plain[name], RATE * 0.05) if is_shrunk else plain[name]
        assert torch.equal(shrunk[name], expected)
        zeros += int((shrunk[name] == 0).sum())
    assert zeros > 100


def test_an_optimizer_that_does_not_show_the_weights_is_refused() -> None:
    model = tiny("llama")
    # GaLore's optimizers of single layers show a number in the place of the weights.
    hiding = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    with pytest.raises(TrainingError, match=r"finetune\.l1_decay: does not fit optim SGD, which has no rate for each"):
        regularisation.shrink_after_steps(hiding, list(model.parameters()), 0.1)
    with pytest.raises(TrainingError, match=r"finetune\.layerwise_lr_decay: does not fit optim SGD"):
        regularisation.split_by_layer(hiding, model, 0.9)


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch", "muon"])
def test_each_layer_has_its_learning_rate(tmp_path: Path, optim: str) -> None:
    model = tiny("llama")
    before, parts = weights(model), layers.parts(model)
    plain, _ = step(tmp_path / "plain", optim=optim)
    layered, made = step(tmp_path / "layered", optim=optim, layerwise_lr_decay=0.5)
    factors = {"embeddings": 0.125, "layer 0": 0.25, "layer 1": 0.5, "head": 1.0}
    for part, names in parts.items():
        for name in names:
            expected = before[name] + factors[part] * (plain[name] - before[name])
            torch.testing.assert_close(layered[name], expected, atol=1e-6, rtol=0)
            assert not torch.equal(layered[name], before[name])
    # The log has the rate of params.yaml, whatever the first group of the optimizer is.
    assert made.history.lines[0]["learning_rate"] == RATE


def test_adapters_have_the_rates_of_their_layers(tmp_path: Path) -> None:
    config = training_config(**(STEP | {"layerwise_lr_decay": 0.5}))
    lora = {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "init_lora_weights": False}
    before = weights(adapters.wrap(tiny("llama"), lora, config.seed))
    moved = []
    for layered in (None, 0.5):
        how = config.model_copy(update={"layerwise_lr_decay": layered})
        made = training_run.train(tiny("llama"), documents(12), how, pad=1, folder=tmp_path / str(layered), lora=lora)
        assert made.adapter
        moved.append(made.adapter.weights)
    for name, plain in moved[0].items():
        start = before[name.replace(".weight", ".default.weight")]
        factor = 0.5 if ".layers.1." in name else 0.25
        torch.testing.assert_close(moved[1][name], start + factor * (plain - start), atol=1e-6, rtol=0)


@pytest.mark.parametrize("optim", ["adamw_torch", "muon"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_kept_weights_have_the_same_bytes(tmp_path: Path, optim: str, family: str) -> None:
    model = tiny(family)
    before, parts = weights(model), layers.parts(model)
    layers.freeze(model, embeddings=True, layers=[0])
    after, _ = step(tmp_path, model, optim=optim, weight_decay=0.5, l1_decay=0.05, gradient_checkpointing=True)
    kept = {*parts["embeddings"], *parts["layer 0"]}
    assert {name for name in before if torch.equal(before[name], after[name])} == kept


def noise_of(batch: dict[str, Tensor], alpha: float, *, train: bool = True, grad: bool = True) -> Tensor:
    """What is added to the embeddings of a batch."""
    model = tiny("llama")
    model.train(train)
    plain = model.get_input_embeddings()(batch["input_ids"])
    with regularisation.embedding_noise(model, alpha) as see, torch.set_grad_enabled(grad):
        see(batch)
        return (model.get_input_embeddings()(batch["input_ids"]) - plain).detach()


def test_the_noise_of_a_document_depends_on_its_own_length() -> None:
    examples = sorted(documents(12), key=lambda one: len(one.input_ids))
    short, long = examples[0], examples[-1]
    alone, packed = packing.collate([[short]] * 64, 1), packing.collate([[short, long]] * 64, 1)
    padded = packing.collate([[short], [long]] * 64, 1)
    few, many = len(short.input_ids), len(long.input_ids)
    for batch, rows, tokens, length in (
        (alone, slice(None), slice(None), few),
        (packed, slice(None), slice(0, few), few),
        (packed, slice(None), slice(few, None), many),
        (padded, slice(0, None, 2), slice(0, few), few),
    ):
        bound = 5.0 / math.sqrt(length * 32)
        noise = noise_of(batch, 5.0)[rows, tokens]
        assert bound * 0.99 < noise.abs().max() < bound * 1.001
        assert noise.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_noise_is_added_only_where_weights_are_learned() -> None:
    batch = packing.collate([[one] for one in documents(4)], 1)
    assert noise_of(batch, 5.0).abs().min() > 0
    # An evaluation, and the reference of preferences, which is the model itself with its adapters off.
    assert not noise_of(batch, 5.0, train=False).any()
    assert not noise_of(batch, 5.0, grad=False).any()


@pytest.mark.parametrize(("packed", "sparse"), list(itertools.product((True, False), repeat=2)))
def test_label_smoothing_is_that_of_torch_on_supervised_tokens(packed: bool, sparse: bool) -> None:
    examples, model = documents(12), tiny("llama").train()
    rows = [examples[:6], examples[6:]] if packed else [[one] for one in examples]
    objective = Causal(1, packed, sparse, 300, smoothing=0.1)
    summed, weight = objective.loss(model, objective.collate(rows))
    logits = torch.cat([model(input_ids=torch.tensor([one.input_ids])).logits[0, :-1] for one in examples])
    wanted = torch.tensor([label for one in examples for label in one.labels[1:]])
    expected = functional.cross_entropy(logits, wanted, label_smoothing=0.1, ignore_index=IGNORED)
    torch.testing.assert_close(summed / weight, expected, atol=1e-6, rtol=0)
    # Validation measures the likelihood.
    model.eval()
    summed, weight = objective.loss(model, objective.collate(rows))
    torch.testing.assert_close(summed / weight, functional.cross_entropy(logits, wanted), atol=1e-6, rtol=0)


def test_label_smoothing_with_weights_of_labels_is_that_of_torch() -> None:
    examples, model = labelled(40), classifier("llama").train()
    objective = Classification.for_examples(
        examples, pad=1, labels=3, multi_label=False, class_weights="balanced", smoothing=0.2
    )
    batch = objective.collate([[one] for one in examples])
    summed, weight = objective.loss(model, batch)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert objective.weights
    expected = functional.cross_entropy(
        logits, batch["targets"], weight=torch.tensor(objective.weights), label_smoothing=0.2
    )
    torch.testing.assert_close(summed / weight, expected, atol=1e-6, rtol=0)


def test_a_schedule_that_reads_the_rate_of_the_optimizer_takes_muon(tmp_path: Path) -> None:
    _, made = step(tmp_path, optim="muon", lr_scheduler_type="polynomial", per_device_train_batch_size=1)
    rates = [line["learning_rate"] for line in made.history.lines]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == RATE
