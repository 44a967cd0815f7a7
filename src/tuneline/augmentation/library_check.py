"""Whether the libraries of the extra `augment` and the files that variants are made with are there; imports none."""

from importlib.util import find_spec
from pathlib import Path

from tuneline.errors import SetupError
from tuneline.params import Params

_LIBRARIES = ("glitchlings", "rjieba")
_EXTRA = "augment"


def check(p: Params) -> None:
    """Refuse what would stop a stage of `data.augment` after others have run.

    Raises:
        SetupError: a library, a table or a model is missing; names all.
    """
    problems = []
    needing = [key for _, key, settings in p.data.augment.variants() if hasattr(settings, "p")]
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if needing and missing:
        problems.append(
            f"{', '.join(needing)}: needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not "
            f"installed; install it with: make setup EXTRAS={_EXTRA}"
        )
    for _, key, settings in p.data.augment.variants():
        for name, path in settings.model_dump(include={"table", "model", "back"}).items():
            if name == "table" and not Path(path).is_file():
                problems.append(f"{key}.{name}: {path} is not a file; put the table there, or correct the path")
            if name != "table" and not Path(path).is_dir():
                problems.append(f"{key}.{name}: {path} is not a folder; put the model there, or correct the path")
    if problems:
        raise SetupError(*problems)
