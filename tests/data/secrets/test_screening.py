"""What is a secret, what only looks like a secret, and masks."""

import time

import pytest

from tuneline.data.secrets.screening import KINDS, Found, Kind, mask, screen

# Put together here, so that no scanner of repositories takes them for real ones.
MIXED = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3xf\n-----END RSA " + "PRIVATE KEY-----"

SECRETS: list[tuple[Kind, str, str]] = [
    ("email", "write to jane.doe+news@mail.server.org, please", "jane.doe+news@mail.server.org"),
    ("email", "联系邮箱zhang_san88@qq.com谢谢", "zhang_san88@qq.com"),
    ("email", "<12345678@163.com>", "12345678@163.com"),
    ("email", "John@Company.CO.UK.", "John@Company.CO.UK"),
    ("email", "me＠uni-bonn.de", "me＠uni-bonn.de"),
    ("phone", "电话：13812345678，谢谢", "13812345678"),
    ("phone", "手机 138 1234 5678", "138 1234 5678"),
    ("phone", "call +86 138-1234-5678 now", "+86 138-1234-5678"),
    ("phone", "+8613912345678", "+8613912345678"),
    ("phone", "固话010-62345678。", "010-62345678"),
    ("phone", "（0755）2345678", "（0755）2345678"),
    ("phone", "１３９１２３４５６７８", "１３９１２３４５６７８"),
    ("phone", "+44 20 7946 0958", "+44 20 7946 0958"),
    ("phone", "+4915112345678.", "+4915112345678"),
    ("phone", "+33 6 12 34 56 78", "+33 6 12 34 56 78"),
    ("phone", "(415) 867-5309", "(415) 867-5309"),
    ("phone", "1-415-867-5309", "1-415-867-5309"),
    ("phone", "415.867.5309 is hers", "415.867.5309"),
    ("phone", "Mi móvil es 612345678, gracias", "612345678"),
    ("phone", "Teléfono: 712 345 678", "712 345 678"),
    ("phone", "llámame al 612 34 56 78.", "612 34 56 78"),
    ("phone", "+34 612 345 678", "+34 612 345 678"),
    ("phone", "(0034 612345678)", "0034 612345678"),
    ("phone", "mon portable : 06 12 34 56 78", "06 12 34 56 78"),
    ("phone", "06.12.34.56.78 le soir", "06.12.34.56.78"),
    ("phone", "Handy 0151/23456789", "0151/23456789"),
    ("phone", "cellulare: 347 1234567", "347 1234567"),
    ("phone", "ring 07700 900123 today", "07700 900123"),
    ("phone", "call me at 9876543210", "9876543210"),
    ("phone", "फ़ोन: 98765 43210", "98765 43210"),
    ("phone", "Tel.612345678", "612345678"),
    ("id_number", "身份证11010519491231002X", "11010519491231002X"),
    ("id_number", "SSN 536-90-4399.", "536-90-4399"),
    ("id_number", "CPF: 390.533.447-05", "390.533.447-05"),
    ("id_number", "97.08.13: 970813-1234-no, 131052-308T", "131052-308T"),
    ("id_number", "DNI 54362315K", "54362315K"),
    ("id_number", "AHV 756.9217.0769.85", "756.9217.0769.85"),
    ("id_number", "numéro national: 85.07.30-033.28", "85.07.30-033.28"),
    ("id_number", "rodné číslo 710319/2745", "710319/2745"),
    ("id_number", "Mi cédula es 001-1391820-5.", "001-1391820-5"),
    ("id_number", "ITIN 912-90-3456", "912-90-3456"),
    ("id_number", "codice fiscale RCCMNL83S18D969H", "RCCMNL83S18D969H"),
    ("id_number", "(RCCMNL83S18D969H)", "RCCMNL83S18D969H"),
    ("id_number", "NIE X-2482300-W", "X-2482300-W"),
    ("id_number", "CURP BOXW310820HNERXN09,", "BOXW310820HNERXN09"),
    ("id_number", "HETU 131052A308T", "131052A308T"),
    ("id_number", "PESEL: 44051401359", "44051401359"),
    ("id_number", "my BSN is 123456782", "123456782"),
    ("id_number", "NHS number 943 476 5870", "943 476 5870"),
    ("id_number", "Aadhaar no. 2341 2341 2346", "2341 2341 2346"),
    ("id_number", "PAN: ACUPA7085R", "ACUPA7085R"),
    ("id_number", "ЕГН 7523169263", "7523169263"),
    ("id_number", "マイナンバーは6214 9832 0257です", "6214 9832 0257"),
    ("id_number", "Her national identity number is 7503305044089.", "7503305044089"),
    ("id_number", "SSN 536904399", "536904399"),
    ("card", "IBAN: DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00"),
    ("card", "pay to NL91ABNA0417164300 today", "NL91ABNA0417164300"),
    ("card", "4111 1111 1111 1111", "4111 1111 1111 1111"),
    ("card", "pay with 5555-5555-5555-4444, now", "5555-5555-5555-4444"),
    ("card", "卡号6222020200112233446", "6222020200112233446"),
    ("card", "amex 378282246310005", "378282246310005"),
    ("key", PEM, PEM),
    ("key", "aws_access_key_id = AKIA" + "Q3EGUVXBN7RLDT5M", "AKIA" + "Q3EGUVXBN7RLDT5M"),
    ("key", f"token: ghp_{MIXED[:36]}", f"ghp_{MIXED[:36]}"),
    ("key", f"export HF_TOKEN=hf_{MIXED[:34]}", f"hf_{MIXED[:34]}"),
    ("key", f'key="sk-proj-{MIXED}"', f"sk-proj-{MIXED}"),
    ("key", "sk-" + "0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b", "sk-" + "0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b"),
    ("key", f"AIza{MIXED[:35]}", f"AIza{MIXED[:35]}"),
    ("key", "xoxb-" + f"123456789012-{MIXED[:24]}", "xoxb-" + f"123456789012-{MIXED[:24]}"),
    ("key", f"Authorization: Bearer {JWT}", JWT),
    ("key", f"SG.{MIXED[:22]}." + f"{MIXED}x9Y", f"SG.{MIXED[:22]}." + f"{MIXED}x9Y"),
    ("key", "key 0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b" + "-us13", "0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b" + "-us13"),
    ("key", f"AWS_SECRET_ACCESS_KEY={MIXED[:20]}/{MIXED[20:39]}", f"{MIXED[:20]}/{MIXED[20:39]}"),
    ("key", f'"api_key": "{MIXED[:24]}"', MIXED[:24]),
    ("key", "softlayer_api_key: '0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b'", "0f3c9a7be1d24c5f8a6b7c8d9e0f1a2b"),
    ("key", "postgres://app:s3cr3tPW@db.firm.io:5432/x", "s3cr3tPW"),
]

NO_SECRETS = [
    "user@example.com, a@b.example.org, root@localhost, me@host.test, you@box.example",
    "@property\n@functools.wraps",
    "y = A@B.T + x@w.values - self.a@self.b",
    "icon@2x.png and icon@3x.js",
    "git@github.com:owner/name.git and ssh://deploy@host.org/path",
    "postgres://user:password@db.firm.io/x and https://{user}:{token}@host.io and http://a:b3cd5@127.0.0.1:80",
    "<142480216486.20800.16526388040877946887@nightshade.host.com>",
    "int64 from -9223372036854775808 to +9223372036854775807, int32 up to +2147483647",
    "0.4111111111111111, 1e-13812345678, 3.14159265358979323846",
    "array([13812345678.5, 1.3812345678])",
    "id_13812345678, 0x13812345678, v13812345678",
    "2021-01-01 12:30:45, 20210101T123045, 2021-123-4567",
    "1234567890 and 12345678901234567890",
    "ISBN 978-3-16-148410-0, ISSN 2049-3630, doi 10.1000/182",
    "range 100-200-3000; pages 345-350; 1-2-3",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "4000 1000 2000 3000 4000 5000",
    "4111 1111 1111 1112",
    "110105194912310021",
    "078-05-1120 was printed in a wallet",
    "(415) 555-0123 is a number of a film",
    "192.168.100.200, 255.255.255.0, version 3.11.4.2023",
    "390.533.447-06",
    "sk-learn-contrib-something-or-other-2023",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "x" * 36,
    "a_very_long_name_of_a_function_in_python AnotherVeryLongNameOfAClassInJava",
    "-" * 80,
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "eyJhbGciOiJIUzI1NiJ9 is the head of a web token, e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "共有13,812,345,678元，编号20230101000012345678",
    "d41d8cd98f00b204e9800998ecf8427e",
    "612345678, 612 345 678 and 600 000 000 are numbers",
    "01 02 03 04 05 and 10 20 30 40 50, 00 01 02 03 04",
    "call(2147483647), tel=2, phone_number=None, cell 3 of 612345678",
    "ISBN 0716703440, 0.0712345678, v07123456789",
    "<10.1177/001316446002000104>",
    "the phone rang 12 times in 2023-2024 and cost 1234567 euros",
    "90210 12345 and 98765 43210",
    "default_rng(348932549825235) and rng(4111111111111111)",
    "44051401359 and 123456782 are numbers",
    "run 12345678, sin 30000000, PIN 1234, pan 20000000",
    "PESEL 44051401358 and BSN 111222334",
    "RCCMNL83S18D969X, XAUPX4330R, AB12CD34EF56GH78",
    "DE89 3704 0044 0532 0130 01 and GB00ABCD12345678901234",
    "password = get_password_from_environment_variable()",
    "the secret: cross-validation-of-hyper-parameters, token=tokenizer.convert_ids_to_tokens",
    "API_KEY=your-api-key-goes-here-please",
    # Of the place of birth python-stdnum knows the province alone.
    "810000199001011234",
    "550e8400-e29b-41d4-a716-446655440000",
]


@pytest.mark.parametrize(("kind", "text", "value"), SECRETS)
def test_a_secret_is_found_and_masked(kind: Kind, text: str, value: str) -> None:
    assert screen([text]) == [Found(0, kind, 1)]
    assert mask(text, KINDS) == text.replace(value, f"<{kind.upper()}>")


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_only_looks_like_a_secret_is_not_found(text: str) -> None:
    assert screen([text]) == []
    assert mask(text, KINDS) == text


def test_screening_a_batch_returns_rows_kinds_and_counts() -> None:
    texts = ["clean", "a@firm.org b@firm.org 13812345678", "", "nul \0 c@firm.org", "中文 d@firm.org"]
    assert screen(texts) == [Found(1, "email", 2), Found(1, "phone", 1), Found(3, "email", 1), Found(4, "email", 1)]
    assert screen([]) == screen([""]) == []


def test_neighbouring_texts_are_not_joined_to_a_secret() -> None:
    assert screen(["138", "12345678", "name", "@firm.org", "4111 1111", "1111 1111"]) == []


def test_zero_width_characters_hide_no_secret_and_stay_elsewhere() -> None:
    text = "👨\u200d👩 jane\u200b@fi\u00adrm.org and 138\u20601234\ufeff5678 end\u200b"
    assert screen([text]) == [Found(0, "email", 1), Found(0, "phone", 1)]
    assert mask(text, KINDS) == "👨\u200d👩 <EMAIL> and <PHONE> end\u200b"


def test_only_the_given_kinds_are_masked() -> None:
    assert mask("a@firm.org 13812345678", {"email"}) == "<EMAIL> 13812345678"


def test_a_password_is_not_an_email_and_a_card_is_not_a_phone() -> None:
    assert screen(["ftp://me:hunter22@files.firm.org", "+4111 1111 1111 1111"])[0] == Found(0, "key", 1)
    assert mask("ftp://me:hunter22@files.firm.org/x", KINDS) == "ftp://me:<KEY>@files.firm.org/x"


@pytest.mark.parametrize(
    "text",
    ["@" * 200_000, "a@" * 100_000, "1 " * 100_000, "-" * 200_000, "eyJ" * 70_000, "1" * 200_000, "+1(" * 70_000],
)
def test_screening_is_fast_on_every_text(text: str) -> None:
    start = time.process_time()
    screen([text])
    assert time.process_time() - start < 2.0
