"""Cleans the texts that a model sees, and makes the keys by which texts are compared.

Cleaning puts text into Unicode's normal form C and removes the control characters of ASCII. It does not use form KC,
which would rewrite most Chinese poems, and keeps C1 control characters: they may be the remains of other characters,
which data/reading/guards/damage.py can repair. Keys, which no model sees, use form KC.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from tuneline.data.reading.guards import damage

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c]")
# C0 except tab and newline, and lone surrogates, which no encoder can write.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_TO_CLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\ud800-\udfff]")
_NEXT_LINE = "\x85"

# For many ASCII texts at once: bytes that a clean text does not have, and the bytes of keys.
_CONTROL_BYTES = bytes(sorted({*range(0x20), 0x7F} - {9, 10}))
_KEY_BYTES = bytes(32 if chr(code).isspace() else ord(chr(code).lower()) if code < 128 else code for code in range(256))


# Punctuation that distinguishes short texts.
_MEANT = "#%&*/@\\"
_SIGNS = "-."
_SIGN_BYTES = np.frombuffer(_SIGNS.encode(), np.uint8)
_DROPPED_BYTES = np.array(
    [0 < code < 128 and unicodedata.category(chr(code))[0] in "PZC" and chr(code) not in _MEANT for code in range(256)]
)


class _Marks(dict[int, int]):
    """Code point -> itself, or 0 for punctuation, spaces and invisible characters. Is filled on demand."""

    def __missing__(self, code: int) -> int:
        is_dropped = unicodedata.category(chr(code))[0] in "PZC" and chr(code) not in _MEANT
        self[code] = found = 0 if is_dropped else code
        return found


_MARKS = _Marks()
_MARKED = re.compile("\0+")


def clean(text: str) -> str:
    """Return the text in normal form C, with newlines as line ends and without control characters of ASCII."""
    if _TO_CLEAN.search(text):
        # Next to other C1 control characters it is not a line end, but the remains of another character.
        if _NEXT_LINE in text and not {"mojibake", "control"} & {*damage.find_kinds(text)}:
            text = text.replace(_NEXT_LINE, "\n")
        text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def key(text: str) -> str:
    """Return a key that is equal for texts that differ only in case, spaces, or the width and form of characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def bare(text: str) -> str:
    """Return a key that is equal for short texts that differ only in punctuation or spaces, too.

    Punctuation stays between two digits, and as a sign or a point before a number: `-1.5` is neither `1.5` nor `-15`.
    Signs with a meaning stay: `C#` is not `C`. Emoji stay, as they are not punctuation. A text of punctuation alone
    stays as it is.

    Args:
        text: from `key`.
    """
    marked = text.translate(_MARKS)
    return text if marked == text else _MARKED.sub(lambda run: _kept(run, text), marked) or text


def bares(texts: Sequence[str]) -> list[str]:
    """Return `bare` of many texts at once."""
    return _ascii_at_once(texts, _ascii_bares, bare)


def _kept(run: re.Match[str], text: str) -> str:
    """Return what stays of a run of punctuation in a text."""
    before, after = text[: run.start()][-1:], text[run.end() : run.end() + 1]
    if not after.isdecimal():
        return ""
    if before.isdecimal():
        return text[run.start() : run.end()]
    last = text[run.end() - 1]
    return last if last in _SIGNS and (len(run[0]) > 1 or not before) else ""


def _ascii_bares(texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    codes = np.frombuffer(("\0" + "\0".join(texts) + "\0").encode(), np.uint8)
    dropped = _DROPPED_BYTES[codes]
    if dropped.any():
        starts = np.flatnonzero(dropped & ~np.append(False, dropped[:-1]))
        lasts = np.flatnonzero(dropped & ~np.append(dropped[1:], False))
        before, last, after = codes[starts - 1], codes[lasts], codes[lasts + 1]
        is_number = (after >= 48) & (after <= 57)
        inside = is_number & (before >= 48) & (before <= 57)
        signed = is_number & ~inside & np.isin(last, _SIGN_BYTES) & ((lasts > starts) | (before == 0))
        left = ~dropped
        left[lasts[signed]] = True
        lengths = (lasts - starts + 1)[inside]
        left[np.repeat(starts[inside] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())] = True
        codes = codes[left]
    found = codes[1:-1].tobytes().decode().split("\0")
    return [bare_text or text for bare_text, text in zip(found, texts, strict=True)]


def clean_all(texts: Sequence[str]) -> list[str]:
    """Return `clean` of many texts at once."""
    return _ascii_at_once(texts, _clean_ascii, clean)


def keys(texts: Sequence[str]) -> list[str]:
    """Return `key` of many clean texts at once."""
    return _ascii_at_once(texts, _ascii_keys, key)


def _ascii_at_once(
    texts: Sequence[str], together: Callable[[Sequence[str]], list[str]], single: Callable[[str], str]
) -> list[str]:
    plain = [text for text in texts if text.isascii()]
    if len(plain) == len(texts):
        return together(texts)
    done = iter(together(plain))
    return [next(done) if text.isascii() else single(text) for text in texts]


def _clean_ascii(texts: Sequence[str]) -> list[str]:
    joined = "".join(texts).encode()
    if len(joined.translate(None, _CONTROL_BYTES)) == len(joined):
        return list(texts)
    return list(map(clean, texts))


def _ascii_keys(texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    codes = np.frombuffer(("\0" + "\0".join(texts) + "\0").encode().translate(_KEY_BYTES), np.uint8)
    is_space = codes == 32
    # Of several spaces the last stays, and no space at either end of a text.
    dropped = is_space[1:-1] & (is_space[2:] | (codes[2:] == 0))
    if dropped.any():
        codes = codes[np.concatenate([[True], ~dropped, [True]])]
        is_space = codes == 32
    leading = is_space[1:] & (codes[:-1] == 0)
    if leading.any():
        codes = codes[np.append(True, ~leading)]
    return codes[1:-1].tobytes().decode().split("\0")
