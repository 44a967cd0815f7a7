"""Recall of the screen for secrets, over the types of python-stdnum and detect-secrets, and its false positives.

    python benchmarks/screening.py [--each 50] [--clean FILE…] [--misses] [--hits]

Valid numbers of people and accounts are made from the examples of python-stdnum's modules, by drawing digits and
letters until the module's own check accepts them; keys are made from the patterns of detect-secrets. Each number
appears in four sentences: two that name it as its module does, and two that do not. Phone numbers of eight countries
follow their numbering plans, in the usual notations. The clean text is the docstrings of the installed libraries,
and the files of `--clean`. It prints a table by type, totals, and false positives per megabyte.
"""

import argparse
import ast
import importlib
import random
import re
import string
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tuneline.data.secrets import named_numbers, screening

PEOPLE = [
    "at.vnr", "be.nn", "bg.egn", "bg.pnf", "br.cpf", "ca.sin", "ch.ssn", "cl.rut",
    "cn.ric", "co.nit", "cu.ni", "cz.rc", "de.idnr", "dk.cpr", "do.cedula", "ec.ci",
    "ee.ik", "es.dni", "es.nie", "fi.hetu", "fr.nir", "fr.nif", "gb.nhs", "gr.amka",
    "hr.oib", "id.nik", "ie.pps", "il.idnr", "in_.aadhaar", "in_.pan", "in_.epic", "in_.vid",
    "is_.kennitala", "it.codicefiscale", "jp.in_", "kr.rrn", "lt.asmens", "my.nric", "mx.curp", "mx.rfc",
    "nl.bsn", "no.fodselsnummer", "pe.cui", "pk.cnic", "pl.pesel", "pt.cc", "ro.cnp", "se.personnummer",
    "si.emso", "sk.rc", "th.pin", "tr.tckimlik", "ua.rntrc", "us.ssn", "us.itin", "ve.rif",
    "za.idnr", "au.tfn", "nz.ird",
]  # fmt: skip
"""Modules of python-stdnum for numbers of one person."""

ACCOUNTS = ("iban", "luhn")

NAMED = ("{name} {number}", "My {title} is {number}.")
BARE = ("It is {number}, as I said.", "{number}\nand nothing else")

LIBRARIES = ("numpy", "pandas", "scipy", "sklearn", "networkx")
_TRIES = 200_000


def numbers(module: Any, count: int, draw: random.Random) -> list[str]:
    """Valid numbers, half of them written as the module writes them."""
    examples = re.findall(r">>> \w+\(['\"]([^'\"]+)['\"]", module.__doc__ or "")
    good = [example.upper() for example in examples if example.isascii() and module.is_valid(example)]
    found: list[str] = []
    for _ in range(_TRIES if good else 0):
        if len(found) == count:
            break
        text = "".join([_drawn(char, draw) for char in draw.choice(good)])
        if named_numbers.is_valid(module, text) and len(set(text)) > 4:
            is_formatted = len(found) % 2 and hasattr(module, "format")
            found.append(module.format(text) if is_formatted else text)
    return found


def _drawn(char: str, draw: random.Random) -> str:
    if char.isdigit():
        return draw.choice(string.digits)
    if not char.isalpha() or draw.random() < 0.5:
        return char
    return draw.choice(string.ascii_uppercase if char.isupper() else string.ascii_lowercase)


def cards(count: int, draw: random.Random) -> list[str]:
    """Valid numbers of payment cards, some in groups of four."""
    from stdnum import luhn

    found: list[str] = []
    for at in range(count):
        body = draw.choice(("4", "51", "55", "2221", "6011", "35" + "28")) + "".join(draw.choices(string.digits, k=20))
        number = body[:15]
        number += luhn.calc_check_digit(number)
        found.append(" ".join(number[i : i + 4] for i in range(0, 16, 4)) if at % 2 else number)
    return found


def names(module: Any) -> tuple[str, str]:
    """What a module calls its numbers: its short name, and its title in English."""
    first = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    name, _, title = first.partition("(")
    name = name.split(",")[0].strip().rstrip(".")
    return name, title.partition(")")[0].split(",")[-1].strip() or name


ALPHANUMERIC = string.ascii_letters + string.digits


def keys(draw: random.Random) -> dict[str, Callable[[], str]]:
    """Kind of detect-secrets -> what draws one."""

    def some(size: int, signs: str = ALPHANUMERIC) -> str:
        return "".join(draw.choices(signs, k=size))

    upper, hexadecimal = string.ascii_uppercase + string.digits, "0123456789abcdef"
    return {
        "artifactory": lambda: f"artifactory_token: AKC{some(60)}",
        "aws key id": lambda: f"AKIA{some(16, upper)}",
        "aws secret key": lambda: f'aws_secret_access_key = "{some(40, ALPHANUMERIC + "+/")}"',
        "azure storage": lambda: f"AccountName=x;AccountKey={some(86, ALPHANUMERIC + '+/')}==",
        "basic auth": lambda: f"https://deploy:{some(14)}@git.firm.org/x",
        "cloudant": lambda: f"https://{some(8, string.ascii_lowercase)}:{some(64, hexadecimal)}@acme.cloudant.com",
        "discord bot": lambda: f"{draw.choice('MNO')}{some(23)}.{some(6)}.{some(27)}",
        "github": lambda: f"{draw.choice(('ghp', 'gho', 'ghu', 'ghs', 'ghr'))}_{some(36)}",
        "gitlab": lambda: f"{draw.choice(('glpat', 'gldt', 'glft', 'glrt'))}-{some(20)}",
        "ibm cloud iam": lambda: f'ibm_cloud_iam_api_key = "{some(44, ALPHANUMERIC + "_-")}"',
        "ibm cos hmac": lambda: f'cos_hmac_secret_access_key: "{some(48, hexadecimal)}"',
        "jwt": lambda: f"eyJhbGciOiJIUzI1NiJ9.eyJ{some(24)}.{some(43)}",
        "keyword, drawn value": lambda: (
            f'{draw.choice(("api_key", "password", "secret", "auth_token"))} = "{some(24)}"'
        ),
        "mailchimp": lambda: f"{some(32, hexadecimal)}-us{draw.randrange(1, 20)}",
        "npm": lambda: f"//registry.npmjs.org/:_authToken=npm_{some(36)}",
        "openai": lambda: f"sk-{some(20)}T3BlbkFJ{some(20)}",
        "private key": lambda: (
            f"-----BEGIN RSA PRIVATE KEY-----\n{some(64)}\n{some(64)}\n-----END RSA PRIVATE KEY-----"
        ),
        "pypi": lambda: f"pypi-AgEIcHlwaS5vcmc{some(80)}",
        "sendgrid": lambda: f"SG.{some(22)}.{some(43)}",
        "slack": lambda: f"xoxb-{some(12, string.digits)}-{some(12, string.digits)}-{some(24)}",
        "slack webhook": lambda: f"https://hooks.slack.com/services/T{some(8, upper)}/B{some(8, upper)}/{some(24)}",
        "softlayer": lambda: f'softlayer_api_key: "{some(64, hexadecimal)}"',
        "square": lambda: f"sq0csp-{some(43)}",
        "stripe": lambda: f"sk_live_{some(24)}",
        "telegram": lambda: f"{some(9, '123456789')}:{some(35)}",
        "twilio": lambda: f"{draw.choice(('AC', 'SK'))}{some(32, hexadecimal)}",
    }


def docstrings() -> Iterator[str]:
    """The docstrings of the standard library and of the libraries that are installed."""
    folders = [Path(sysconfig.get_path("stdlib")), *(Path(sysconfig.get_path("purelib"), name) for name in LIBRARIES)]
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            if folder == folders[0] and "site-packages" in file.parts:
                continue
            try:
                tree = ast.parse(file.read_text("utf-8"))
            except (SyntaxError, UnicodeDecodeError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield ast.get_docstring(node) or ""


PHONES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Spain": (
        (
            "6########",
            "6## ### ###",
            "6## ## ## ##",
            "7## ### ###",
            "+34 6## ### ###",
            "+346########",
            "0034 6## ## ## ##",
        ),
        ("Mi móvil es {}.", "Teléfono: {}", "Llámame al {} mañana", "tlf {}"),
    ),
    "France": (
        ("06########", "06 ## ## ## ##", "07.##.##.##.##", "01 ## ## ## ##", "+33 6 ## ## ## ##", "0033 6 ## ## ## ##"),
        ("Mon portable est le {}.", "Tél. : {}", "Appelez le {}", "téléphone {}"),
    ),
    "Germany": (
        (
            "0151########",
            "0170/#######",
            "0176 ########",
            "030 #######",
            "089/########",
            "+49 151 ########",
            "0049 170 #######",
        ),
        ("Meine Handynummer ist {}.", "Tel.: {}", "Telefon {}", "Rufnummer: {}"),
    ),
    "Italy": (
        (
            "34########",
            "34# #######",
            "33# ### ####",
            "06 ########",
            "02-########",
            "+39 34# #######",
            "0039 33########",
        ),
        ("Il mio cellulare è {}.", "Tel. {}", "Chiamami al {}", "telefono: {}"),
    ),
    "United Kingdom": (
        (
            "07#########",
            "07### ######",
            "07### ### ###",
            "020 7### ####",
            "01### ######",
            "+44 7### ######",
            "0044 7### ######",
        ),
        ("My mobile is {}.", "Tel: {}", "Call me on {}", "phone number {}"),
    ),
    "United States": (
        ("213#######", "(4##) 2##-####", "6##-3##-####", "7##.4##.####", "+1 4## 5##-####", "1-5##-6##-####"),
        ("My cell is {}.", "Phone: {}", "Call {} now", "fax {}"),
    ),
    "China": (
        ("138########", "159 #### ####", "186-####-####", "010-6#######", "+86 137 #### ####", "0086 13########"),
        ("我的手机号是{}。", "电话：{}", "请致电{}", "联系电话 {}"),
    ),
    "India": (
        ("98########", "78### #####", "099### #####", "+91 98### #####", "+9197########", "0091 98########"),
        ("My mobile number is {}.", "फ़ोन: {}", "WhatsApp {}", "call me at {}"),
    ),
}
"""Country -> how its numbers are written, with # for a digit, and sentences that name one."""


def phones(each: int, misses: bool) -> None:
    """How many of the phone numbers are found, named and without a word about them."""
    draw = random.Random(1)
    print(f"{'phones':28} {'made':>5} {'named':>7} {'bare':>7}")
    found: Counter[str] = Counter()
    for country, (forms, sentences) in PHONES.items():
        made = ["".join(draw.choice("0123456789") if char == "#" else char for char in form) for form in forms * each]
        shares = []
        for at, templates in enumerate((sentences, BARE)):
            texts = [form.replace("{number}", "{}").format(one) for one in made for form in templates]
            hits = found_in(texts, ("phone",))
            shares.append(sum(hits) / len(hits))
            found.update({f"{('named', 'bare')[at]} hits": sum(hits), f"{('named', 'bare')[at]} made": len(hits)})
            if misses and not all(hits):
                missed = {re.sub(r"\d", "9", text) for text, hit in zip(texts, hits, strict=True) if not hit}
                print("    missed:", *sorted(missed), sep="\n      ")
        print(f"{country:28} {len(made):5} {shares[0]:7.1%} {shares[1]:7.1%}")
    for how in ("named", "bare"):
        hits, made = found[f"{how} hits"], found[f"{how} made"]
        print(f"phones, {how}: {hits:,} of {made:,} found ({hits / made:.1%})")


def found_in(texts: list[str], kinds: tuple[str, ...]) -> list[bool]:
    rows = {found.row for found in screening.screen(texts) if found.kind in kinds}
    return [row in rows for row in range(len(texts))]


def recall(each: int, misses: bool) -> None:
    draw = random.Random(0)
    totals: dict[str, Counter[str]] = {}
    print(f"{'kind':28} {'made':>5} {'named':>7} {'bare':>7}")
    for name in [*PEOPLE, *ACCOUNTS]:
        module = importlib.import_module(f"stdnum.{name}")
        made = cards(each, draw) if name == "luhn" else numbers(module, each, draw)
        short, title = ("card", "credit card number") if name == "luhn" else names(module)
        family = "people" if name in PEOPLE else "accounts"
        kinds = ("id_number", "card")
        shares = []
        for at, templates in enumerate((NAMED, BARE)):
            texts = [form.format(name=short, title=title, number=one) for one in made for form in templates]
            hits = found_in(texts, kinds)
            shares.append(sum(hits) / max(len(hits), 1))
            totals.setdefault(f"{family}, {('named', 'bare')[at]}", Counter()).update(found=sum(hits), made=len(hits))
            if misses and not all(hits):
                print("    missed:", texts[hits.index(False)])
        print(f"{name:28} {len(made):5} {shares[0]:7.1%} {shares[1]:7.1%}")
    for name, drawn in keys(draw).items():
        made = [drawn() for _ in range(each)]
        hits = found_in([f"Use {one} for it." for one in made], ("key",))
        totals.setdefault("keys", Counter()).update(found=sum(hits), made=len(hits))
        print(f"{name:28} {len(made):5} {'':7} {sum(hits) / len(hits):7.1%}")
        if misses and not all(hits):
            print("    missed:", made[hits.index(False)])
    for family, counts in totals.items():
        print(f"{family}: {counts['found']:,} of {counts['made']:,} found ({counts['found'] / counts['made']:.1%})")


def false_positives(name: str, texts: list[str], show: bool) -> None:
    size = sum(len(text.encode()) for text in texts) / 1e6
    counts: Counter[str] = Counter()
    for start in range(0, len(texts), 1000):
        batch = texts[start : start + 1000]
        for found in screening.screen(batch):
            counts[found.kind] += found.count
            if show:
                masked = screening.shown(batch[found.row], found.kind)
                at = batch[found.row].find(masked.partition("…")[0])
                print(f"    {found.kind} {masked}: {batch[found.row][max(at - 40, 0) : at + 60]!r}")
    said = ", ".join(f"{kind} {count}" for kind, count in counts.items()) or "none"
    print(f"{name}: {size:.1f} MB, {len(texts):,} texts: {said} ({counts.total() / size:.2f} per MB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=50, help="values of each kind")
    parser.add_argument("--clean", type=Path, nargs="*", default=[], help="files of clean text, one text per line")
    parser.add_argument("--misses", action="store_true", help="print one miss of each kind")
    parser.add_argument("--hits", action="store_true", help="print what is found in clean text")
    given = parser.parse_args()
    recall(given.each, given.misses)
    phones(given.each, given.misses)
    false_positives("docstrings", list(docstrings()), given.hits)
    for file in given.clean:
        false_positives(file.name, file.read_text("utf-8").splitlines(), given.hits)


if __name__ == "__main__":
    sys.exit(main())
