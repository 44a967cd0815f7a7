"""Write variants of the training rows with noise, which finetune trains beside them.

python -m tuneline.stages augment@word_dropout

Reads paths.clean; writes the rows into a folder of its name below `<paths.clean>-augmented`, and the counts into
augmented/NAME.json in paths.reports.
"""

from tuneline import params
from tuneline.augmentation import preconditions, text_noise, variants


def main(p: params.Params, name: str) -> None:
    """Run the stage.

    Args:
        p: the params.
        name: a key of data.augment.noise.
    """
    preconditions.check(p)
    settings = p.data.augment.noise[name]
    change = variants.by_text(text_noise.NOISES[name], settings.p)
    variants.make(p, name, change, completion=settings.completion)
