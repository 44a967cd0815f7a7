"""How long rows are, in tokens of a base's tokenizer where there is one, and how many are longer than a model sees."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOKENIZED_CHARACTERS = 10_000_000
"""Characters of the first rows that are made tokens of."""

_COVERED = 0.99


class Lengths:
    """Lengths of rows.

    Args:
        tokenizer: the tokenizer.json of a base; None: tokens are estimated from bytes.
        max_length: tokens that a model sees of a row; None where that is not known.
        bytes_per_token: by which they are estimated.
    """

    def __init__(self, tokenizer: Path | None, max_length: int | None, bytes_per_token: float) -> None:
        self._file, self._max_length, self._bytes_per_token = tokenizer, max_length, bytes_per_token
        self._tokenizer: Any = None
        self._lengths: list[np.ndarray] = []
        self._characters = 0
        self._is_full = False

    def add(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Measure some rows.

        Args:
            rows: the texts of each.
        """
        if self._is_full:
            return
        if self._file is None:
            sizes = [sum(len(text.encode("utf-8", "surrogatepass")) for text in row) for row in rows]
            self._lengths.append(np.ceil(np.array(sizes) / self._bytes_per_token).astype(np.int64))
            return
        width = max(map(len, rows), default=0)
        texts = [text for row in rows for text in (*row, *[""] * (width - len(row)))]
        tokens = np.array([len(one) for one in self._loaded().encode_batch_fast(texts, add_special_tokens=False)])
        self._lengths.append(tokens.reshape(len(rows), width).sum(axis=1))
        self._characters += sum(map(len, texts))
        self._is_full = self._characters >= TOKENIZED_CHARACTERS

    def _loaded(self) -> Any:
        if self._tokenizer is None:
            # Takes a moment, which nobody should wait for who has no base yet.
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(self._file))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return self._tokenizer

    def each(self) -> np.ndarray:
        """Tokens of each row that was measured, int64."""
        return np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)

    def found(self) -> dict[str, Any] | None:
        """The lengths in numbers; None where there is no row."""
        lengths = self.each()
        if not len(lengths):
            return None
        median, ninety, covered = np.quantile(lengths, (0.5, 0.9, _COVERED), method="higher").tolist()
        over = None if self._max_length is None else float(np.mean(lengths > self._max_length))
        return {
            "unit": "tokens",
            "tokenizer": None if self._file is None else self._file.parent.as_posix(),
            "bytes_per_token": None if self._file is not None else self._bytes_per_token,
            "rows": len(lengths),
            "median": median,
            "quantile_90": ninety,
            "quantile_99": covered,
            "longest": int(lengths.max()),
            "max_length": self._max_length,
            "over_max_length": over,
        }
