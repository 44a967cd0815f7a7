"""Merge folders of tiny real models, as `tuneline merge` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from tuneline.core import files
from tuneline.fusion.merging import merge_recipe
from tuneline.fusion.merging.merge_recipe import ROWS, Parent, Recipe


def nudged(model: PreTrainedModel, seed: int, scale: float = 0.02) -> PreTrainedModel:
    """A copy of a model as if it had been fine-tuned: each weight has changed a little."""
    copy: Any = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.add_(noise.to(parameter.dtype))
    return copy.to(model.dtype).eval()


def sealed(folder: Path, method: str, weights: Sequence[float], **more: Any) -> Recipe:
    """Write the description of a merge folder that has a base and the parents 1, 2, …."""
    files.write_parquet(folder / ROWS, pa.table({"id": ["1", "2"], "cluster": ["a", "b"]}))
    parents = tuple(Parent(str(number), weight) for number, weight in enumerate(weights, 1))
    return merge_recipe.seal(Recipe(method, parents, model="mine", **more), folder)
