"""What the variants of params.yaml need: libraries, which are not imported here, tables and models."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tuneline.augmentation import synonym_table
from tuneline.errors import DataError, SetupError
from tuneline.params import Params

_LIBRARIES = ("glitchlings", "rjieba")
_TOKENIZERS = "sentencepiece"
_EXTRA = "augment"


def check(p: Params) -> None:
    """Refuse what would stop a stage of `data.augment` after others have run.

    Raises:
        SetupError: a library, a table or a model is missing, or a table is wrong; names all.
    """
    problems: list[str] = []
    needing = [key for _, key, settings in p.data.augment.variants() if hasattr(settings, "p")]
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if needing and missing:
        problems.append(
            f"{', '.join(needing)}: needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not "
            f"installed; install it with: make setup EXTRAS={_EXTRA}"
        )
    for _, key, settings in p.data.augment.variants():
        for name, path in settings.model_dump(include={"table", "model", "back"}).items():
            found = _table_problems(Path(path)) if name == "table" else _model_problems(Path(path))
            problems += [f"{key}.{name}: {problem}" for problem in found]
    if problems:
        raise SetupError(*problems)


def _table_problems(path: Path) -> Iterator[str]:
    try:
        synonym_table.read(path)
    except DataError as error:
        yield from error.problems


def _model_problems(path: Path) -> Iterator[str]:
    if not (path / "config.json").is_file():
        yield f"{path} is not the folder of a model (config.json); put the model there, or correct the path"
    elif (
        not (path / "tokenizer.json").is_file()
        and find_spec(_TOKENIZERS) is None
        and any(one.suffix in (".spm", ".model") for one in path.iterdir())
    ):
        yield (
            f"the tokenizer of {path} needs {_TOKENIZERS}, which is not installed; install it with: make setup "
            f"EXTRAS={_EXTRA}"
        )
