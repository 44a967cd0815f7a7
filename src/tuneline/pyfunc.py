"""What MLflow calls to load a registered version: `mlflow.pyfunc.load_model("models:/NAME/1")`.

The file MLmodel of every version names this module. It needs only the folder of the version: no project, no server.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from transformers.utils import logging as transformers_logging

from tuneline.commands.ask.asked_model import AskedModel, read_own_params
from tuneline.commands.ask.frames import FrameModel
from tuneline.errors import SignatureError, TunelineError
from tuneline.modeling.model_folder import stored_mode
from tuneline.proofs import keys
from tuneline.registry import mlmodel

PUBLIC_KEYS = "TUNELINE_PUBLIC_KEYS"
"""The environment variable with public keys, one of which must have signed a version: files, or folders with files
NAME.pub, separated as in PATH. A version does not name them itself: whoever exchanges its files would name others."""


class PyfuncModel:
    """A version as MLflow calls it.

    Args:
        folder: of the version.

    Raises:
        TunelineError: a file differs from the registered one, the signature is missing or wrong although
            `PUBLIC_KEYS` is set, or the model cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        _check_signature(folder)
        mlmodel.check_files(folder)
        own = read_own_params(folder)
        asked = AskedModel(own.model, folder, stored_mode(folder), own.max_length, own.columns)
        with _without_progress_bars():
            self._model = FrameModel(asked, own)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The answers to the rows of a frame, as `FrameModel.answer` gives them.

        Raises:
            MlflowException: the frame cannot be answered; in one sentence, which a server sends to its client.
        """
        try:
            return self._model.answer(model_input, params)
        except TunelineError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _check_signature(folder: Path) -> None:
    given = os.environ.get(PUBLIC_KEYS)
    if given is None:
        return
    trusted: list[Path] = []
    for place in filter(None, given.split(os.pathsep)):
        trusted += keys.trusted_keys(Path(place)) if Path(place).is_dir() else [Path(place)]
    if not trusted:
        raise SignatureError(f"{PUBLIC_KEYS}={given}: names no public key (NAME.pub); name one, or unset the variable")
    # Loads model_signing: only where a signature is asked for.
    from tuneline.proofs import signatures

    signatures.verify(folder, trusted)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Print no bars of transformers during the block; the process belongs to the caller."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _load_pyfunc(path: str) -> PyfuncModel:
    """The model in a folder; MLflow looks for a function of this name."""
    return PyfuncModel(Path(path))
