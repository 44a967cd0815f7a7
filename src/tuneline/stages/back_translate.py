"""Write variants of the training rows that were translated and translated back; finetune trains them beside these.

python -m tuneline.stages back_translate@NAME

Reads paths.clean and two translation models; writes as the stage augment does.
"""

from collections.abc import Sequence
from pathlib import Path

from tuneline import params
from tuneline.augmentation import preconditions, variants
from tuneline.modeling import hardware, models
from tuneline.modeling.translation import Translator


def main(p: params.Params, name: str) -> None:
    """Run the stage.

    Args:
        p: the params.
        name: a key of data.augment.back_translation.
    """
    preconditions.check(p)
    hardware.check(p.compute, 1)
    models.use_threads(p.compute.threads)
    settings = p.data.augment.back_translation[name]
    there, back = (Translator.load(Path(path), p.compute.device) for path in (settings.model, settings.back))

    def change(texts: Sequence[str], _: Sequence[int]) -> list[str | None]:
        return back.translate(there.translate(texts))

    variants.make(p, name, change)
