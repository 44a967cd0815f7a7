"""What `tuneline search` was asked for, how its search is opened, and how its best values are kept."""

import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tuneline import params
from tuneline.decisions import kept_trials
from tuneline.errors import ParamsError, PipelineError, SetupError, one_line
from tuneline.params import Params, editing
from tuneline.search import record
from tuneline.search.record import Record
from tuneline.search.result import Result, best_of
from tuneline.search.space import Space

if TYPE_CHECKING:
    from tuneline.search.study import Search

EXTRA = "search"
_LIBRARIES = {"optuna": "Optuna", "prefect_dask": "Prefect's runner for Dask"}


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    trials: int
    workers: int = 1
    name: str = "search"
    storage: str | None = None
    """An address for SQLAlchemy; None: a file of SQLite in the folder of the search."""
    scheduler: str | None = None
    """The address of a Dask cluster; None: this machine."""
    fresh: bool = False
    compare: bool = True
    apply: bool = False

    @property
    def address(self) -> str:
        """The address of the storage."""
        return self.storage or f"sqlite:///{record.folder_of(self.name).absolute()}/study.db"

    def check(self, p: Params) -> None:
        """Refuse what cannot work, before anything runs.

        Raises:
            ParamsError: an option does not fit params.yaml or the name cannot be used.
            SetupError: a library is not installed.
        """
        record.folder_of(self.name)
        if missing := [name for module, name in _LIBRARIES.items() if find_spec(module) is None]:
            raise SetupError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; a search needs them: "
                f"make setup EXTRAS={EXTRA}"
            )
        if self.scheduler:
            _check_cluster(self.scheduler)
        if p.compute.device == "cuda" and self.workers > 1 and self.scheduler is None:
            raise ParamsError(
                f"--workers {self.workers}: the trials would share the GPU of this machine; use --workers 1, or name a "
                "cluster with --scheduler"
            )

    def check_begun(self, space: Space) -> None:
        """Refuse to continue a search that cannot go on, before anything runs.

        Raises:
            ParamsError: it was begun with another space.
            SetupError: its storage cannot be used, or does not have it any more.
        """
        from tuneline.search import study

        begun = None if self.fresh else record.read(self.name)
        if begun and begun.is_begun:
            record.check_space(begun, space)
            if not study.exists(self.address, self.name):
                raise SetupError(
                    f"{self.address}: does not have the search '{self.name}', which {record.folder_of(self.name)} says "
                    "was begun; put the storage back or name it with --storage, or begin anew with --fresh"
                )

    def open(self, space: Space, p: Params) -> "tuple[Search, Record]":
        """Open the search that was begun, or begin one.

        Raises:
            PipelineError: it cannot be continued, because data, base, code or params have changed.
            SetupError: its storage cannot be used.
        """
        from tuneline.search import study

        record.folder_of(self.name).mkdir(parents=True, exist_ok=True)
        begun = None if self.fresh else record.read(self.name)
        if begun and begun.is_begun:
            record.check_inputs(begun, space, p)
            opened, identity = study.load(self.address, self.name, space)
            if identity != begun.identity:
                raise PipelineError(
                    f"{self.address}: has another search of the name '{self.name}'; use another --name, or begin anew "
                    "with --fresh"
                )
        else:
            if study.exists(self.address, self.name) and not (self.fresh or begun or self.storage is None):
                raise PipelineError(
                    f"{self.address}: has a search '{self.name}' already, which another project or clone has begun; "
                    "use another --name, or replace it with --fresh"
                )
            study.remove(self.address, self.name)
            kept_trials.remove_trials(self.name)
            begun = record.begin(self.name, space, p)
            opened = study.start(self.address, self.name, space, begun.identity)
            begun = begun.begun()
            begun.save()
        opened.begin(begun.default)
        return opened, begun


def _check_cluster(address: str) -> None:
    host, port = _host_and_port(address)
    if not (host and port):
        raise ParamsError(f"--scheduler {address}: must be the address of a Dask cluster, as in tcp://host:8786")
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise SetupError(
            f"--scheduler {address}: does not answer ({one_line(error)}); start it with: dask scheduler, and a worker "
            "in this project's folder (docs/search.md); or leave --scheduler out, to train on this machine"
        ) from None


def _host_and_port(address: str) -> tuple[str, int]:
    """Host and port of a Dask cluster; ("", 0) where it is not such an address."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 0
        # As the search for the host does, which raises no OSError for what cannot be a name.
        host.encode("idna")
    except ValueError:
        return "", 0
    is_address = parts.scheme in ("tcp", "tls") and not any(map(str.isspace, host))
    return (host, port) if is_address else ("", 0)


def peek(options: Options, space: Space) -> list[Result]:
    """The trials of a search that was begun; empty if there is none."""
    from tuneline.search import study

    begun = record.read(options.name)
    if not begun or not begun.is_begun or not study.exists(options.address, options.name):
        return []
    return study.load(options.address, options.name, space)[0].results()


def apply_best(options: Options, p: Params, space: Space) -> list[str]:
    """Write the values of the best trial into params.yaml; comments stay. Returns a line for each changed key.

    Raises:
        ParamsError: no trial has ended, or the search had another space.
    """
    begun = record.read(options.name)
    best = best_of(peek(options, space)) if begun else None
    if begun is None or best is None:
        raise ParamsError(f"search '{options.name}' has no trial that ended; run: tuneline search --trials 20")
    record.check_space(begun, space)
    today = record.defaults(space, p)
    changed = {key: value for key, value in best.values.items() if today[key] != value}
    if changed:
        editing.set_values(Path(params.PARAMS_FILE), changed)
    return [
        f"{params.PARAMS_FILE}: {key}: {editing.written(today[key])} -> {editing.written(value)}"
        for key, value in changed.items()
    ]
