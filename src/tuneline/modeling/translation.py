"""Texts translated by a sequence-to-sequence model of a folder, greedily, so that the same texts give the same."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.errors import ModelError, first_line
from tuneline.modeling import models

_BATCH = 16
# A translation is seldom twice as long as its text, in tokens.
_RATIO, _MORE = 2, 16
_UNBOUNDED = 1 << 20


@dataclass(frozen=True)
class Translator:
    """A translation model in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Translator":
        """Load a model such as Marian's or T5: safetensors only, no code.

        Args:
            folder: as `save_pretrained` writes it.
            device: cpu or cuda.

        Raises:
            ModelError: it cannot be loaded, or is not a sequence-to-sequence model.
        """
        with warnings.catch_warnings():
            # For other punctuation than that of the training; nothing is missing without it.
            warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
            model, tokenizer = models.load_translator(folder)
        return cls(model.to(device), tokenizer, folder)  # pyright: ignore[reportArgumentType]

    def translate(self, texts: Sequence[str | None]) -> list[str | None]:
        """The translation of each text, line by line.

        Returns:
            None for a text that is None, and for a text with a line that the model does not see whole or does not end.

        Raises:
            ModelError: the model fails on a text.
        """
        lines = sorted({line for text in texts if text for line in text.split("\n") if line.strip()})
        ids = dict(zip(lines, self._ids(lines), strict=True)) if lines else {}
        # Lines of one length need little padding.
        order = sorted(lines, key=lambda line: (len(ids[line]), line))
        done: dict[str, str | None] = {}
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            done |= zip(batch, self._batch([ids[line] for line in batch]), strict=True)
        return [
            None if text is None else _joined([done.get(line, line) for line in text.split("\n")]) for text in texts
        ]

    def _ids(self, lines: Sequence[str]) -> list[list[int]]:
        try:
            return [list(ids) for ids in self.tokenizer(list(lines))["input_ids"]]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
        except Exception as error:
            # Untrusted files can make a library raise anything.
            raise ModelError(f"{self.folder}: the tokenizer fails: {first_line(error)}") from None

    def _batch(self, rows: list[list[int]]) -> list[str | None]:
        try:
            most = self._most()
            fits = [row for row in rows if len(row) <= most]
            found = iter(self._generate(fits, most) if fits else [])
        except Exception as error:
            # Untrusted configs can make a library raise anything, before and after it generates too.
            raise ModelError(f"{self.folder}: the model cannot translate: {first_line(error)}") from None
        return [next(found) if len(row) <= most else None for row in rows]

    def _most(self) -> int:
        """The most tokens that model and tokenizer see."""
        config: Any = self.model.config
        bounds = (getattr(config, "max_position_embeddings", None), self.tokenizer.model_max_length)
        return min((int(bound) for bound in bounds if bound and bound < _UNBOUNDED), default=_UNBOUNDED)

    def _generate(self, rows: list[list[int]], most: int) -> list[str | None]:
        longest = max(map(len, rows))
        # A row of padding alone would be attended to by nothing; transformers' own padding stands on the right.
        padded = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.model.device)
        limit = min(_RATIO * longest + _MORE, most)
        with torch.no_grad():
            output: Any = self.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=padded["input_ids"],
                attention_mask=padded["attention_mask"],
                max_new_tokens=limit,
                max_length=None,
                num_beams=1,
                do_sample=False,
            )
        ends = self.model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
        ending = torch.tensor(ends if isinstance(ends, list) else [ends], device=output.device)
        # The first token starts the decoder, with some models by the token that also ends.
        has_ended = torch.isin(output[:, 1:], ending).any(dim=1).tolist()
        texts = self.tokenizer.batch_decode(output, skip_special_tokens=True)
        return [text.strip() if ended else None for text, ended in zip(texts, has_ended, strict=True)]


def _joined(lines: Sequence[str | None]) -> str | None:
    return None if None in lines else "\n".join(line or "" for line in lines)
