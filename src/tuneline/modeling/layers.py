"""The depth of each parameter of a model: its layers are counted from the embeddings to the output head.

The rates are those of BEiT (Bao et al. 2022, https://arxiv.org/abs/2106.08254) and timm: the head has the full
rate, the last layer `decay` times as much, and each layer below it `decay` times as much as the layer above it.
"""

import difflib
from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel

from tuneline.errors import TrainingError

# Names that a message lists.
_NAMED = 12
_EMBEDDINGS, _HEAD = "embeddings", "head"


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model: the modules in its outermost lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from layers(child)


def parts(model: nn.Module) -> dict[str, list[str]]:
    """The names of all parameters by the part of the model that they are in, from the embeddings to the head.

    Args:
        model: a model, also one with adapters.

    Returns:
        `embeddings`, `layer 0`, `layer 1`, … and `head`. What is neither an embedding nor in a layer, such as the last
        norm and the head of a classifier, is in `head`; a matrix that is embedding and output head in `embeddings`.
    """
    in_layer = {id(parameter): number for number, layer in enumerate(layers(model)) for parameter in layer.parameters()}
    count = 1 + max(in_layer.values(), default=-1)
    embedded = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    found: dict[str, list[str]] = {part: [] for part in (_EMBEDDINGS, *map(_layer, range(count)), _HEAD)}
    for name, parameter in model.named_parameters():
        if id(parameter) in in_layer:
            part = _layer(in_layer[id(parameter)])
        else:
            # Norms and projections of embeddings have it in their names; GPT-NeoX's output head is called embed_out.
            is_embedding = id(parameter) in embedded or ("embed" in name and "embed_out" not in name)
            part = _EMBEDDINGS if is_embedding else _HEAD
        found[part].append(name)
    return found


def _layer(number: int) -> str:
    return f"layer {number}"


def rate_factors(model: nn.Module, decay: float) -> dict[str, float]:
    """What the learning rate of each part of a model is multiplied by.

    Args:
        model: a model, also one with adapters.
        decay: the factor from each layer to the layer below it.

    Raises:
        TrainingError: the model has no layers.
    """
    names = list(parts(model))
    if len(names) == 2:
        raise TrainingError(
            f"finetune.layerwise_lr_decay: {type(model).__name__} has no list of layers to count; remove it"
        )
    return {part: decay ** (len(names) - 1 - depth) for depth, part in enumerate(names)}


def freeze(
    model: PreTrainedModel, *, embeddings: bool = False, layers: Sequence[int] = (), modules: Sequence[str] = ()
) -> list[str]:
    """Keep some weights as they are: no gradient, no optimizer state, no weight decay.

    Args:
        model: changed in place.
        embeddings: whether the embeddings are kept; where they are the output head too, the head is kept with them.
        layers: the numbers of the layers that are kept, from 0.
        modules: names of modules or parameters, or parts of names from dot to dot.

    Returns:
        The names of the parameters that are kept.

    Raises:
        TrainingError: a layer or a module does not exist, or nothing is left to train.
    """
    found = parts(model)
    problems, kept = [], set(found[_EMBEDDINGS] if embeddings else ())
    last = len(found) - 3
    for number in layers:
        if number > last:
            problems.append(
                f"finetune.freeze.layers: {number} is none of the layers of the base, which are 0 to {last}"
            )
        else:
            kept |= set(found[_layer(number)])
    everything = [name for names in found.values() for name in names]
    for wanted in modules:
        matching = [name for name in everything if f".{wanted}." in f".{name}."]
        if not matching:
            problems.append(f"finetune.freeze.modules: {wanted} matches no weights; {_hint(everything, wanted)}")
        kept |= set(matching)
    if problems:
        raise TrainingError(*problems)
    if len(kept) == len(everything):
        raise TrainingError("finetune.freeze: nothing is left to train; leave a part of the model out of it")
    for name, parameter in model.named_parameters():
        if name in kept:
            parameter.requires_grad_(False)
    return [name for name in everything if name in kept]


def _hint(names: Sequence[str], wanted: str) -> str:
    """The modules that may be meant; else the first of all."""
    known = list(dict.fromkeys(part for name in names for part in name.split(".")[:-1] if not part.isdigit()))
    close = difflib.get_close_matches(wanted.rsplit(".", 1)[-1], known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"the modules are {', '.join(known[:_NAMED])}"
