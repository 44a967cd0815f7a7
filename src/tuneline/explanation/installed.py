"""Whether the library of the extra `explain` is installed; this module imports neither it nor torch."""

import importlib.util

from tuneline.errors import SetupError

_EXTRA, _LIBRARY = "explain", "captum"


def check() -> None:
    """Raise SetupError, with the command that installs it, if Captum is not installed."""
    if importlib.util.find_spec(_LIBRARY) is None:
        raise SetupError(
            f"`tuneline explain` needs Captum, which is not installed; install it with: make setup EXTRAS={_EXTRA}"
        )
