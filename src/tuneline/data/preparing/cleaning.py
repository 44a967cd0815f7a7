"""What is changed in a text before a model sees it, and the key by which two texts are the same.

Text is put into Unicode's normal form C and loses control characters of ASCII, nothing else: the wider form KC would
rewrite most Chinese poems, and C1 control characters may be what is left of other characters, by which they can be
repaired (data/reading/damage.py). Keys, which no model sees, use that wider form.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from tuneline.data.reading import damage

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c]")
# All of C0 but tab and newline, and half characters, which no encoder can write.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_TO_CLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\ud800-\udfff]")
_NEXT_LINE = "\x85"

# For many ASCII texts at once: what stands in none that is clean, and what a key is made of.
_CONTROL_BYTES = bytes(sorted({*range(0x20), 0x7F} - {9, 10}))
_KEY_BYTES = bytes(32 if chr(code).isspace() else ord(chr(code).lower()) if code < 128 else code for code in range(256))


def clean(text: str) -> str:
    """The text in normal form C, with newlines for all line ends and without control characters of ASCII."""
    if _TO_CLEAN.search(text):
        # Among other C1 control characters it is no end of a line, but what is left of another character.
        if _NEXT_LINE in text and not {"mojibake", "control"} & {*damage.kinds(text)}:
            text = text.replace(_NEXT_LINE, "\n")
        text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def key(text: str) -> str:
    """What two texts share that differ only in case, blanks or the width and form of characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def clean_all(texts: Sequence[str]) -> list[str]:
    """As `clean`, of many texts at once."""
    return _ascii_at_once(texts, _clean_ascii, clean)


def keys(texts: Sequence[str]) -> list[str]:
    """As `key`, of many texts at once; they must be clean."""
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
    blank = codes == 32
    # Of several blanks the last stays, and none at either end of a text.
    dropped = blank[1:-1] & (blank[2:] | (codes[2:] == 0))
    if dropped.any():
        codes = codes[np.concatenate([[True], ~dropped, [True]])]
        blank = codes == 32
    leading = blank[1:] & (codes[:-1] == 0)
    if leading.any():
        codes = codes[np.append(True, ~leading)]
    return codes[1:-1].tobytes().decode().split("\0")
