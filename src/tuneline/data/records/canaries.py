"""Canaries: random rows that are planted in the training split, to measure whether a model can recall training rows.

All canaries have the same prompt and a random sequence of letters as the answer (Carlini et al., 2019, The Secret
Sharer, https://arxiv.org/abs/1802.08232). Letters, and not digits, so that no canary looks like a telephone number.
"""

import hashlib
import random
import string
from collections.abc import Collection

import orjson

from tuneline.data.records.record_form import RecordForm

SOURCE = "canary"
"""What stands for the file in the source of a canary."""
LETTERS = 12
"""Of a sequence: 26 ** 12 sequences are 56 bits, far more than a rank can show."""

_PROMPT = "The random sequence of the archive is"
_FORMATS = {
    "text": lambda sequence: (f"{_PROMPT} {sequence}",),
    "prompt-completion": lambda sequence: (_PROMPT, f" {sequence}"),
    "messages": lambda sequence: (
        orjson.dumps([{"role": "user", "content": f"{_PROMPT}?"}, {"role": "assistant", "content": sequence}]).decode(),
        "",
    ),
}


def draw(count: int, seed: str, without: Collection[str] = ()) -> list[str]:
    """Different random sequences of letters.

    Args:
        count: the number of sequences.
        seed: of the draw; more sequences of the same seed begin with the same ones.
        without: sequences that are not drawn.
    """
    source, drawn = random.Random(seed), dict.fromkeys(without)
    known = len(drawn)
    while len(drawn) < known + count:
        drawn.setdefault(" ".join(source.choices(string.ascii_lowercase, k=LETTERS)))
    return list(drawn)[known:]


def row(form: RecordForm, sequence: str, number: int) -> dict[str, str]:
    """The row of a clean split with this sequence.

    Args:
        form: of the records: text, prompt-completion or messages.
        sequence: from `draw`.
        number: stands for the line in the source.
    """
    row_id = hashlib.sha256(f"{SOURCE} {sequence}".encode()).hexdigest()[:16]
    fields = zip(form.fields, _FORMATS[form.record_type](sequence), strict=True)
    return {"id": row_id, "source": f"{SOURCE}:{number}", "cluster": row_id, **dict(fields)}
