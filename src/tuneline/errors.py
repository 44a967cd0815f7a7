"""The errors whose messages are for the user.

TunelineError
├── ParamsError          params.yaml has an invalid value or an unknown key
├── DataError            the pipeline cannot use a file or a row
│   ├── ExpectationError an expectation on the data failed
│   └── UnreadableFileError a file that this project has written cannot be read
├── ModelError           a base or fine-tuned model cannot be loaded or used
├── TrainingError        training cannot start or continue
├── TrackingError        the MLflow server or store does not answer
├── RegistryError        a model version cannot be registered, found or trusted
│   └── BrokenVersionError the files of a version have changed since it was registered
├── SignatureError       a key cannot be used, or a signature is missing or wrong
├── PipelineError        DVC or a stage failed
│   ├── BusyError        another run is using the project
│   └── KilledError      a signal from outside has ended DVC or a stage
├── GitError             a git command failed in the project's repository
└── SetupError           the machine lacks a tool, a CPU core, disk space or a permission
"""

import errno
from pathlib import Path

from tuneline import terminal


class TunelineError(Exception):
    """One or more problems, one per line: the fact, the value, where it is, the remedy.

    Args:
        problems: the lines, in the order in which a person should read them. Control characters and line breaks in them
            are escaped, and passwords are masked.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(terminal.safe_line, problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), self.problems


class ParamsError(TunelineError):
    """params.yaml has an invalid value or an unknown key."""


class DataError(TunelineError):
    """The pipeline cannot use a file or a row."""


class ExpectationError(DataError):
    """An expectation on the data failed."""


class UnreadableFileError(DataError, ValueError):
    """A file that this project has written cannot be read; a ValueError, as parsers raise it."""


class ModelError(TunelineError):
    """A base or fine-tuned model cannot be loaded or used."""


class TrainingError(TunelineError):
    """Training cannot start or continue."""


class TrackingError(TunelineError):
    """The MLflow server or store does not answer."""


class RegistryError(TunelineError):
    """A model version cannot be registered, found or trusted."""


class BrokenVersionError(RegistryError):
    """The files of a version have changed since it was registered.

    Args:
        name: the name of the model and the number of the version.
        reason: what is wrong with the files.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}; do not use this version")
        self.reason = terminal.safe_line(reason)


class SignatureError(TunelineError):
    """A key cannot be used, or a signature is missing or wrong."""


class PipelineError(TunelineError):
    """DVC or one of its stages failed."""


class BusyError(PipelineError):
    """Another run is using the project."""


class KilledError(PipelineError):
    """A signal from outside has ended DVC or one of its stages: another try goes on from there."""


class GitError(TunelineError):
    """A git command failed in the project's repository."""


class SetupError(TunelineError):
    """The machine lacks a tool, a CPU core, disk space or a permission."""


def one_line(error: BaseException) -> str:
    """The message of a library's error as one line; the name of its class where the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of a library's error that is not empty; the name of its class where the message is empty."""
    lines = str(error).split("\n")
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)


def as_full_disk_error(error: OSError) -> SetupError | None:
    """A SetupError with the remedy if the disk is full or the quota used up, else None."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    path = error.filename or Path.cwd()
    return SetupError(f"{path}: no space left on the disk; free some and run the same command again")


_REFUSED = {
    errno.EACCES: "may not be read or written by this user; change its permissions or its owner",
    errno.EPERM: "may not be changed by this user; change its permissions or its owner",
    errno.EROFS: "is on a read-only file system; mount it writable",
    errno.EIO: "cannot be read or written: the disk reports an error; copy what you can to another disk",
    errno.ENAMETOOLONG: "has a name that is too long for the file system; shorten the name",
    errno.EMFILE: "cannot be opened: this process has too many files open; raise the limit, as with `ulimit -n 4096`",
}


def as_setup_error(error: OSError) -> SetupError | None:
    """A SetupError with the remedy if the disk is full or the system refuses access to a file, else None."""
    if error.errno in _REFUSED and error.filename:
        return SetupError(f"{error.filename}: {_REFUSED[error.errno]}, and run the same command again")
    return as_full_disk_error(error)
