"""A registered version, fetched and ready to be asked: which one it is, what it can do, and how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneline import params
from tuneline.errors import BrokenVersionError, ModelError, ParamsError, RegistryError
from tuneline.modeling.model_folder import stored_mode
from tuneline.registry import cards, tracking, versions

PREDICTS = ("classification", "regression")
"""Modes of models that give labels or numbers; all others write text."""


@dataclass(frozen=True)
class Served:
    """A version whose files are here."""

    model: str
    """The registered model's name."""
    version: str
    alias: str | None
    """By which it was asked for; None: by its number."""
    folder: Path
    mode: str
    """plain, chat, classification or regression."""
    max_length: int
    """Tokens of a text that it saw in training."""
    columns: Mapping[str, str]
    """Field -> column of the files that it was trained on, where its params name them."""
    notes: tuple[str, ...] = ()

    @property
    def chats(self) -> bool:
        """Whether it was trained on conversations."""
        return self.mode == "chat"

    @property
    def name(self) -> str:
        """As in `reviews version 3`."""
        return f"{self.model} version {self.version}"

    def describe(self) -> str:
        """Who answers, in a line."""
        return f"{self.name}{f' ({self.alias})' if self.alias else ''} answers"

    def arguments(self) -> str:
        """How a command names it."""
        if self.alias is None:
            return f" --version {self.version}"
        return f" --alias {self.alias}" if self.alias != cards.CHAMPION else ""


def serve(p: params.Params, *, version: int | None, alias: str) -> Served:
    """Find a version and fetch it; no library that computes is loaded.

    Args:
        p: the project's params.
        version: its number; None: the one that `alias` names.
        alias: a name that people have given to a version.

    Raises:
        RegistryError: there is no such version, or its files are not those that were registered.
        TrackingError: MLflow does not answer.
        ModelError: what kind of model it is cannot be read.
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
            f"the params that version {number} was made with are of another release: finetune.max_length "
            f"{p.finetune.max_length} is taken from {params.PARAMS_FILE} of this project",
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
    """Refuse a version that writes text.

    Raises:
        ModelError: names the command for it.
    """
    if served.mode not in PREDICTS:
        raise ModelError(
            f"{served.name} writes text and gives no labels or numbers; ask it with: "
            f"tuneline generate{served.arguments()} PROMPT"
        )


def check_writes(served: Served) -> None:
    """Refuse a version that gives labels or numbers.

    Raises:
        ModelError: names the command for it.
    """
    if served.mode in PREDICTS:
        what = "labels" if served.mode == "classification" else "numbers"
        raise ModelError(
            f"{served.name} gives {what} and writes no text; ask it with: tuneline predict{served.arguments()} TEXT"
        )
