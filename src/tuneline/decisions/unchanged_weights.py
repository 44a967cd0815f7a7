"""A candidate whose weights are those of its base: then no number says what fine-tuning has done."""

import filecmp
from pathlib import Path

from tuneline import params


def find(p: params.Params) -> str | None:
    """Why the candidate in the workspace is not a fine-tuned model, as a sentence without its end; None if it is one.

    The best weights are kept, and those of a step that has not changed the base yet may be the best.

    Args:
        p: the params.
    """
    folders = p.paths.base, p.paths.finetuned
    base, finetuned = ({path.name: path for path in Path(folder).glob("*.safetensors")} for folder in folders)
    if not base or base.keys() != finetuned.keys():
        return None
    # It ends at the first byte that differs.
    if not all(filecmp.cmp(path, finetuned[name], shallow=False) for name, path in base.items()):
        return None
    return (
        "the fine-tuned model has the weights of its base, because no later step was better on the validation rows; "
        "raise finetune.learning_rate or finetune.num_train_epochs, or lower finetune.warmup_steps"
    )
