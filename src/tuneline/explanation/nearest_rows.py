"""The training rows that are most similar to a text, as the model sees both.

Two measures follow each other, both cosines after the mean of the rows is taken away: of mean token embeddings over all
training rows, because that needs no run of the model; then of mean hidden states of the last layer over the nearest of
them. Similar rows are not proven to have caused an output: training without them would show that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.data.secrets import screening
from tuneline.encoding import token_ids
from tuneline.modeling import models

CANDIDATES = 200
"""Rows whose hidden states are compared."""
_NEIGHBOURS = 5
_ROWS_AT_ONCE = 1_024
_TOKENS_IN_A_BATCH = 2**12
_GIVEN = ("text", "prompt", "messages")
_LEARNED = ("label", "completion", "chosen")


@dataclass(frozen=True)
class Neighbour:
    """A training row that is similar to the text."""

    source: str
    """File and row in the raw set."""
    text: str
    """What the model is given; secrets are masked."""
    learned: str
    """The label, the number or the answer that was trained; empty where the text itself is."""
    cosine: float
    """Of the mean hidden states."""
    is_same: bool
    """Whether its text is the explained text."""


@dataclass(frozen=True)
class Nearest:
    """The most similar training rows, the nearest first."""

    rows: tuple[Neighbour, ...]
    compared: int
    """Training rows whose embeddings were compared."""


@dataclass(frozen=True)
class _Row:
    source: str
    text: str
    learned: str


def nearest(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    tables: Iterable[pa.Table],
    max_length: int,
) -> Nearest:
    """The training rows that are nearest to a text.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        text: without a chat template, as the rows.
        tables: the clean training rows, file by file.
        max_length: the model sees the first tokens of a row, up to this number.
    """
    weights = _embeddings(model)
    asked = _ids(tokenizer, [text], max_length)[0]
    own, middle = _mean_embeddings(weights, [asked])[0], None
    kept: list[tuple[float, int, _Row]] = []
    compared = 0
    for table in tables:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            rows = _read(table.slice(start, _ROWS_AT_ONCE))
            vectors = _mean_embeddings(weights, _ids(tokenizer, [row.text for row in rows], max_length))
            if middle is None:
                middle = vectors.mean(axis=0)
            cosines = _cosines(own - middle, vectors - middle)
            kept += [
                (float(value), compared + at, row) for at, (value, row) in enumerate(zip(cosines, rows, strict=True))
            ]
            kept = sorted(kept, key=lambda one: (-one[0], one[1]))[:CANDIDATES]
            compared += len(rows)
    candidates = [row for _, _, row in kept]
    if not candidates:
        return Nearest((), 0)
    states = _mean_states(model, [asked, *_ids(tokenizer, [row.text for row in candidates], max_length)])
    middle = states[1:].mean(axis=0) if len(candidates) > 1 else np.zeros(states.shape[1])
    cosines = _cosines(states[0] - middle, states[1:] - middle)
    order = sorted(range(len(candidates)), key=lambda at: (-cosines[at], at))[:_NEIGHBOURS]
    found = [
        Neighbour(
            candidates[at].source,
            screening.mask(candidates[at].text, screening.KINDS),
            screening.mask(candidates[at].learned, screening.KINDS),
            float(cosines[at]),
            candidates[at].text.strip() == text.strip(),
        )
        for at in order
    ]
    return Nearest(tuple(found), compared)


def _read(table: pa.Table) -> list[_Row]:
    given = next(name for name in _GIVEN if name in table.column_names)
    learned = next((name for name in _LEARNED if name in table.column_names), None)
    texts = [_given_text(text or "") if given != "text" else text or "" for text in table[given].to_pylist()]
    answers = [str(value or "") for value in table[learned].to_pylist()] if learned else [""] * len(texts)
    if given == "messages":
        answers = [_answer_text(text or "") for text in table[given].to_pylist()]
    sources = [str(source or "") for source in table["source"].to_pylist()]
    return [_Row(*row) for row in zip(sources, texts, answers, strict=True)]


def _messages(text: str) -> list[dict] | None:
    try:
        found = orjson.loads(text) if text.startswith("[") else None
    except orjson.JSONDecodeError:
        return None
    is_conversation = isinstance(found, list) and all(isinstance(one, dict) and "role" in one for one in found)
    return found if found and is_conversation else None


def _given_text(text: str) -> str:
    """A prompt as text; of a conversation what is said before the first answer."""
    messages = _messages(text)
    if messages is None:
        return text
    turn = next((at for at, one in enumerate(messages) if one["role"] == "assistant"), len(messages))
    return "\n".join(str(one.get("content") or "") for one in messages[:turn])


def _answer_text(text: str) -> str:
    said = [one for one in _messages(text) or () if one["role"] == "assistant"]
    return str(said[0].get("content") or "") if said else ""


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[list[int]]:
    return [ids[:max_length] or [models.pad_token_id(tokenizer)] for ids in token_ids.text_ids(tokenizer, texts)]


def _embeddings(model: PreTrainedModel) -> torch.Tensor:
    weights = model.get_input_embeddings().weight
    assert isinstance(weights, torch.Tensor)
    return weights.detach().float()


def _mean_embeddings(weights: torch.Tensor, rows: Sequence[list[int]]) -> np.ndarray:
    starts = np.cumsum([0, *(len(ids) for ids in rows[:-1])])
    flat = torch.tensor([token for ids in rows for token in ids], device=weights.device)
    offsets = torch.from_numpy(starts).to(weights.device)
    return functional.embedding_bag(flat, weights, offsets, mode="mean").double().cpu().numpy()


@torch.inference_mode()
def _mean_states(model: PreTrainedModel, rows: Sequence[list[int]]) -> np.ndarray:
    found = np.zeros((len(rows), 0))
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    start = 0
    while start < len(order):
        size = 1
        while start + size < len(order) and (size + 1) * len(rows[order[start + size]]) <= _TOKENS_IN_A_BATCH:
            size += 1
        batch = order[start : start + size]
        width = len(rows[batch[-1]])
        ids = torch.tensor([rows[at] + [0] * (width - len(rows[at])) for at in batch], device=model.device)
        mask = torch.tensor([[1] * len(rows[at]) + [0] * (width - len(rows[at])) for at in batch], device=model.device)
        # The head is not needed.
        body = getattr(model, model.base_model_prefix, model)
        states = body(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1].double()
        means = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        if not found.shape[1]:
            found = np.zeros((len(rows), means.shape[1]))
        found[batch] = means.cpu().numpy()
        start += size
    return found


def _cosines(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    sizes = np.linalg.norm(others, axis=1) * np.linalg.norm(one)
    return np.divide(others @ one, sizes, out=np.zeros(len(others)), where=sizes > 0)
