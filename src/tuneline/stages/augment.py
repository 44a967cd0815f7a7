"""Write noisy variants of the training rows, which finetune trains beside them.

python -m tuneline.stages augment@word_dropout

Reads paths.clean; writes the rows into a folder of its name below `<paths.clean>-augmented`, and the counts into
augmented/NAME.json in paths.reports.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tuneline import params
from tuneline.augmentation import library_check, text_noise, variants
from tuneline.core import files
from tuneline.data.records.record_form import read_form


def main(p: params.Params, name: str) -> None:
    """Run the stage.

    Args:
        p: the params.
        name: a key of data.augment.noise.
    """
    library_check.check(p)
    clean, settings = Path(p.paths.clean), p.data.augment.noise[name]
    noise = partial(_each, text_noise.NOISES[name], settings.p)
    counted = variants.write(
        clean,
        Path(p.paths.augmented) / name,
        read_form(clean, p.task),
        noise,
        name=name,
        seed=p.data.split.seed,
        threshold=p.data.near_duplicates,
        completion=settings.completion,
    )
    files.write_json(Path(p.paths.reports) / "augmented" / f"{name}.json", counted.as_json())
    print(counted.described(name), flush=True)


def _each(noise: text_noise.Noise, p: float, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
    return [noise(text, p, seed) for text, seed in zip(texts, seeds, strict=True)]
