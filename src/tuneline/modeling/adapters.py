"""LoRA adapters by peft: put on a base, saved apart from it, and merged into it."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed

from tuneline.core import files
from tuneline.errors import TrainingError, one_line

_ALL_LINEAR = "all-linear"
_NAMED = 12


@dataclass(frozen=True)
class Adapter:
    """Trained adapters without their base."""

    config: dict[str, Any]
    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write a folder that peft reads; the same adapters give the same bytes."""
        with files.atomic_folder(folder) as temporary:
            save_file(self.weights, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
            files.write_json(temporary / "adapter_config.json", self.config)
            for path in temporary.iterdir():
                path.chmod(0o644)


def config(model: PreTrainedModel, lora: Mapping[str, Any]) -> peft.LoraConfig:
    """The LoraConfig for a model.

    Args:
        model: the base.
        lora: arguments of LoraConfig by name.

    Raises:
        TrainingError: a module name matches nothing in the model, or peft refuses the arguments.
    """
    for key in ("target_modules", "modules_to_save"):
        _check_names(model, key, lora.get(key))
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    try:
        return peft.LoraConfig(**lora, task_type="SEQ_CLS" if is_classifier else "CAUSAL_LM")
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"finetune.lora: {one_line(error)}") from None


def wrap(model: PreTrainedModel, lora: Mapping[str, Any], seed: int) -> PreTrainedModel:
    """The model with new adapters. Only the adapters are trained, and the head of a classifier.

    Args:
        model: the base, changed in place.
        lora: arguments of LoraConfig by name.
        seed: of the initial weights of the adapters.

    Raises:
        TrainingError: as for `config`, or peft has no default target modules for this architecture.
    """
    adapter_config = config(model, lora)
    set_seed(seed)
    try:
        return cast(PreTrainedModel, peft.get_peft_model(model, adapter_config))
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise TrainingError(
            f"finetune.lora: {one_line(error)}; set target_modules to {_ALL_LINEAR} "
            f"or to names of {', '.join(_linear(model))}"
        ) from None


def extract(model: nn.Module) -> Adapter:
    """A copy of the trained adapters."""
    assert isinstance(model, peft.PeftModel)
    weights = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = model.peft_config["default"].to_dict() | {"inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in stored.items()}
    kept = {name: getattr(value, "value", value) for name, value in plain.items()}
    return Adapter(kept, {name: weights[name].detach().clone().contiguous() for name in sorted(weights)})


def merge(model: nn.Module) -> PreTrainedModel:
    """The base with the adapters added to its weights; `model` must not be used afterwards."""
    assert isinstance(model, peft.PeftModel)
    with torch.no_grad():
        return cast(PreTrainedModel, model.merge_and_unload()).eval()  # pyright: ignore[reportCallIssue]


def _check_names(model: PreTrainedModel, key: str, names: list[str] | str | None) -> None:
    """Check that each name matches a module as peft matches: a list by the end of full names, a text as a pattern."""
    modules = [name for name, _ in model.named_modules() if name]
    if names is None or names == _ALL_LINEAR:
        return
    if isinstance(names, str):
        try:
            matched = any(re.fullmatch(names, module) for module in modules)
        except re.error as error:
            raise TrainingError(f"finetune.lora.{key}: {names!r} is not a regular expression: {error}") from None
        missing = [] if matched else [names]
    else:
        missing = [name for name in names if not any(f".{module}".endswith(f".{name}") for module in modules)]
    if missing:
        raise TrainingError(
            *(f"finetune.lora.{key}: {name} matches no module; {_hint(model, name)}" for name in missing)
        )


def _hint(model: PreTrainedModel, name: str) -> str:
    leaves = _linear(model)
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"the modules are {', '.join(leaves[:_NAMED])}"


def _linear(model: nn.Module) -> list[str]:
    """The last parts of the names of all modules with a weight matrix."""
    types = ("Linear", "Conv1D", "Embedding")
    names = [name.rsplit(".", 1)[-1] for name, module in model.named_modules() if type(module).__name__ in types]
    return list(dict.fromkeys(names))
