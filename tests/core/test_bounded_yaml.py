"""YAML beyond the limits is refused quickly, with the line of the problem."""

from datetime import date

import pytest
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "line 5: has more than 50,000 values, those that aliases repeat included"),
        ("a:\n  " + "[" * 5000 + "]" * 5000, "line 2: nests deeper than 40 levels"),
        ("{a: " * 5000 + "1" + "}" * 5000, "line 1: nests deeper than 40 levels"),
        ("\n".join(f"{' ' * level}a:" for level in range(60)), "line 41: nests deeper than 40 levels"),
        ("a: &a\n  b: *a\n", "line 2: the alias *a is inside the value that it repeats"),
        ("a: " + "9" * 6000, "Exceeds the limit (4300 digits)"),
        ("a: 2024-13-01", "month must be in 1..12"),
        ("a: !!bool x", "KeyError"),
        ("a: !!omap 3", "flow_style"),
        ("a: !!int ''", "string index out of range"),
        ("a: *b", "found undefined alias 'b'"),
        ("a: [", "expected the node content"),
    ],
)
def test_a_document_beyond_the_limits_is_refused(text: str, said: str) -> None:
    with pytest.raises(YAMLError) as caught:
        bounded_yaml.load(text, "rt")
    assert said in " ".join(str(caught.value).split())


def test_aliases_within_the_limits_are_read() -> None:
    text = "a: &a {x: 1, y: [2, 3]}\nb: *a\nc: {<<: *a, x: 4}\nd: 2024-01-31\ne: 3e-4\n"
    plain = {"x": 1, "y": [2, 3]}
    assert bounded_yaml.load(text, "safe") == {
        "a": plain,
        "b": plain,
        "c": {"x": 4, "y": [2, 3]},
        "d": date(2024, 1, 31),
        "e": 3e-4,
    }
