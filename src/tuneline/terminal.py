"""What is shown to a person, made harmless: text from data and models steers no terminal, and passwords are masked.

`guard` does both for all that a process prints; an error (errors.py) is one line a problem and masked from the start.
`python -m tuneline.terminal SCRIPT…` becomes SCRIPT, and masks what it prints.
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
"""They join or separate letters and emoji, and steer nothing."""
MASK = "***"
# scheme://user:password@host, and a token before the host of a web address.
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)([^\s/?#:@'\"<>]*):[^\s/?#@'\"<>]*@")
_TOKEN = re.compile(r"(?i)\b(https?://)[^\s/?#:@'\"<>]+@")
_IN_QUERY = re.compile(
    r"(?i)([?&](?:password|passwd|pwd|token|access_token|api_?key|secret|sig|signature|x-amz-signature|"
    r"x-amz-credential|x-amz-security-token|sslpassword)=)[^\s&#'\"<>]+"
)
# As in an environment; PREFECT_HOME or TOKENIZERS_PARALLELISM are no secrets.
_SECRET = re.compile(r"(^|_)(PASSWORD|PASSWD|TOKEN|AUTH_STRING|API_KEY|SECRET|SECRET_ACCESS_KEY)$")
_URL_OF = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^:/@]*:(.+)@")
_SHORTEST = 6
"""A shorter secret would be found in words that are none."""
_NO_SECRETS = ("false", "default")
# No path or address that a person has typed, and no command to paste, is a word so long; names from data may be.
_LONG_WORD = re.compile(r"(?<!\S)(\S{180})\S{301,}(\S{20})")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def visible(text: str) -> str:
    """The text with every character spelt out that would steer a terminal, or turn the reading order around."""
    return "".join(
        character
        if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def masked(text: str) -> str:
    """The text with passwords and tokens masked: of addresses, whosever they are, and of this process's environment."""
    for secret, mask in _secrets(frozenset(os.environ.items())):
        text = text.replace(secret, mask)
    if "://" in text:
        text = _LOGIN.sub(rf"\1\2:{MASK}@", text)
        text = _TOKEN.sub(rf"\1{MASK}@", text)
        text = _IN_QUERY.sub(rf"\1{MASK}", text)
    return text


@lru_cache(maxsize=4)
def _secrets(environment: frozenset[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The passwords that an environment holds, as they are written there and as they are meant, the longest first."""
    found = {}
    for name, value in environment:
        given = [value, value.rpartition(":")[2]] if _SECRET.search(name) else []
        if url := _URL_OF.match(value):
            given += [url[1], unquote(url[1])]
            # A password in a database's address may hold an @ or a / as it is.
            found[f":{url[1]}@"] = f":{MASK}@"
        found |= {secret: MASK for secret in given if len(secret) >= _SHORTEST and secret.lower() not in _NO_SECRETS}
    return tuple(sorted(found.items(), key=lambda pair: (-len(pair[0]), pair[0])))


def safe_text(text: str) -> str:
    """Lines as a person may see them: masked, and without what steers a terminal."""
    return visible(masked(text))


def safe_line(text: str) -> str:
    """One line as a person may see it: as `harmless`, and a name from data can neither begin another line nor fill a
    screen."""
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
    """A stream of text that writes what is harmless; its other ways are those of the stream."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self.stream = stream
        self._colours = colours and stream.isatty()

    def write(self, text: str) -> int:
        # A library's progress bar goes back to the beginning of its line so; here each state of it has a line.
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
    """Let this process print nothing that steers a terminal, and no password: tracebacks and warnings included.

    Args:
        colours: whether a terminal may be told colours, as by a log.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # None where it was closed before the process began.
        if stream is not None and not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream, colours=colours))


class _Masked(_Guarded):
    """A stream that writes all but passwords as it comes, for a program that steers its terminal itself."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, colours=False)

    def write(self, text: str) -> int:
        self.stream.write(masked(text))
        return len(text)


def run_masked(script: str, arguments: list[str]) -> None:
    """Become a program of Python's, which prints no password of its environment and of addresses from then on.

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
    """The stream as it was, for what is asked for and not told: a row, an answer."""
    return stream.stream if isinstance(stream, _Guarded) else stream


if __name__ == "__main__":
    run_masked(sys.argv[1], sys.argv[2:])
