"""What is changed in a text before a model sees it, and the key by which two texts are the same.

Text is put into Unicode's normal form C and loses control characters, nothing else: the wider form KC would rewrite
most Chinese poems. Keys, which no model sees, use that wider form.
"""

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85]")
# All of C0 and C1 but tab and newline, and half characters, which no encoder can write.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TO_CLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """The text in normal form C, with newlines for all line ends and without control characters."""
    if _TO_CLEAN.search(text):
        text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def key(text: str) -> str:
    """What two texts share that differ only in case, blanks or the width and form of characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
