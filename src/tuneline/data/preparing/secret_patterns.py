"""What secrets and personal data look like, in UTF-8 with plain digits; each function judges one place of a text."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Literal

from stdnum import luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.es import dni
from stdnum.exceptions import ValidationError
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.kr import rrn
from stdnum.se import personnummer
from stdnum.us import ssn

Place = tuple[Literal["email", "phone", "id_number", "card", "key"], int, int]
"""Kind, first byte, byte after the last."""

# Keys and tokens begin as their makers document.
SHORTEST_TOKEN = 20
"""Characters of [A-Za-z0-9_-] without a break that every token holds."""

PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[^\0-]{0,20000}-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_TOKEN = re.compile(
    rb"(?<![A-Za-z0-9])(?:"
    rb"(?P<cloud>(?:AKIA|ASIA)[A-Z0-9]{16}|LTAI[A-Za-z0-9]{16,22}|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28})"
    rb"|(?P<code>gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36}"
    rb"|pypi-AgEI[A-Za-z0-9_-]{50,}|hf_[A-Za-z0-9]{34,})"
    rb"|(?P<service>xox[abeoprs]-[A-Za-z0-9-]{20,}|[sr]k_(?:live|test)_[A-Za-z0-9]{20,})"
    rb"|(?P<model>sk-[A-Za-z0-9_-]{20,})"
    rb"|(?P<jwt>eyJ[A-Za-z0-9_-]{17,})"
    rb")(?![A-Za-z0-9])"
)
_JWT = re.compile(rb"([A-Za-z0-9_-]+)\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{16,1024}")
_FEWEST_CHARACTERS = 8
_MIXED = re.compile(rb"(?=[A-Za-z0-9]*[0-9][A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{16,}")


def tokens(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The tokens within a run of a token's characters.

    Args:
        data: the text.
        start: of the run.
        stop: of the run; a web token goes on behind it.
    """
    for match in _TOKEN.finditer(data, start, stop):
        if match["jwt"]:
            whole = _JWT.match(data, match.start())
            if whole and _is_header(whole[1]):
                yield whole.span()
        elif not _is_placeholder(match.group(), bool(match["model"])):
            yield match.span()


def _is_placeholder(token: bytes, is_model: bool) -> bool:
    """Whether it stands for a token, as in documentation: sk-xxxxxxxx…, AKIAIOSFODNN7EXAMPLE."""
    if b"EXAMPLE" in token.upper() or len(set(token[4:])) < _FEWEST_CHARACTERS:
        return True
    return is_model and not _MIXED.search(token, 3)


def _is_header(head: bytes) -> bool:
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return False


_BEFORE, _AFTER = 128, 256
_PASSWORD = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>\0]{0,64}:([^\s/@\"'<>\0]{3,100})\Z")
_HOST = re.compile(rb"\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_LOCAL_PART = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}\Z")
_PLACEHOLDERS = re.compile(
    rb"(?i)(?:my|your|the|db|user|some)?[_-]?(?:pass(?:wd|word|wort)?|pwd?|pw|secret|token|key|x+|\*+|\.+)"
    rb"|[\${%\[(].*|.*[}\])%]|port|changeme|foo|bar|baz"
)
# RFC 2606 and 6761: names that are nobody's.
_NOBODY = re.compile(
    rb"(?i)(?:.*\.)?(?:example|test|invalid|localhost|local)|(?:.*\.)?example\.(?:com|net|org|edu|cn|com\.cn)"
    rb"|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\]"
)
_TOP_LEVEL = frozenset(
    b"com net org edu gov mil int info biz name pro mobi asia cat jobs tel travel museum aero coop post xxx arpa app "
    b"dev online site website xyz top club shop store tech email live vip wang ren work cloud space fun ink ltd group "
    b"link world today life news blog page agency company center solutions systems network digital studio design media "
    b"academy university institute science social team zone berlin london paris nyc tokyo eus scot".split()
)
# Two letters are a country, but these are endings of files that stand behind an @ (icon@2x.js) and no country.
_NO_COUNTRY = frozenset(b"js ts cc7 qq db xs fn dt df".split())


def address(data: bytes, place: int) -> Place | None:
    """What stands around an @: an email, or a password in an address.

    Args:
        data: the text.
        place: of the @.
    """
    host = _HOST.match(data, place + 1, place + 1 + _AFTER)
    if not host or _NOBODY.fullmatch(host.group()):
        return None
    before = data[max(place - _BEFORE, 0) : place]
    password = _PASSWORD.search(before) if b"://" in before else None
    if password:
        start = place - len(before) + password.start(1)
        return None if _PLACEHOLDERS.fullmatch(password[1]) else ("key", start, place)
    local = _LOCAL_PART.search(before)
    # A name behind :// is that of a server's user: ssh://deploy@host.org.
    if not local or before[: local.start()].endswith(b"://"):
        return None
    name, labels = local.group(), host.group().split(b".")
    top = labels[-1].lower()
    is_country = len(top) == 2 and top.isalpha() and top not in _NO_COUNTRY
    if len(labels) < 2 or not all(labels) or not (is_country or top in _TOP_LEVEL):
        return None
    # Numbers and dots before the @ are the number of a message, unless they are few, as at qq.com.
    if name == b"git" or b".." in name or name.endswith(b".") or (len(name) > 15 and not re.search(rb"[A-Za-z]", name)):
        return None
    return "email", place - len(name), host.end()


DIGIT_RUN = re.compile(rb"0(?:[ ()-]{0,2}0){7,}+")
"""Eight digits or more, each 0 here, with at most two signs between any two."""

DOTTED = re.compile(rb"000\.000[.-]000")
"""The beginning of what is written with dots."""

_NO_BEGINNING = frozenset(b"._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ALONE = rb"(?<![\w.+$#/-])(?<!\d )"
_ENDS = rb"(?![\w]|[.,:/]\d|-\w)"

_IDS = re.compile(
    _ALONE + rb"(?:(?P<cn>[1-9]\d{16}[\dXx])|(?P<us>\d{3}-\d\d-\d{4})|(?P<br>\d{3}\.\d{3}\.\d{3}-\d\d)"
    rb"|(?P<kr>\d\d[01]\d[0-3]\d-[1-8]\d{6})|(?P<se>(?:19|20)?\d\d[01]\d[0-3]\d-\d{4})"
    rb"|(?P<fi>[0-3]\d[01]\d{3}[-+A][0-9]{3}[0-9A-Y])|(?P<fr>[12]\d\d[01]\d(?:\d\d|2[AB])\d{8})|(?P<es>\d{8}[A-Z]))"
    + _ENDS
)
_CHECKS = {"cn": ric, "us": ssn, "br": cpf, "kr": rrn, "se": personnummer, "fi": hetu, "fr": nir, "es": dni}
_DATE = re.compile(rb"(?:19|20)\d\d[01]\d[0-3]\d|[0-3]\d[01]\d(?:19|20)\d\d")

_CARDS = re.compile(
    _ALONE + rb"(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|64[4-9]\d|65\d\d|35[2-8]\d|62\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}"
    rb"|3[47]\d\d([ -]?)\d{6}\2\d{5}|3(?:0[0-5]|[68]\d)\d([ -]?)\d{6}\3\d{4}|62\d{15,17})" + _ENDS + rb"(?! \d)"
)

_COUNTRY = (
    rb"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    rb"|2(?:1[12368]|[2346]\d|5[0-8]|9[0178])|3[578]\d|42[013]|50\d|59\d|6[78]\d|69[0-2]|8(?:00|[578]\d)|9[679]\d)"
)
_PHONES = re.compile(
    # China, with or without the country: mobile, then landline with a sign behind the area code.
    rb"(?:(?<![\w.+$#/-])|(?<=\+)|(?<=[^\w]00))(?:86[ -]?)?1[3-9]\d(?:\d{8}|([ -])\d{4}\1\d{4})"
    + _ENDS
    + rb"(?! \d{4}\b)"
    rb"|(?<![\w.+$#/-])(?:\(0(?:10|2[0-57-9]|[3-9]\d\d)\) ?|0(?:10|2[0-57-9]|[3-9]\d\d)[ -])[2-8]\d{6,7}"
    + _ENDS
    + rb"(?![ ]\d)"
    # With a country code: eight to fifteen digits in groups, or ten and more without.
    rb"|(?<![\w.+])\+"
    + _COUNTRY
    + rb"(?:\d{7,12}|(?:[ -]\(?\d{1,4}\)?|\(\d{1,4}\))(?:[ -]?\d{2,8}){1,6})"
    + _ENDS
    +
    # North America: area code and exchange begin with 2 to 9.
    rb"|(?<![\w.+$#/])(?<!\d[ -])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d([ .-]))[2-9]\d\d(?(2)\2|-)\d{4}"
    + _ENDS
    + rb"(?! \d)"
)
_FEWEST_DIGITS, _MOST_DIGITS, _FEWEST_WITHOUT_SIGNS = 8, 15, 10
_FICTION = re.compile(rb"555[ .-]?01\d\d\Z")
"""Numbers that North America keeps for films and books."""


def numbers(data: bytes, start: int, stop: int) -> Iterator[Place]:
    """What a run of digits holds, the surest kind first.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    if start and data[start - 1] in _NO_BEGINNING and data[start:stop].isdigit():
        return  # decimals, and numbers within names
    first, last = max(start - 3, 0), min(stop + 8, len(data))
    for match in _IDS.finditer(data, first, last):
        if match.lastgroup and _is_id(match.lastgroup, match.group()):
            yield "id_number", *match.span()
    for match in _CARDS.finditer(data, first, last):
        if luhn.is_valid(re.sub(rb"\D", b"", match.group()).decode()):
            yield "card", *match.span()
    for match in _PHONES.finditer(data, first, last):
        number = match.group()
        digits = re.sub(rb"\D", b"", number)
        fewest = _FEWEST_WITHOUT_SIGNS if number[1:].isdigit() else _FEWEST_DIGITS
        if fewest <= len(digits) <= _MOST_DIGITS and not _FICTION.search(number) and len(set(digits)) > 2:
            yield "phone", *match.span()


def _is_id(country: str, number: bytes) -> bool:
    # Eight digits and a letter are also the beginning of a time: 20240131T.
    if country == "es" and _DATE.match(number):
        return False
    try:
        return bool(_CHECKS[country].validate(number.decode()))
    except ValidationError:
        return False
