"""Every error that a person is meant to read.

TunelineError
├── ParamsError          params.yaml says something that cannot be
├── DataError            a file or a row is not what the pipeline needs
│   ├── ExpectationError an expectation on the data failed
│   └── UnreadableFileError a file that the project itself has written cannot be read back
├── ModelError           a base or fine-tuned model cannot be loaded or used
├── TrainingError        training cannot start or go on
├── TrackingError        the MLflow server or store does not answer
├── RegistryError        a version cannot be registered, found or trusted
│   └── BrokenVersionError the files of a version are not those that were registered
├── PipelineError        DVC or a stage failed
│   └── BusyError        another run holds the project
├── GitError             there is a repository, and git does not say what it holds
└── SetupError           the machine lacks something: a tool, a core, disk space
"""

import errno
from pathlib import Path

from tuneline import terminal


class TunelineError(Exception):
    """One or more problems, each a line: the fact, the value, where it is, the remedy.

    Args:
        problems: the lines, in the order in which a person should read them. What of them comes from data steers no
            terminal and begins no line, and passwords are masked, wherever the error is shown, logged or kept.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(terminal.line, problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), self.problems


class ParamsError(TunelineError):
    """params.yaml says something that cannot be."""


class DataError(TunelineError):
    """A file or a row is not what the pipeline needs."""


class ExpectationError(DataError):
    """An expectation on the data failed."""


class UnreadableFileError(DataError, ValueError):
    """A file that the project itself has written cannot be read back; a ValueError, as of the parser that says so."""


class ModelError(TunelineError):
    """A base or fine-tuned model cannot be loaded or used."""


class TrainingError(TunelineError):
    """Training cannot start or go on."""


class TrackingError(TunelineError):
    """The MLflow server or store does not answer."""


class RegistryError(TunelineError):
    """A version cannot be registered, found or trusted."""


class BrokenVersionError(RegistryError):
    """The files of a version are not those that were registered.

    Args:
        name: of the model, and the version's number.
        reason: what is wrong with its files.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}; do not use this version")
        self.reason = reason


class PipelineError(TunelineError):
    """DVC or one of its stages failed."""


class BusyError(PipelineError):
    """Another run holds the project."""


class GitError(TunelineError):
    """There is a repository, and git does not say what it holds."""


class SetupError(TunelineError):
    """The machine lacks something: a tool, a core, disk space."""


def one_line(error: BaseException) -> str:
    """What an error of a library says, for a line of our own."""
    return " ".join(str(error).split())


def of_full_disk(error: OSError) -> SetupError | None:
    """The error in words where the disk is full (or the quota used up), else None."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    place = error.filename or Path.cwd()
    return SetupError(f"{place}: no space left on the disk; free some and run the same command again")


_REFUSED = {
    errno.EACCES: "may not be read or written by this user; change its permissions or its owner",
    errno.EPERM: "may not be changed by this user; change its permissions or its owner",
    errno.EROFS: "lies on a file system that is read-only; mount it writable",
    errno.EIO: "cannot be read or written: the disk reports an error; copy what you can to another disk",
    errno.ENAMETOOLONG: "has a name that is too long for the file system; shorten it",
    errno.EMFILE: "cannot be opened: this process has too many files open; raise the limit, as with `ulimit -n 4096`",
}


def of_machine(error: OSError) -> SetupError | None:
    """The error in words where the disk is full, or the machine refuses a file, else None."""
    if error.errno in _REFUSED and error.filename:
        return SetupError(f"{error.filename}: {_REFUSED[error.errno]}, and run the same command again")
    return of_full_disk(error)
