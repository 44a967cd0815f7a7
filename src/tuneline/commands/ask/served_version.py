"""Fetch the registered version that answers, and refuse it if its task does not fit the command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneline import params
from tuneline.errors import BrokenVersionError, ModelError, ParamsError, RegistryError
from tuneline.modeling.model_folder import stored_mode
from tuneline.registry import cards, tracking, versions

PREDICTS = ("classification", "regression")
"""Modes of models that give labels or numbers. All other models write text."""


@dataclass(frozen=True)
class Served:
    """A version whose files are on this machine."""

    model: str
    """The registered model's name."""
    version: str
    alias: str | None
    """The alias that was given. None: the version was given by number."""
    folder: Path
    mode: str
    """plain, chat, classification or regression."""
    max_length: int
    """Most tokens of a text in training."""
    columns: Mapping[str, str]
    """Field -> column of the training files, if its params name them."""
    notes: tuple[str, ...] = ()

    @property
    def chats(self) -> bool:
        """Whether it was trained on conversations."""
        return self.mode == "chat"

    @property
    def name(self) -> str:
        """The name for messages, for example `reviews version 3`."""
        return f"{self.model} version {self.version}"

    def describe(self) -> str:
        """A line that says which version answers."""
        return f"{self.name}{f' ({self.alias})' if self.alias else ''} answers"

    def arguments(self) -> str:
        """The command-line arguments that choose this version."""
        if self.alias is None:
            return f" --version {self.version}"
        return f" --alias {self.alias}" if self.alias != cards.CHAMPION else ""


def serve(p: params.Params, *, version: int | None, alias: str) -> Served:
    """Find a version and fetch its files. Does not import torch.

    Args:
        p: the project's params.
        version: its number. None: the version with `alias`.
        alias: an alias of the version.

    Raises:
        RegistryError: the version does not exist, or its files differ from the registered ones.
        TrackingError: MLflow does not answer.
        ModelError: the model's mode cannot be read.
    """
    tracker = tracking.connect()
    number = versions.resolve_version(tracker, p.registry.model, version=str(version) if version else None, alias=alias)
    try:
        folder = versions.fetch_version(tracker, p.registry.model, number)
    except BrokenVersionError as error:
        raise RegistryError(f"{error}; {versions.suggest_instead(tracker, p, number)}") from None
    notes: tuple[str, ...] = ()
    try:
        own = params.load(folder / params.PARAMS_FILE)
    except ParamsError:
        own = p
        notes = (
            f"version {number} has params of another release, so finetune.max_length {p.finetune.max_length} is taken "
            f"from {params.PARAMS_FILE} of this project",
        )
    return Served(
        model=p.registry.model,
        version=number,
        alias=None if version else alias,
        folder=folder,
        mode=stored_mode(folder),
        max_length=own.finetune.max_length,
        columns=own.data.columns,
        notes=notes,
    )


def check_predicts(served: Served) -> None:
    """Raise ModelError, with the command to use instead, if the version writes text."""
    if served.mode not in PREDICTS:
        raise ModelError(
            f"{served.name} writes text, not labels or numbers; use: tuneline generate{served.arguments()} PROMPT"
        )


def check_writes(served: Served) -> None:
    """Raise ModelError, with the command to use instead, if the version gives labels or numbers."""
    if served.mode in PREDICTS:
        what = "labels" if served.mode == "classification" else "numbers"
        raise ModelError(f"{served.name} gives {what}, not text; use: tuneline predict{served.arguments()} TEXT")
