"""The login of this project's Prefect server: made once, in a file that only its owner can read.

Without a login, Prefect's API, which can run commands, answers everyone who reaches its port, web pages included.
"""

import os
import secrets
import tomllib
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from tuneline import processes
from tuneline.errors import SetupError
from tuneline.work import WORK

FILE = WORK / "prefect.login"
"""`user:password`, relative to the project's root; `make ui` names it."""
_SERVER = "PREFECT_SERVER_API_AUTH_STRING"
_CLIENT = "PREFECT_API_AUTH_STRING"
_URL = "PREFECT_API_URL"
_PATIENCE = 10.0


def missing_settings(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The login for a server and for clients that are started here.

    Args:
        root: of the project.
        environment: with the env file's values.

    Returns:
        The variables that are not set yet. Clients of a server on another machine get no login: this project's login
        is only for servers on this machine.
    """
    if _SERVER in environment and _CLIENT in environment:
        return {}
    own = environment.get(_SERVER) or _string(root / FILE)
    found = {_SERVER: own}
    if is_local(server_address(root, environment)):
        found[_CLIENT] = own
    return {name: value for name, value in found.items() if name not in environment}


def is_local(address: str | None) -> bool:
    """Whether a server's address is on this machine; without an address, a temporary server starts here."""
    try:
        host = (urlsplit(address).hostname or "") if address else "localhost"
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def server_address(root: Path, environment: Mapping[str, str]) -> str | None:
    """The address of the Prefect server that is set for this project, in any place that Prefect reads; or None.

    Args:
        root: of the project.
        environment: with the env file's values.
    """
    for source in (environment, dotenv_values(root / ".env")):
        if url := source.get(_URL):
            return url
    for name, keys in (("prefect.toml", ()), ("pyproject.toml", ("tool", "prefect"))):
        if url := _under(_toml(root / name), *keys, "api", "url"):
            return str(url)
    profiles = _toml(
        Path(environment.get("PREFECT_PROFILES_PATH") or f"{environment.get('PREFECT_HOME')}/profiles.toml")
    )
    name = str(environment.get("PREFECT_PROFILE") or profiles.get("active"))
    url = _under(profiles, "profiles", name, _URL)
    return str(url) if url else None


def check_login(address: str, environment: Mapping[str, str]) -> None:
    """Check that a server accepts the login.

    Args:
        address: of its API.
        environment: with the login, if there is any.

    Raises:
        SetupError: it refuses the login, or accepts connections but does not answer. A server that does not run is
            not an error here: the caller finds out.
    """
    if environment.get("PREFECT_API_KEY"):
        return
    request = urllib.request.Request(f"{address.rstrip('/')}/admin/version")
    if login := environment.get(_CLIENT):
        request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            return
    except urllib.error.HTTPError as error:
        if error.code != 401:
            return
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise SetupError(
                f"Prefect at {address} accepts connections but does not answer: stop it and start it again, then run "
                "the same command again"
            ) from None
        return
    if is_local(address):
        remedy = (
            f"another project may have started it, or {FILE} is newer than it; stop it, and start it with: tuneline ui"
        )
    else:
        remedy = f"set its own: tuneline exec -- prefect config set {_CLIENT}=user:password"
    raise SetupError(f"Prefect at {address} refuses the login of this project: {remedy}")


def _string(file: Path) -> str:
    """The login in the file; a missing file is made, also if two processes do so at once."""
    if not file.is_file():
        with processes.exclusive(file.with_suffix(".lock"), "the making of Prefect's login", wait=True):
            if not file.is_file():
                _make(file)
    if file.stat().st_mode & 0o077:
        # A copy of the project has lost the mode.
        file.chmod(0o600)
    login = file.read_text("utf-8", errors="replace").strip()
    user, _, password = login.partition(":")
    # With an empty login a server would let everyone in.
    if not (user and password and login.isascii() and login.isprintable()) or " " in login:
        raise SetupError(
            f"{file}: does not hold a login as `user:password`; delete it, and the same command makes a new one; a "
            "server that is running must be started again"
        )
    return login


def _make(file: Path) -> None:
    beside = file.with_name(f".{file.name}.partial")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
        opened.write(f"tuneline:{secrets.token_urlsafe(24)}\n")
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        # Prefect itself reports what is wrong with the file.
        return {}


def _under(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
