"""Fetch the registered version that answers, and refuse it if its task does not fit the command."""

from dataclasses import dataclass

from tuneline import params
from tuneline.commands.ask.asked_model import AskedModel, read_own_params
from tuneline.decisions import signature_policy, trusted_history
from tuneline.errors import BrokenVersionError, ModelError, ParamsError, RegistryError
from tuneline.modeling.model_folder import stored_mode
from tuneline.registry import cards, tracking, versions


@dataclass(frozen=True, kw_only=True)
class Served(AskedModel):
    """A version whose files are on this machine."""

    version: str
    alias: str | None
    """The alias that was given. None: the version was given by number."""
    notes: tuple[str, ...] = ()

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
        RegistryError: the version does not exist, its files differ from the registered ones, or its signature is wrong.
        TrackingError: MLflow does not answer.
        ModelError: the model's mode cannot be read.
    """
    tracker = tracking.connect()
    number = versions.resolve_version(tracker, p.registry.model, version=str(version) if version else None, alias=alias)
    try:
        folder = versions.fetch_version(tracker, p.registry.model, number)
    except BrokenVersionError as error:
        raise RegistryError(f"{error}; {versions.suggest_instead(tracker, p, number)}") from None
    tags = tracker.version_tags(p.registry.model, number)
    if problem := signature_policy.removed_signature(folder, tags) or signature_policy.wrong_signature(folder):
        raise RegistryError(
            f"{p.registry.model} version {number}: its signature is wrong: {problem}",
            versions.suggest_instead(tracker, p, number),
        )
    notes: tuple[str, ...] = ()
    try:
        own = read_own_params(folder)
        max_length, columns = own.max_length, own.columns
    except ParamsError as error:
        max_length, columns = p.finetune.max_length, p.data.columns
        notes = (f"{error}; finetune.max_length {max_length} is taken from {params.PARAMS_FILE} of this project",)
    if (
        version is None
        and alias == cards.CHAMPION
        and (note := trusted_history.unverified_note(tracker, p.registry.model, number))
    ):
        notes = (*notes, note)
    return Served(
        name=f"{p.registry.model} version {number}",
        version=number,
        alias=None if version else alias,
        folder=folder,
        mode=stored_mode(folder),
        max_length=max_length,
        columns=columns,
        notes=notes,
    )


def check_predicts(served: Served) -> None:
    """Raise ModelError, with the command to use instead, if the version writes text."""
    if not served.predicts:
        raise ModelError(
            f"{served.name} writes text, not labels or numbers; use: tuneline generate{served.arguments()} PROMPT"
        )


def check_writes(served: Served) -> None:
    """Raise ModelError, with the command to use instead, if the version gives labels or numbers."""
    if served.predicts:
        what = "labels" if served.mode == "classification" else "numbers"
        raise ModelError(f"{served.name} gives {what}, not text; use: tuneline predict{served.arguments()} TEXT")
