"""Files that are neither text nor tables, detected by their first bytes; each with its remedy."""

import pickletools
import re

_PICKLE = "is a pickle (as torch, joblib and pandas save), which is never loaded: export it as JSON lines"
_ARRAY = "is a numpy array: export it as JSON lines"
_IMAGE = "is an image: give its text"
_SOUND = "is sound or video: give its transcript"
_PROGRAM = "is a program, which holds no rows; remove it"

_MAGIC = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the data: run `git lfs pull`"),
    (b"BZh", "is bzip2: unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "is xz: unpack it with `unxz`"),
    (b"7z\xbc\xaf\x27\x1c", "is 7-Zip: unpack it with `7z x`"),
    (b"Rar!\x1a\x07", "is RAR: unpack it with `unrar x`"),
    (b"\x04\x22\x4d\x18", "is lz4: unpack it with `unlz4`"),
    (b"\x1f\x9d", "is a file of `compress`: unpack it with `uncompress`"),
    (b"PK\x05\x06", "is a zip archive without members: pack it again"),
    (b"\x93NUMPY", _ARRAY),
    (b"\x89HDF\r\n", "is HDF5: export it as Parquet"),
    (b"FEA1", "is an old Feather file: save it as Parquet"),
    (b"ORC", "is ORC: export it as Parquet"),
    (b"Obj\x01", "is Avro: export it as Parquet"),
    (b"GGUF", "is a GGUF model, not data; remove it"),
    (b"%PDF-", "is a PDF: extract its text with `pdftotext`"),
    (b"%!PS", "is PostScript: extract its text with `ps2ascii`"),
    (b"{\\rtf", "is RTF: save it as plain text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Office document: save it as CSV or plain text"),
    (b"SQLite format 3\x00", "is a SQLite database: export a table with `sqlite3 -header -csv FILE 'select …'`"),
    (b"\x89PNG", _IMAGE),
    (b"\xff\xd8\xff", _IMAGE),
    (b"GIF8", _IMAGE),
    (b"II*\0", _IMAGE),
    (b"MM\0*", _IMAGE),
    (b"ID3", _SOUND),
    (b"OggS", _SOUND),
    (b"fLaC", _SOUND),
    (b"\x7fELF", _PROGRAM),
    (b"\0asm", _PROGRAM),
    (b"\xca\xfe\xba\xbe", _PROGRAM),
    (b"\xcf\xfa\xed\xfe", _PROGRAM),
)
# Their first letters may also start a text, so more bytes must match.
_PATTERNS = (
    (re.compile(rb"\x80[\x02-\x05].", re.DOTALL), _PICKLE),
    (
        re.compile(rb"\x78[\x01\x9c\xda][^\x20-\x7e]", re.DOTALL),
        "is zlib data, as joblib saves pickles, which are never loaded: export it as JSON lines",
    ),
    (re.compile(rb"MZ.{0,60}\0", re.DOTALL), _PROGRAM),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), _IMAGE),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _IMAGE),
    (re.compile(rb"RIFF.{4}(?:WAVE|AVI )", re.DOTALL), _SOUND),
    (re.compile(rb".{4}ftyp", re.DOTALL), _SOUND),
    (
        re.compile(rb".{4}\0{4}\{\"", re.DOTALL),
        "is a model's weights (safetensors), not data; remove it",
    ),
    (
        re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE),
        "is an HTML page, as servers send instead of the data: download it again",
    ),
)
_TEXT_PICKLE = re.compile(rb"[(c\])}lLIVSNdai]")

# The format of a text that has no rows, and how to make rows of it.
_YAML = ("YAML", "make JSON of it with `yq -o json`")
_GETTEXT = ("a gettext catalogue (.po)", "make CSV of it with `po2csv`")
_XML = ("XML", "export its rows as JSON lines")
_MAIL = ("a mail", "export the bodies as JSON lines")
_MAILBOX = ("a mailbox (mbox)", "split it into mails, or export the bodies as JSON lines")
_REMEDY_OF_TEXTS = "put its parts into JSON lines"
_SOURCE_CODE = ("source code, whose lines are not rows", _REMEDY_OF_TEXTS)

_HEADER = rb"(?:Received|From|To|Cc|Subject|Date|Message-ID|MIME-Version|Return-Path|Delivered-To|Reply-To|X-[\w-]+)"
_DOCUMENTS = (
    (re.compile(rb"From \S+.*\r?\n[\w-]+: ", re.IGNORECASE), _MAILBOX),
    (re.compile(rb"(?:" + _HEADER + rb": .*\r?\n(?:[ \t].*\r?\n)*){3}", re.IGNORECASE), _MAIL),
    (re.compile(rb"\s*<(?:\?xml|!DOCTYPE|svg\b)", re.IGNORECASE), _XML),
    (re.compile(rb"%YAML |---\s*\r?\n(?:#.*\r?\n)*(?:- |[\w\"'-]+:(?: |\r?\n))"), _YAML),
    (re.compile(rb"(?:#.*\r?\n|\s)*msgid \"(?:.*\r?\n)+?msgstr\b"), _GETTEXT),
    (re.compile(rb"#!\s*/"), ("a script", _REMEDY_OF_TEXTS)),
)
_DOCUMENT_SUFFIXES = {
    ".yaml": _YAML,
    ".yml": _YAML,
    ".po": _GETTEXT,
    ".xml": _XML,
    ".eml": _MAIL,
    ".md": ("Markdown, whose lines are not rows", _REMEDY_OF_TEXTS),
    ".rst": ("reStructuredText, whose lines are not rows", _REMEDY_OF_TEXTS),
    ".tex": ("TeX, whose lines are not rows", _REMEDY_OF_TEXTS),
} | dict.fromkeys(
    (".py", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".sh", ".css", ".sql", ".ipynb"),
    _SOURCE_CODE,
)


def find_refusal(head: bytes, is_whole: bool) -> str:
    """The reason why a file cannot be read, and the remedy; empty if its first bytes are of no known binary format.

    Args:
        head: its first bytes.
        is_whole: whether they are the whole file.
    """
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    for pattern, what in _PATTERNS:
        if pattern.match(head):
            return what
    if is_whole and head.endswith(b".") and _TEXT_PICKLE.match(head) and _is_pickle(head):
        return _PICKLE
    return ""


def _is_pickle(data: bytes) -> bool:
    """Whether the data are a pickle of protocol 0 or 1; its instructions are listed, not executed."""
    try:
        *_, (last, _, position) = pickletools.genops(data)
    except (ValueError, IndexError, UnicodeError, OverflowError):
        return False
    return last.name == "STOP" and position == len(data) - 1


def find_document(head: bytes, suffix: str) -> tuple[str, str]:
    """The format of a text that has no rows, such as YAML, and how to make rows of it; ("", "") for other texts.

    Args:
        head: its first bytes.
        suffix: of the file's name, with its dot, in lower case.
    """
    if suffix in _DOCUMENT_SUFFIXES:
        return _DOCUMENT_SUFFIXES[suffix]
    start = head[:65_536]
    return next((found for pattern, found in _DOCUMENTS if pattern.match(start)), ("", ""))
