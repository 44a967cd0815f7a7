"""Write variants of the training rows with synonyms of a table, which finetune trains beside them.

python -m tuneline.stages replace_synonyms@NAME

Reads paths.clean and the table; writes as the stage augment does.
"""

from pathlib import Path

from tuneline import params
from tuneline.augmentation import preconditions, synonym_table, variants


def main(p: params.Params, name: str) -> None:
    """Run the stage.

    Args:
        p: the params.
        name: a key of data.augment.synonyms.
    """
    preconditions.check(p)
    settings = p.data.augment.synonyms[name]
    replacer = synonym_table.Replacer(synonym_table.read(Path(settings.table)))
    variants.make(p, name, variants.by_text(replacer, settings.p), completion=settings.completion)
