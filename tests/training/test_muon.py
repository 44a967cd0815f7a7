import copy

import pytest
import torch
from tiny_models import documents, tiny
from torch.nn import functional

from tuneline.encoding.packing import collate
from tuneline.modeling import forward
from tuneline.training.muon import MuonAdamW, orthogonal


def step_with(optimizers: list[torch.optim.Optimizer], model: torch.nn.Module, seed: int) -> None:
    model.zero_grad()
    forward.nll(model, collate([documents(3, seed)], pad=1), packed=True, sparse=True)[0].backward()
    for optimizer in optimizers:
        optimizer.step()


def test_muon_equals_torchs_muon_for_matrices_and_torchs_adamw_for_other_weights() -> None:
    ours, reference = tiny("llama"), tiny("llama")
    matrices = [parameter for name, parameter in reference.named_parameters() if "proj" in name]
    rest = [parameter for name, parameter in reference.named_parameters() if "proj" not in name]
    one = MuonAdamW(ours, learning_rate=0.02, weight_decay=0.1, adam_learning_rate=0.003)
    two = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.003, weight_decay=0.0, betas=(0.9, 0.95)),
    ]
    before = [parameter.detach().clone() for parameter in ours.parameters()]
    for seed in range(3):
        step_with([one], ours, seed)
        step_with(two, reference, seed)
    for (name, mine), its, was in zip(ours.named_parameters(), reference.parameters(), before, strict=True):
        # torch's orthogonalises in bfloat16, which knows three digits: the same way, as far.
        mine_moved, its_moved = (mine - was).flatten(), (its - was).flatten()
        assert functional.cosine_similarity(mine_moved, its_moved, dim=0) > 0.99, name
        assert 0.97 < mine_moved.norm() / its_moved.norm() < 1.03, name


def test_orthogonal_brings_singular_values_around_one() -> None:
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    for one in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonal(one))
        assert orthogonal(one).shape == one.shape
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_a_saved_and_loaded_optimizer_state_gives_the_same_bits() -> None:
    model = tiny("qwen3")
    optimizer = MuonAdamW(model, learning_rate=0.02, weight_decay=0.1, adam_learning_rate=0.003)
    step_with([optimizer], model, 0)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    step_with([optimizer], model, 1)

    other = tiny("qwen3")
    other.load_state_dict(weights)
    resumed = MuonAdamW(other, learning_rate=0.02, weight_decay=0.1, adam_learning_rate=0.003)
    resumed.load_state_dict(state)
    step_with([resumed], other, 1)
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_frozen_parameters_do_not_change() -> None:
    model = tiny("llama")
    frozen = model.get_input_embeddings().weight
    assert isinstance(frozen, torch.nn.Parameter)
    frozen.requires_grad_(False)
    before = frozen.clone()
    step_with([MuonAdamW(model, learning_rate=0.1, weight_decay=0.1, adam_learning_rate=0.1)], model, 0)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_every_trainable_parameter_is_in_one_group(family: str) -> None:
    model = tiny(family)
    optimizer = MuonAdamW(model, learning_rate=0.1, weight_decay=0.1, adam_learning_rate=0.1)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    embedding = model.get_input_embeddings().weight
    assert id(embedding) in [id(parameter) for parameter in optimizer.param_groups[1]["params"]]
