"""Makes text safe to show: control characters cannot steer the terminal, and passwords are masked.

`guard` does both for all output of a process; an error (errors.py) is masked when it is made.
`python -m tuneline.terminal SCRIPT…` runs SCRIPT and masks its output.
"""

import os
import re
import runpy
import sys
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

_JOINERS = "\u200c\u200d"
"""They join or separate letters and emoji, and are harmless."""
MASK = "***"
# scheme://user:password@host, and a token before the host of a web address.
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)([^\s/?#:@'\"<>]*):[^\s/?#@'\"<>]*@")
_TOKEN = re.compile(r"(?i)\b(https?://)[^\s/?#:@'\"<>]+@")
_IN_QUERY = re.compile(
    r"(?i)([?&](?:password|passwd|pwd|token|access_token|api_?key|secret|sig|signature|x-amz-signature|"
    r"x-amz-credential|x-amz-security-token|sslpassword)=)[^\s&#'\"<>]+"
)
# Names of environment variables that hold secrets; PREFECT_HOME and TOKENIZERS_PARALLELISM must not match.
_SECRET = re.compile(r"(^|_)(PASSWORD|PASSWD|TOKEN|AUTH_STRING|API_KEY|SECRET|SECRET_ACCESS_KEY)$")
_URL_OF = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^:/@]*:(.+)@")
_SHORTEST = 6
"""Shorter secrets are not masked, because they would be found inside ordinary words."""
_NO_SECRETS = ("false", "default")
# Paths, addresses and commands are never such long words; names from data may be.
_LONG_WORD = re.compile(r"(?<!\S)(\S{180})\S{301,}(\S{20})")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def visible(text: str) -> str:
    """The text with escapes for the characters that would steer a terminal or reverse the reading order."""
    return "".join(
        character
        if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def masked(text: str) -> str:
    """The text with masked passwords and tokens: those in any address, and those of this process's environment."""
    for secret, mask in _secrets(frozenset(os.environ.items())):
        text = text.replace(secret, mask)
    if "://" in text:
        text = _LOGIN.sub(rf"\1\2:{MASK}@", text)
        text = _TOKEN.sub(rf"\1{MASK}@", text)
        text = _IN_QUERY.sub(rf"\1{MASK}", text)
    return text


@lru_cache(maxsize=4)
def _secrets(environment: frozenset[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The passwords of an environment with their masks, percent-encoded and decoded, the longest first."""
    found = {}
    for name, value in environment:
        given = [value, value.rpartition(":")[2]] if _SECRET.search(name) else []
        if url := _URL_OF.match(value):
            given += [url[1], unquote(url[1])]
            # A password in a database's address may contain a plain @ or /.
            found[f":{url[1]}@"] = f":{MASK}@"
        found |= {secret: MASK for secret in given if len(secret) >= _SHORTEST and secret.lower() not in _NO_SECRETS}
    return tuple(sorted(found.items(), key=lambda pair: (-len(pair[0]), pair[0])))


def safe_text(text: str) -> str:
    """The text masked and with escapes for control characters; it may have several lines."""
    return visible(masked(text))


def safe_line(text: str) -> str:
    """One line: as `safe_text`, with escaped line breaks and shortened words, for names that come from data."""
    short = _LONG_WORD.sub(r"\1…\2", masked(text.strip("\n")))
    return visible(short).replace("\n", "\\n")


def shortened(text: str, most: int = 80) -> str:
    """The text, or its beginning and how much more there is.

    Args:
        text: such as a name or a value from data.
        most: characters that are shown.
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


class _Guarded:
    """A text stream that writes `safe_text`; all other attributes are those of the stream."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self.stream = stream
        self._colours = colours and stream.isatty()

    def write(self, text: str) -> int:
        # A library's progress bar returns to the beginning of its line; here each state gets a new line.
        if text.startswith("\r"):
            text = f"\n{text[1:]}"
        parts = _COLOUR.split(text) if self._colours else [text]
        self.stream.write("".join(part if number % 2 else safe_text(part) for number, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard(*, colours: bool = False) -> None:
    """Make all output of this process safe to show, tracebacks and warnings included.

    Args:
        colours: whether colour codes may reach a terminal.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # None where it was closed before the process began.
        if stream is not None and not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream, colours=colours))


class _Masked(_Guarded):
    """A stream that only masks passwords, for a program that controls the terminal itself."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, colours=False)

    def write(self, text: str) -> int:
        self.stream.write(masked(text))
        return len(text)


def run_masked(script: str, arguments: list[str]) -> None:
    """Run a Python program in this process, with passwords masked in its output.

    Args:
        script: its file.
        arguments: for it.
    """
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None:
            setattr(sys, name, _Masked(stream))
    sys.argv = [script, *arguments]
    # As where Python is given the file itself.
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def unguarded(stream: TextIO) -> TextIO:
    """The original stream, for results such as rows and answers."""
    return stream.stream if isinstance(stream, _Guarded) else stream


if __name__ == "__main__":
    run_masked(sys.argv[1], sys.argv[2:])
