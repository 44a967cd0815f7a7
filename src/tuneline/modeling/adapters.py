"""LoRA by peft: adapters on a base, their names checked before anything is trained, merged for what is registered."""

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
    """Trained adapters, apart from their base."""

    config: dict[str, Any]
    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write them as peft reads them; the same adapters give the same bytes."""
        with files.atomic_folder(folder) as beside:
            save_file(self.weights, beside / "adapter_model.safetensors", metadata={"format": "pt"})
            files.write_json(beside / "adapter_config.json", self.config)
            for path in beside.iterdir():
                path.chmod(0o644)


def config(model: PreTrainedModel, lora: Mapping[str, Any]) -> peft.LoraConfig:
    """peft's own configuration for a model.

    Args:
        model: the base.
        lora: arguments of LoraConfig by their names.

    Raises:
        TrainingError: a module's name matches nothing in the model, or the arguments do not fit.
    """
    for key in ("target_modules", "modules_to_save"):
        _check_names(model, key, lora.get(key))
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    try:
        return peft.LoraConfig(**lora, task_type="SEQ_CLS" if is_classifier else "CAUSAL_LM")
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"finetune.lora: {one_line(error)}") from None


def wrap(model: PreTrainedModel, lora: Mapping[str, Any], seed: int) -> PreTrainedModel:
    """`model` with fresh adapters, which alone are trained; of a classifier its head too.

    Args:
        model: the base, changed in place.
        lora: arguments of LoraConfig by their names.
        seed: where the adapters' first weights come from.

    Returns:
        The model with adapters, used as the base is.

    Raises:
        TrainingError: as `config` does, or peft does not know where adapters go in this family.
    """
    made = config(model, lora)
    set_seed(seed)
    try:
        return cast(PreTrainedModel, peft.get_peft_model(model, made))
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise TrainingError(
            f"finetune.lora: {one_line(error)}; target_modules may be {_ALL_LINEAR}, or of {', '.join(_linear(model))}"
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
    """The base with its adapters added to its weights; the model with adapters is used up."""
    assert isinstance(model, peft.PeftModel)
    with torch.no_grad():
        return cast(PreTrainedModel, model.merge_and_unload()).eval()  # pyright: ignore[reportCallIssue]


def _check_names(model: PreTrainedModel, key: str, names: list[str] | str | None) -> None:
    """Every name must match a module, as peft matches: a list by the end of the full name, a text as a pattern."""
    modules = [name for name, _ in model.named_modules() if name]
    if names is None or names == _ALL_LINEAR:
        return
    if isinstance(names, str):
        try:
            matched = any(re.fullmatch(names, module) for module in modules)
        except re.error as error:
            raise TrainingError(f"finetune.lora.{key}: {names!r} is no pattern: {error}") from None
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
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(leaves[:_NAMED])}"


def _linear(model: nn.Module) -> list[str]:
    """Last parts of the names of the modules that multiply by a matrix."""
    kinds = ("Linear", "Conv1D", "Embedding")
    names = [name.rsplit(".", 1)[-1] for name, module in model.named_modules() if type(module).__name__ in kinds]
    return list(dict.fromkeys(names))
